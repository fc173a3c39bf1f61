package budget

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
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
	s := openStore(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
	if _, err := ReadFile(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of an empty folder: %v", err)
	}
	want := []Entry{
		entry("", "", 0),
		entry("a", "team=x", 1<<63-1),
		entry("a\x00\n", "\xff\xfe", 7),
		{Key: Key{Limit: "b", Unit: Tokens, Start: -5}, End: -1, Used: 3}, // long ended
		{Key: Key{Limit: "b", Unit: Requests, Start: 5}, Used: 4},
		entry(strings.Repeat("n", 70_000), strings.Repeat("s", 70_000), 9),
	}
	s.retention = 1 << 62 // the ended one, too
	put(t, s, want...)
	if got := content(t, dir); !reflect.DeepEqual(got, want) {
		t.Fatalf("content\n     %+v\nwant %+v", got, want)
	}
	if info, err := os.Stat(filepath.Join(dir, snapshotName)); err != nil || info.Mode().Perm() != 0o600 {
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
// write after it.
func TestFileStoreRetention(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := openStore(t, dir, WithClock(c.now), WithRetention(24*time.Hour))
	ended := entry("a", "ended", 1)
	ended.End = noon.Unix()
	forever := entry("a", "forever", 2)
	put(t, s, ended, forever)
	c.add(24 * time.Hour)
	put(t, s, entry("b", "", 1))
	if got := content(t, dir); len(got) != 3 {
		t.Fatalf("after 24 hours: %+v", got)
	}
	c.add(time.Second)
	put(t, s, entry("b", "", 2))
	if got, want := content(t, dir), []Entry{forever, entry("b", "", 2)}; !slices.Equal(got, want) {
		t.Fatalf("after the retention: %+v, want %+v", got, want)
	}
}

func TestFileStoreFull(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	s.most = 2
	put(t, s, entry("a", "1", 1), entry("a", "2", 1))
	err := s.Put(t.Context(), []Entry{entry("a", "1", 5), entry("a", "3", 5)})
	if !errors.Is(err, ErrFull) {
		t.Fatalf("Put of a third counter: %v", err)
	}
	put(t, s, entry("a", "1", 2))
	if got, want := content(t, dir), []Entry{entry("a", "1", 2), entry("a", "2", 1)}; !slices.Equal(got, want) {
		t.Errorf("content %+v, want %+v", got, want)
	}
}

// badDisk fails, or crashes, at one step of a write.
type badDisk struct {
	osDisk
	step   string
	err    error
	writes int
}

func (d *badDisk) fail(step string) error {
	if d.step == step {
		return d.err
	}
	return nil
}

func (d *badDisk) create(path string) (diskFile, error) {
	d.writes++
	if err := d.fail("create"); err != nil {
		return nil, err
	}
	f, err := d.osDisk.create(path)
	return &badFile{f, d}, err
}

func (d *badDisk) rename(from, to string) error {
	return errors.Join(d.fail("before rename"), d.doRename(from, to))
}

func (d *badDisk) doRename(from, to string) error {
	if d.step == "before rename" {
		return nil
	}
	return errors.Join(d.osDisk.rename(from, to), d.fail("after rename"))
}

func (d *badDisk) remove(path string) error {
	if d.step != "" && d.err == errCrash {
		return errCrash // who is dead tidies nothing up
	}
	return d.osDisk.remove(path)
}

func (d *badDisk) syncDir(path string) error {
	return errors.Join(d.fail("sync folder"), d.osDisk.syncDir(path))
}

type badFile struct {
	diskFile
	d *badDisk
}

func (f *badFile) Write(b []byte) (int, error) {
	if err := f.d.fail("write"); err != nil {
		n, _ := f.diskFile.Write(b[:len(b)/2])
		return n, err
	}
	return f.diskFile.Write(b)
}

func (f *badFile) Sync() error { return errors.Join(f.d.fail("sync"), f.diskFile.Sync()) }

func (f *badFile) Close() error { return errors.Join(f.diskFile.Close(), f.d.fail("close")) }

var errCrash = errors.New("crash")

// TestFileStoreWriteErrors: a write that fails at any step, or a crash there, leaves
// the old content or the new one, whole; and the next write works.
func TestFileStoreWriteErrors(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "close", "before rename", "after rename", "sync folder"} {
		for _, failure := range []error{syscall.ENOSPC, syscall.EROFS, errCrash} {
			t.Run(fmt.Sprintf("%s %v", step, failure), func(t *testing.T) {
				dir := t.TempDir()
				old, next := []Entry{entry("a", "", 1)}, []Entry{entry("a", "", 2), entry("b", "", 3)}
				s := openStore(t, dir)
				put(t, s, old...)
				d := &badDisk{step: step, err: failure}
				s.disk = d
				if err := s.Put(t.Context(), next); !errors.Is(err, failure) {
					t.Fatalf("Put = %v", err)
				}
				if got, _, _ := s.Get(t.Context(), old[0].Key); got != old[0] {
					t.Errorf("the store shows %+v, which is not safe", got)
				}
				want := old
				if step == "after rename" || step == "sync folder" {
					want = next
				}
				if got := content(t, dir); !slices.Equal(got, want) {
					t.Fatalf("the file has %+v, want %+v", got, want)
				}
				if failure == errCrash {
					if err := s.Close(); err != nil { // as the end of a process does
						t.Fatal(err)
					}
					s = openStore(t, dir)
				} else if _, err := os.Stat(filepath.Join(dir, snapshotName+tempSuffix)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the temporary file is still there: %v", err)
				}
				d.step = ""
				put(t, s, next...)
				if got := content(t, dir); !slices.Equal(got, next) {
					t.Errorf("after the next write the file has %+v, want %+v", got, next)
				}
			})
		}
	}
}

// TestFileStoreUnchanged: what is stored already is not written again.
func TestFileStoreUnchanged(t *testing.T) {
	s := openStore(t, t.TempDir())
	d := &badDisk{}
	s.disk = d
	for range 3 {
		put(t, s)
		put(t, s, entry("a", "", 1), entry("b", "", 2))
		put(t, s, entry("b", "", 2))
	}
	if d.writes != 1 {
		t.Errorf("%d writes, want 1", d.writes)
	}
}

// TestLedgerOverFullDisk: what could not be written stays in memory, counts, and is
// written later.
func TestLedgerOverFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	d := &badDisk{step: "write", err: syscall.ENOSPC}
	s.disk = d
	l := open(t, Options{Now: newClock().now, Store: s, Limits: []Limit{{Name: "x", Amount: 100, Period: Total}}})
	reserve(t, l, ask(50, 48)).SettleHold()
	for range 2 {
		if err := l.Sync(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Sync = %v", err)
		}
		refused(t, l, ask(1, 1))
	}
	d.step = ""
	syncNow(t, l)
	if got := content(t, dir); len(got) != 1 || got[0].Used != 98 {
		t.Errorf("content %+v", got)
	}
}

