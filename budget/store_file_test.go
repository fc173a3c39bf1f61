package budget

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func openStore(t testing.TB, dir string, options ...FileOption) *FileStore {
	t.Helper()
	s, err := OpenFile(dir, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, s Store, entries ...Entry) {
	t.Helper()
	if err := s.Put(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

// content is what the store has, sorted as ReadFile does.
func content(t testing.TB, dir string) []Entry {
	t.Helper()
	entries, err := ReadFile(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return entries
}

func entry(limit, subject string, used int64) Entry {
	return Entry{Key: Key{Limit: limit, Unit: OutputTokens, Subject: subject, Start: 1_700_000_000}, Used: used}
}

func TestFileStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for _, empty := range []string{t.TempDir(), dir} {
		if _, err := ReadFile(empty); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile of an empty folder: %v", err)
		}
		if _, err := OpenReadOnly(empty); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("OpenReadOnly of an empty folder: %v", err)
		}
	}
	s := openStore(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
	if got := content(t, dir); len(got) != 0 {
		t.Errorf("ReadFile of an empty store: %+v", got)
	}
	want := []Entry{
		entry("", "", 0),
		entry("a", "team=x", 1<<63-1),
		entry("a\x00\n", "\xff\xfe", 7),
		{Key: Key{Limit: "b", Unit: Tokens, Start: -5, End: -1}, Used: 3}, // long ended
		{Key: Key{Limit: "b", Unit: Requests, Start: 5}, Used: 4},
		entry(strings.Repeat("n", 70_000), strings.Repeat("s", 70_000), 9),
	}
	put(t, s, want...)
	if got := content(t, dir); !reflect.DeepEqual(got, want) {
		t.Fatalf("content\n     %+v\nwant %+v", got, want)
	}
	if info, err := os.Stat(filepath.Join(dir, journalName(1))); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	for _, e := range want {
		if got, ok, err := s.Get(t.Context(), e.Key); got != e || !ok || err != nil {
			t.Errorf("Get = %+v, %t, %v; want %+v", got, ok, err, e)
		}
	}
	if _, ok, err := s.Get(t.Context(), Key{Limit: "other"}); ok || err != nil {
		t.Errorf("Get of an absent key: %t, %v", ok, err)
	}
	n := 0
	if err := s.Range(t.Context(), func(e Entry) bool {
		n++
		_, ok, err := s.Get(t.Context(), e.Key)
		return ok && err == nil && n < 3
	}); err != nil || n != 3 {
		t.Errorf("Range called f %d times and returned %v", n, err)
	}
	for _, bad := range []Entry{entry("x", "", -1), {Key: Key{Limit: "x", Unit: 9}}} {
		if err := s.Put(t.Context(), []Entry{entry("x", "good", 1), bad}); err == nil {
			t.Errorf("Put took %+v", bad)
		}
	}
	if got := content(t, dir); len(got) != len(want) {
		t.Errorf("%d entries after bad puts", len(got))
	}
}

func TestFileStoreClosed(t *testing.T) {
	s := openStore(t, t.TempDir())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	put(t, s, entry("a", "", 1))
	if _, _, err := s.Get(canceled, Key{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Range(canceled, func(Entry) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("Range: %v", err)
	}
	s.writing <- struct{}{} // somebody writes
	if err := s.Put(canceled, []Entry{entry("a", "", 2)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	<-s.writing
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, _, err := s.Get(t.Context(), Key{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Put(t.Context(), []Entry{entry("a", "", 2)}); !errors.Is(err, ErrClosed) {
		t.Errorf("Put: %v", err)
	}
	if err := s.Range(t.Context(), func(Entry) bool { return true }); !errors.Is(err, ErrClosed) {
		t.Errorf("Range: %v", err)
	}
}

// TestFileStoreRetention: ended windows are kept for a time and dropped with the next
// snapshot after it.
func TestFileStoreRetention(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := openStore(t, dir, WithClock(c.now), WithRetention(24*time.Hour))
	s.full, s.rotateAt = 1, 1 // a snapshot with every Put
	ended := entry("a", "ended", 1)
	ended.Key.End = noon.Unix()
	forever := entry("a", "forever", 2)
	put(t, s, ended, forever)
	c.add(24 * time.Hour)
	put(t, s, entry("b", "", 1))
	waitSnapshot(s)
	if got := content(t, dir); len(got) != 3 {
		t.Fatalf("after 24 hours: %+v", got)
	}
	c.add(time.Second)
	put(t, s, entry("b", "", 2))
	waitSnapshot(s)
	want := []Entry{forever, entry("b", "", 2)}
	if got := content(t, dir); !slices.Equal(got, want) {
		t.Fatalf("after the retention: %+v, want %+v", got, want)
	}
	if _, ok, err := s.Get(t.Context(), ended.Key); ok || err != nil {
		t.Errorf("Get of what was dropped: %t, %v", ok, err)
	}
}

// waitSnapshot waits until the snapshot under way is there.
func waitSnapshot(s *FileStore) {
	for s.snapshotting.Load() {
		time.Sleep(time.Millisecond)
	}
}

// TestFileStoreFull: a full store goes on with the counters that it has, and those
// that the ledger has in memory.
func TestFileStoreFull(t *testing.T) {
	s := openStore(t, t.TempDir())
	s.most = 2
	put(t, s, entry("a", "1", 1), entry("a", "2", 1))
	if _, _, err := s.Get(t.Context(), entry("a", "3", 0).Key); !errors.Is(err, ErrFull) {
		t.Fatalf("Get of a third counter: %v", err)
	}
	if e, ok, err := s.Get(t.Context(), entry("a", "1", 0).Key); !ok || err != nil || e.Used != 1 {
		t.Errorf("Get of the first counter: %+v, %t, %v", e, ok, err)
	}
	put(t, s, entry("a", "1", 2), entry("a", "4", 1))
	l := open(t, Options{Now: newClock().now, Store: s, Limits: []Limit{{Name: "a", Unit: OutputTokens, Amount: 100, Period: Total}}})
	if _, _, err := l.Reserve(t.Context(), ask(1, 1)); !errors.Is(err, ErrFull) {
		t.Errorf("Reserve: %v", err)
	}
	if err := l.Err(); err != nil {
		t.Errorf("a full store has failed: %v", err)
	}
}

func TestFileStoreLock(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	put(t, s, entry("a", "", 1))
	if _, err := OpenFile(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second store: %v", err)
	}
	if got := content(t, dir); len(got) != 1 {
		t.Errorf("ReadFile beside an open store: %+v", got)
	}
	if _, err := OpenReadOnly(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a reader: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a store beside a reader: %v", err)
	}
	if second, err := OpenReadOnly(dir); err != nil {
		t.Errorf("a second reader: %v", err)
	} else if err := second.Close(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.Put(t.Context(), nil), r.Close()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Put: %v", err)
	}
	openStore(t, dir)
}

// childDir tells the test binary to be the second process of TestTwoProcesses.
const childDir = "BUDGET_TEST_CHILD_DIR"

// TestTwoProcesses: a folder that another process has open is refused; after that
// process was killed it can be opened, and has what was put.
func TestTwoProcesses(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		s := openStore(t, dir)
		for i := int64(1); ; i++ {
			put(t, s, entry("child", "", i))
			if _, err := fmt.Println("stored", i); err != nil {
				return
			}
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestTwoProcesses$")
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var stored int64
	read := func() {
		if !lines.Scan() {
			t.Fatalf("the child ended: %v", lines.Err())
		}
		if _, err := fmt.Sscanf(lines.Text(), "stored %d", &stored); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
	}
	read()
	if _, err := OpenFile(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("OpenFile beside the child: %v", err)
	}
	for stored < 20 {
		read()
		if got := content(t, dir); len(got) != 1 || got[0].Used < stored {
			t.Fatalf("ReadFile beside the child: %+v, stored %d", got, stored)
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what it reported before it died
		if _, err := fmt.Sscanf(lines.Text(), "stored %d", &stored); err != nil {
			break // killed in the middle of a line
		}
	}
	_ = child.Wait() // it was killed, which is an error
	s := openStore(t, dir)
	e, ok, err := s.Get(t.Context(), entry("child", "", 0).Key)
	if err != nil || !ok || e.Used < stored || e.Used > stored+1 {
		t.Errorf("%+v, %t, %v; want what was reported, %d, or one more", e, ok, err, stored)
	}
}

// TestRangeBesideOthers: whoever looks at all entries copies few at a time, and meets each
// one that stays once, whatever comes, changes and goes meanwhile.
func TestRangeBesideOthers(t *testing.T) {
	const stay = 50_000
	s := openStore(t, t.TempDir(), WithFsync(FsyncOS))
	es := make([]Entry, stay)
	for i := range es {
		es[i] = entry("stays", fmt.Sprint(i), 1)
	}
	put(t, s, es...)
	seen := make(map[string]int, stay)
	for k := range s.entries {
		seen[k.Subject] = 0
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Range(t.Context(), func(e Entry) bool { seen[e.Key.Subject]++; return true }); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes are allocated to look at %d entries", n, stay)
	}
	n := 0
	if err := s.Range(t.Context(), func(e Entry) bool {
		if n++; n%1000 == 0 {
			put(t, s, entry("stays", e.Key.Subject, 2), entry("comes", fmt.Sprint(n), 1))
			s.mu.Lock()
			if gone, ok := s.entries[entry("comes", fmt.Sprint(n-1000), 0).Key]; ok {
				s.drop(gone)
			}
			s.mu.Unlock()
		}
		if e.Key.Limit == "stays" {
			seen[e.Key.Subject]++
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for subject, n := range seen {
		if n != 2 {
			t.Fatalf("%s was met %d times in two rounds", subject, n)
		}
	}
}

// A folder that was removed and made anew is not the one which is locked.
func TestFileStoreFolderReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	entry := []Entry{{Key: Key{Limit: "a"}, Used: 1}}
	if err := s.Put(t.Context(), entry); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	entry[0].Used = 2
	other, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.checked = time.Time{} // a second later
	if err := s.Put(t.Context(), entry); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("Put into another's folder: %v", err)
	}
	if s.Err() == nil {
		t.Error("the store goes on")
	}
	if _, ok, _ := other.Get(t.Context(), entry[0].Key); ok {
		t.Error("it wrote there")
	}
}