func TestOpenFileErrors(t *testing.T) {
	good := appendSum(appendEntry(appendHeader(nil, 1), entry("limit", "team=x", 5)))
	flip := func(i int) []byte {
		b := slices.Clone(good)
		b[i] ^= 1
		return b
	}
	sealed := func(count int, body ...byte) []byte { return appendSum(append(appendHeader(nil, count), body...)) }
	one := appendEntry(nil, entry("l", "s", 1))
	huge := binary.AppendUvarint(nil, 1<<62)
	type file struct {
		name    string
		content []byte
		want    error
	}
	files := []file{
		{"empty", []byte{}, ErrDamaged},
		{"foreign", []byte("SQLite format 3\x00 and more of it"), ErrForeign},
		{"foreign and short", []byte("x"), ErrForeign},
		{"foreign case", flip(0), ErrForeign},
		{"version", flip(len(snapshotMagic)), ErrVersion},
		{"count", flip(headerSize - 8), ErrDamaged},
		{"entry", flip(headerSize + 2), ErrDamaged},
		{"sum", flip(len(good) - 1), ErrDamaged},
		{"more", append(slices.Clone(good), 0), ErrDamaged},
		{"too many entries", sealed(1<<40, one...), ErrDamaged},
		{"too few entries", sealed(2, one...), ErrDamaged},
		{"entries left over", sealed(0, one...), ErrDamaged},
		{"twice the same", sealed(2, append(one, one...)...), ErrDamaged},
		{"huge limit", sealed(1, append(huge, 0, 0, 0, 0, 0)...), ErrDamaged},
		{"huge subject", sealed(1, append(append([]byte{0, 0}, huge...), 0, 0, 0)...), ErrDamaged},
		{"unit", sealed(1, 0, 9, 0, 0, 0, 0), ErrDamaged},
		{"used", sealed(1, append([]byte{0, 0, 0, 0, 0}, binary.AppendUvarint(nil, 1<<63)...)...), ErrDamaged},
	}
	for i := range good {
		files = append(files, file{fmt.Sprintf("cut at %d", i), good[:i], ErrDamaged})
	}
	for _, f := range files {
		t.Run(f.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, snapshotName)
			if err := os.WriteFile(path, f.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := OpenFile(dir)
			if !errors.Is(err, f.want) {
				t.Fatalf("OpenFile = %v, want %v", err, f.want)
			}
			for _, word := range []string{path, "move the file away"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
			if _, err := ReadFile(dir); !errors.Is(err, f.want) {
				t.Errorf("ReadFile = %v", err)
			}
			if got, err := os.ReadFile(path); err != nil || !slices.Equal(got, f.content) {
				t.Errorf("the file was changed: %q, %v", got, err)
			}
			// The lock is free again: put back a good file and go on.
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, dir)
			if e, ok, err := s.Get(t.Context(), entry("limit", "team=x", 0).Key); !ok || e.Used != 5 || err != nil {
				t.Errorf("%+v, %t, %v", e, ok, err)
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFile(file); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("OpenFile of a file: %v", err)
		}
		if _, err := ReadFile(filepath.Join(file, "x")); err == nil {
			t.Error("ReadFile below a file succeeded")
		}
	})
	t.Run("read-only folder", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may write everywhere")
		}
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFile(dir); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) {
			t.Errorf("OpenFile = %v", err)
		}
	})
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
	if err := s.Close(); err != nil {
		t.Fatal(err)
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

// FuzzReadFile: whatever the file has, ReadFile returns an error or entries that can
// be written and read again.
func FuzzReadFile(f *testing.F) {
	good := appendEntry(appendEntry(appendHeader(nil, 2), entry("limit", "team=x", 5)), entry("", "", 1<<62))
	f.Add(appendSum(good), false)
	f.Add(good, true) // true: with a right checksum, so that entries are reached
	f.Add(good[:len(good)-3], true)
	f.Add(appendHeader(nil, 1<<60), true)
	f.Add([]byte("SQLite format 3\x00"), false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, seal bool) {
		if seal {
			data = appendSum(slices.Clone(data))
		}
		path := filepath.Join(dir, snapshotName)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		entries, err := ReadFile(dir)
		if err != nil {
			if !errors.Is(err, ErrForeign) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrDamaged) {
				t.Fatalf("ReadFile = %v", err)
			}
			return
		}
		b := appendHeader(nil, len(entries))
		for _, e := range entries {
			b = appendEntry(b, e)
		}
		again, err := parseSnapshot(appendSum(b))
		if err != nil || len(again) != len(entries) {
			t.Fatalf("written again: %v", err)
		}
		for _, e := range entries {
			if again[e.Key] != e {
				t.Fatalf("%+v came back as %+v", e, again[e.Key])
			}
		}
	})
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
	if err := s.Put(t.Context(), entry); err == nil {
		t.Error("Put without a folder succeeded")
	}
	other, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := s.Put(t.Context(), entry); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("Put into another's folder: %v", err)
	}
	if _, ok, _ := other.Get(t.Context(), entry[0].Key); ok {
		t.Error("it wrote there")
	}
}
