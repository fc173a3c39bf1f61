package budget

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// badDisk fails on demand, or dies at some step.
type badDisk struct {
	osDisk

	mu     sync.Mutex
	fail   func(op, path string) error // nil: nothing fails
	steps  int
	dieAt  int // the step from which on all fail with errCrash; 0: none
	synced map[string]int64
}

var errCrash = errors.New("crash")

func withDisk(d disk) FileOption { return func(s *FileStore) { s.disk = d } }

func (d *badDisk) step(op, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps++
	if d.dieAt > 0 && d.steps >= d.dieAt {
		return errCrash
	}
	if d.fail != nil {
		return d.fail(op, path)
	}
	return nil
}

// failing lets the named operation on files whose name contains part fail.
func (d *badDisk) failing(op, part string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = func(o, path string) error {
		if o == op && strings.Contains(filepath.Base(path), part) {
			return err
		}
		return nil
	}
}

func (d *badDisk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail, d.dieAt = nil, 0
}

func (d *badDisk) create(path string) (diskFile, error) {
	if err := d.step("create", path); err != nil {
		return nil, err
	}
	f, err := d.osDisk.create(path)
	return &badFile{f, d, path}, err
}

func (d *badDisk) openEnd(path string) (diskFile, error) {
	if err := d.step("open", path); err != nil {
		return nil, err
	}
	f, err := d.osDisk.openEnd(path)
	return &badFile{f, d, path}, err
}

func (d *badDisk) truncate(path string, size int64) error {
	return errors.Join(d.step("truncate", path), d.osDisk.truncate(path, size))
}

func (d *badDisk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	d.mu.Lock()
	if size, ok := d.synced[from]; ok {
		d.synced[to] = size
		delete(d.synced, from)
	}
	d.mu.Unlock()
	return d.osDisk.rename(from, to)
}

func (d *badDisk) remove(path string) error {
	if err := d.step("remove", path); err != nil {
		return err
	}
	return d.osDisk.remove(path)
}

func (d *badDisk) syncDir(path string) error {
	return errors.Join(d.step("sync folder", path), d.osDisk.syncDir(path))
}

type badFile struct {
	diskFile
	d    *badDisk
	path string
}

func (f *badFile) Write(b []byte) (int, error) {
	if err := f.d.step("write", f.path); err != nil {
		n, _ := f.diskFile.Write(b[:len(b)/2])
		return n, err
	}
	return f.diskFile.Write(b)
}

func (f *badFile) Sync() error {
	if err := f.d.step("sync", f.path); err != nil {
		return err
	}
	if f.d.synced != nil {
		info, err := os.Stat(f.path)
		if err != nil {
			return err
		}
		f.d.mu.Lock()
		f.d.synced[f.path] = info.Size()
		f.d.mu.Unlock()
	}
	return nil
}

func (f *badFile) Close() error {
	return errors.Join(f.diskFile.Close(), f.d.step("close", f.path))
}

// die gives up the folder as the end of a process does.
func die(s *FileStore) {
	s.failure.CompareAndSwap(nil, &errCrash)
	_ = s.Close()
}

// TestCrashAtEveryStep: a process that dies before any of its operations on files, or
// in the middle of a write, leaves what it had acknowledged.
func TestCrashAtEveryStep(t *testing.T) {
	for _, torn := range []bool{false, true} {
		for dieAt := 1; ; dieAt++ {
			dir := t.TempDir()
			if torn { // so that recovery has more to do
				b, ends := journalBytes(1, []Entry{entry("old", "", 1)}, []Entry{entry("old", "", 2)})
				write(t, filepath.Join(dir, journalName(1)), b[:ends[1]-1])
				write(t, filepath.Join(dir, snapshotName+tempSuffix), nil)
			}
			d := &badDisk{dieAt: dieAt}
			acknowledged := make(map[Key]Entry)
			if torn {
				acknowledged[entry("old", "", 1).Key] = entry("old", "", 1)
			}
			s, err := OpenFile(dir, withDisk(d), WithFsync(FsyncWait))
			if err == nil {
				s.full, s.rotateAt = 200, 100
				for i := range 20 {
					es := []Entry{entry("a", "", int64(i)), entry("b", fmt.Sprint(i%7), int64(i))}
					if err = s.Put(t.Context(), es); err == nil {
						acknowledged[es[0].Key], acknowledged[es[1].Key] = es[0], es[1]
					}
					waitSnapshot(s)
				}
				die(s)
			}
			if err != nil && !errors.Is(err, errCrash) {
				t.Fatalf("dead from step %d on: %v", dieAt, err)
			}
			s = openStore(t, dir)
			for k, want := range acknowledged {
				if got := s.entries[k]; got.Used < want.Used {
					t.Fatalf("dead from step %d on: %+v was acknowledged, %+v came back", dieAt, want, got)
				}
			}
			put(t, s, entry("a", "", 100))
			if d.steps < dieAt {
				t.Logf("%d steps", dieAt-1)
				if dieAt < 50 {
					t.Error("the store did not do enough")
				}
				break
			}
		}
	}
}

// TestPowerFailure: with FsyncWait, what was acknowledged was flushed; with FsyncGroup,
// what was acknowledged some time before. What was not flushed is missing after the
// power failed, or zeros are in its place.
func TestPowerFailure(t *testing.T) {
	for _, mode := range []Fsync{FsyncWait, FsyncGroup} {
		t.Run(string(mode), func(t *testing.T) {
			base := t.TempDir()
			n := 0
			rapid.Check(t, func(t *rapid.T) {
				n++
				dir := filepath.Join(base, fmt.Sprint(n))
				d := &badDisk{synced: make(map[string]int64)}
				s, err := OpenFile(dir, withDisk(d), WithFsync(mode))
				if err != nil {
					t.Fatal(err)
				}
				s.full, s.rotateAt = 400, 400
				if rapid.Bool().Draw(t, "no snapshots") { // so that all depends on the chain of journals
					d.failing("create", snapshotName, errBroken)
				}
				durable := make(map[Key]Entry)
				puts := rapid.IntRange(0, 30).Draw(t, "puts")
				flushed := rapid.IntRange(0, 30).Draw(t, "flushed")
				for i := range puts {
					e := entry("a", fmt.Sprint(i%5), int64(i))
					if err := s.Put(t.Context(), []Entry{e}); err != nil {
						t.Fatal(err)
					}
					if i == flushed && mode == FsyncGroup {
						awaitFlush(t, s, d)
					}
					if i <= flushed || mode == FsyncWait {
						durable[e.Key] = e
					}
				}
				if mode == FsyncGroup && puts <= flushed {
					clear(durable)
				}
				waitSnapshot(s)
				d.mu.Lock()
				d.dieAt = 1 // dead from the next step on
				synced := maps.Clone(d.synced)
				d.mu.Unlock()
				die(s)
				zeros := rapid.Bool().Draw(t, "zeros")
				names, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range names {
					path := filepath.Join(dir, name.Name())
					if name.Name() == lockName {
						continue
					}
					b, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					size := synced[path]
					if zeros {
						clear(b[size:])
					} else {
						b = b[:size]
					}
					if err := os.WriteFile(path, b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				got, err := ReadFile(dir)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range got {
					if want, ok := durable[e.Key]; ok && e.Used < want.Used {
						t.Fatalf("%+v was flushed, %+v came back", want, e)
					}
					delete(durable, e.Key)
				}
				if len(durable) > 0 {
					t.Fatalf("%+v were flushed and are missing", durable)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// awaitFlush waits until all that was put is flushed.
func awaitFlush(t *rapid.T, s *FileStore, d *badDisk) {
	path := s.journals[len(s.journals)-1]
	for range 60_000 {
		d.mu.Lock()
		size := d.synced[path]
		d.mu.Unlock()
		if size >= s.size {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the journal was not flushed in a minute")
}

// TestFileStoreFails: an error of writing or flushing is final. Nothing is taken for
// written then, nothing is reserved, and a restart has what was acknowledged.
func TestFileStoreFails(t *testing.T) {
	for _, mode := range []Fsync{FsyncWait, FsyncGroup, FsyncOS} {
		for _, op := range []string{"write", "sync"} {
			if op == "sync" && mode == FsyncOS {
				continue // the store does not flush
			}
			for _, failure := range []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS} {
				t.Run(fmt.Sprintf("%s %s %v", mode, op, failure), func(t *testing.T) {
					dir, d := t.TempDir(), &badDisk{}
					var mu sync.Mutex
					var reports []error
					report := func(err error) {
						mu.Lock()
						defer mu.Unlock()
						reports = append(reports, err)
					}
					s, err := OpenFile(dir, withDisk(d), WithFsync(mode), WithReport(report))
					if err != nil {
						t.Fatal(err)
					}
					l, err := New(t.Context(), Options{Now: newClock().now, Store: s, OnStoreError: report, Limits: []Limit{{Name: "x", Amount: 1000, Period: Total}}})
					if err != nil {
						t.Fatal(err)
					}
					reserve(t, l, ask(50, 50)).SettleHold()
					open := reserve(t, l, ask(10, 10))
					syncNow(t, l)
					time.Sleep(2 * flushDelay)
					d.failing(op, "journal", failure)
					lost, _, err := l.Reserve(t.Context(), ask(7, 7))
					if mode == FsyncGroup && op == "sync" {
						// It was written; that the flush fails is found out a little later.
						for range 60_000 {
							if l.Err() != nil {
								break
							}
							time.Sleep(time.Millisecond)
						}
					} else if lost != nil || !errors.Is(err, failure) {
						t.Errorf("Reserve = %v", err)
					}
					d.heal()
					if !errors.Is(l.Err(), failure) || !strings.Contains(l.Err().Error(), dir) {
						t.Fatalf("Err = %v", l.Err())
					}
					if _, _, err := l.Reserve(t.Context(), ask(1, 1)); !errors.Is(err, failure) {
						t.Errorf("Reserve later: %v", err)
					}
					open.Settle(Amount{Input: 500})
					if err := open.Wait(t.Context()); !errors.Is(err, failure) {
						t.Errorf("Wait = %v", err)
					}
					if err := l.Sync(t.Context()); !errors.Is(err, failure) {
						t.Errorf("Sync = %v", err)
					}
					if err := l.Close(t.Context()); !errors.Is(err, failure) {
						t.Errorf("Close = %v", err)
					}
					mu.Lock()
					if len(reports) == 0 || !errors.Is(reports[0], failure) {
						t.Errorf("reported %v", reports)
					}
					mu.Unlock()
					got := content(t, dir)
					if len(got) != 1 || got[0].Used < 120 || got[0].Used > 134 {
						t.Errorf("a restart has %+v, want 120 or, with the last hold, 134", got)
					}
				})
			}
		}
	}
}

// TestFlushedAfterFailure: a write that fails does not keep what was acknowledged before it
// from the disk, neither while the server stays up nor when it ends.
func TestFlushedAfterFailure(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed %t", closed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &badDisk{synced: make(map[string]int64)}
				dir := t.TempDir()
				s := openStore(t, dir, withDisk(d))
				put(t, s, entry("a", "", 1))
				size := s.size
				d.failing("write", "journal", syscall.ENOSPC)
				if err := s.Put(t.Context(), []Entry{entry("a", "", 2)}); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("Put = %v", err)
				}
				if closed {
					if err := s.Close(); err != nil {
						t.Errorf("Close = %v", err)
					}
				} else {
					time.Sleep(2 * flushDelay)
				}
				d.mu.Lock()
				defer d.mu.Unlock()
				if got := d.synced[filepath.Join(dir, journalName(1))]; got < size {
					t.Errorf("%d bytes are flushed, and %d were acknowledged", got, size)
				}
			})
		})
	}
}

// TestRotationErrors: as long as the journal can be written, nothing is lost and no
// request is refused when a snapshot or the next journal file cannot be made. It is
// told, and made up for.
func TestRotationErrors(t *testing.T) {
	for _, step := range []struct{ op, file string }{
		{"create", snapshotName}, {"write", snapshotName}, {"sync", snapshotName}, {"close", snapshotName}, {"rename", snapshotName},
		{"create", journalName(3)}, {"write", journalName(3) + tempSuffix}, {"rename", journalName(3)}, {"open", journalName(3)},
		{"sync folder", ""}, {"remove", journalName(1)},
	} {
		t.Run(step.op+" "+step.file, func(t *testing.T) {
			dir, d := t.TempDir(), &badDisk{}
			var reported []error
			s := openStore(t, dir, withDisk(d), WithReport(func(err error) { reported = append(reported, err) }))
			put(t, s, entry("a", "", 1))
			d.failing(step.op, step.file, syscall.ENOSPC)
			s.full = 1
			put(t, s, entry("a", "", 2), entry("b", "", 1))
			waitSnapshot(s)
			put(t, s, entry("a", "", 3))
			if len(reported) != 1 || !errors.Is(reported[0], syscall.ENOSPC) || !strings.Contains(reported[0].Error(), dir) || s.Err() != nil {
				t.Errorf("reported %v, Err %v", reported, s.Err())
			}
			want := []Entry{entry("a", "", 3), entry("b", "", 1)}
			if got := content(t, dir); !slices.Equal(got, want) {
				t.Errorf("content %+v, want %+v", got, want)
			}
			d.heal()
			for i := range 2 {
				s.full = 1
				put(t, s, entry("a", "", int64(4+i)))
				waitSnapshot(s)
			}
			if got := content(t, dir); len(got) != 2 || got[0].Used != 5 {
				t.Errorf("content in the end %+v", got)
			}
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 3 { // lock, snapshot, journal
				t.Errorf("%d files are left: %v", len(files), files)
			}
		})
	}
}

// TestFolderErrors: a folder in which something is missing or strange is refused with
// words that help, and left as it is.
func TestFolderErrors(t *testing.T) {
	j1, _ := journalBytes(1, []Entry{entry("a", "", 1)}, []Entry{entry("a", "", 2)})
	j3, _ := journalBytes(3, []Entry{entry("a", "", 3)})
	j4, _ := journalBytes(4, []Entry{entry("a", "", 4)})
	snapshot3 := snapshotBytes(t, 3, []Entry{entry("a", "", 2)})
	newer := slices.Clone(snapshot3)
	newer[len(snapshotMagic)] = 3
	v1 := func(count uint64, entries ...Entry) []byte {
		b := newHeader(1, count)
		for _, e := range entries {
			b = appendEntry(b, e)
		}
		return appendSum(b)
	}
	for _, c := range []struct {
		name  string
		files map[string][]byte
		want  error // nil: it can be opened, and
		used  int64 // is what a has
	}{
		{"a journal", map[string][]byte{journalName(1): j1}, nil, 2},
		{"two journals", map[string][]byte{journalName(1): j1, journalName(3): j3}, nil, 3},
		{"a snapshot and the journal after it", map[string][]byte{snapshotName: snapshot3, journalName(3): j3}, nil, 3},
		{"a snapshot and a journal that begins before", map[string][]byte{snapshotName: snapshot3, journalName(1): j1, journalName(3): j3}, nil, 3},
		{"a snapshot and a journal that ends with it", map[string][]byte{snapshotName: snapshot3, journalName(1): j1}, nil, 2},
		{"an old file that is not needed is not read", map[string][]byte{snapshotName: snapshot3, journalName(1): []byte("junk"), journalName(3): j3}, nil, 3},
		{"version 1", map[string][]byte{snapshotName: v1(1, entry("a", "", 7))}, nil, 7},
		{"version 1, empty", map[string][]byte{snapshotName: v1(0)}, nil, 0},
		{"version 1 whose migration was interrupted", map[string][]byte{snapshotName: v1(1, entry("a", "", 7)), journalName(1): j1[:journalHeader]}, nil, 7},
		{"other files", map[string][]byte{journalName(1): j1, "README": []byte("x"), "ledger.journal.bak": []byte("x")}, nil, 2},
		{"a journal that was given up", map[string][]byte{journalName(1): j1, journalName(2): newJournalHeader(2)}, nil, 2},
		{"a journal that was given up, in the middle", map[string][]byte{journalName(1): j1, journalName(2): newJournalHeader(2), journalName(3): j3}, nil, 3},
		{"a journal that was given up for one that is torn", map[string][]byte{journalName(1): j1[:len(j1)-1], journalName(2): newJournalHeader(2)}, nil, 1},
		{"a torn journal before one without records", map[string][]byte{journalName(1): j1[:len(j1)-1], journalName(3): newJournalHeader(3)}, ErrDamaged, 0},
		{"version 1 with a wrong count", map[string][]byte{snapshotName: v1(2, entry("a", "", 7))}, ErrDamaged, 0},
		{"a gap between journals", map[string][]byte{journalName(1): j1, journalName(4): j4}, ErrDamaged, 0},
		{"a journal too many", map[string][]byte{journalName(1): j1, journalName(2): j3}, ErrDamaged, 0},
		{"a torn journal before another", map[string][]byte{journalName(1): j1[:len(j1)-1], journalName(2): j3}, ErrDamaged, 0},
		{"no snapshot", map[string][]byte{journalName(3): j3}, ErrDamaged, 0},
		{"no journal", map[string][]byte{snapshotName: snapshot3}, ErrDamaged, 0},
		{"the journal after the snapshot is missing", map[string][]byte{snapshotName: snapshot3, journalName(4): j4}, ErrDamaged, 0},
		{"the journal ends before the snapshot", map[string][]byte{snapshotName: snapshotBytes(t, 9, nil), journalName(1): j1}, ErrDamaged, 0},
		{"another's journal", map[string][]byte{snapshotName: snapshot3, journalName(3): j4}, ErrDamaged, 0},
		{"a newer snapshot", map[string][]byte{snapshotName: newer, journalName(3): j3}, ErrVersion, 0},
		{"a foreign snapshot", map[string][]byte{snapshotName: []byte("SQLite format 3\x00 and more of it")}, ErrForeign, 0},
		{"a foreign journal", map[string][]byte{journalName(1): []byte("SQLite format 3\x00 and more of it")}, ErrForeign, 0},
		{"an empty snapshot", map[string][]byte{snapshotName: {}, journalName(1): j1}, ErrDamaged, 0},
		{"an empty journal", map[string][]byte{journalName(1): {}}, ErrDamaged, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, b := range c.files {
				write(t, filepath.Join(dir, name), b)
			}
			used := func(entries []Entry) (used int64) {
				for _, e := range entries {
					used += e.Used
				}
				return used
			}
			read, err := ReadFile(dir)
			if !errors.Is(err, c.want) || used(read) != c.used {
				t.Errorf("ReadFile = %+v, %v", read, err)
			}
			if r, err := OpenReadOnly(dir); !errors.Is(err, c.want) {
				t.Errorf("OpenReadOnly = %v", err)
			} else if err == nil {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
			unchanged(t, dir, c.files)
			s, err := OpenFile(dir)
			if c.want != nil {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "move") {
					t.Errorf("OpenFile = %v, want %v", err, c.want)
				}
				unchanged(t, dir, c.files)
				for name := range c.files { // the lock is free again
					if err := os.Remove(filepath.Join(dir, name)); err != nil {
						t.Fatal(err)
					}
				}
				openStore(t, dir)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, entry("z", "", 1000))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got := content(t, dir); used(got) != c.used+1000 {
				t.Errorf("after one more Put: %+v", got)
			}
			if b, err := os.ReadFile(filepath.Join(dir, snapshotName)); err == nil && b[len(snapshotMagic)] != snapshotVersion {
				t.Errorf("the snapshot has still version %d, which a program without a journal would take", b[len(snapshotMagic)])
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, nil)
		if _, err := OpenFile(file); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("OpenFile of a file: %v", err)
		}
		if _, err := ReadFile(filepath.Join(file, "x")); err == nil {
			t.Error("ReadFile below a file succeeded")
		}
		if err := os.Mkdir(filepath.Join(filepath.Dir(file), snapshotName), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFile(filepath.Dir(file)); !errors.Is(err, ErrForeign) {
			t.Errorf("OpenFile with a folder for a snapshot: %v", err)
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
	t.Run("full disk at the start", func(t *testing.T) {
		for _, op := range []string{"create", "write", "sync", "rename", "sync folder", "open"} {
			d := &badDisk{}
			d.failing(op, "", syscall.ENOSPC)
			dir := t.TempDir()
			if _, err := OpenFile(dir, withDisk(d)); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: OpenFile = %v", op, err)
			}
			openStore(t, dir) // there is room again
		}
	})
}

// unchanged checks that files have what was written, and that there are no others but
// the lock.
func unchanged(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if _, ok := files[n.Name()]; !ok && n.Name() != lockName {
			t.Errorf("there is a new file %s", n.Name())
		}
	}
}

// TestReadAfterCrash: reading what a crash left changes nothing, and says what it left out.
func TestReadAfterCrash(t *testing.T) {
	b, ends := journalBytes(1, []Entry{entry("a", "", 1)}, []Entry{entry("a", "", 2)})
	files := map[string][]byte{journalName(1): b[:ends[1]-1], lockName: {}}
	dir := t.TempDir()
	for name, b := range files {
		write(t, filepath.Join(dir, name), b)
	}
	var reported error
	s, err := OpenReadOnly(dir, WithReport(func(err error) { reported = err }))
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(reported, ErrTorn) {
		t.Errorf("reported %v", reported)
	}
	l := open(t, Options{Now: newClock().now, Store: s, Limits: []Limit{{Name: "a", Unit: OutputTokens, Amount: 5, Period: Total}}})
	if e, ok, err := s.Get(t.Context(), entry("a", "", 0).Key); !ok || err != nil || e.Used != 1 {
		t.Errorf("%+v, %t, %v", e, ok, err)
	}
	if _, _, err := l.Reserve(t.Context(), ask(1, 1)); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Reserve = %v", err)
	}
	if err := l.Close(t.Context()); err != nil && !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	unchanged(t, dir, files)
}

// TestHungStore: who waits for a store that hangs is let go in the end. From then on
// others are refused at once, and the ledger says why, until the write has ended.
func TestHungStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		l := open(t, Options{Store: hungStore{newMemStore(), hang, nil}, Limits: []Limit{{Name: "x", Amount: 1000, Period: Total}}})
		began := time.Now()
		if r, _, err := l.Reserve(t.Context(), ask(1, 1)); r != nil || err == nil || !strings.Contains(err.Error(), "disk") {
			t.Errorf("Reserve = %v, %v", r, err)
		}
		if took := time.Since(began); took != commitTimeout {
			t.Errorf("gave up after %s", took)
		}
		synctest.Wait()
		if l.Err() == nil || !strings.Contains(l.Err().Error(), "disk") {
			t.Errorf("Err = %v", l.Err())
		}
		began = time.Now()
		if r, _, err := l.Reserve(t.Context(), ask(1, 1)); r != nil || err == nil || time.Since(began) != 0 {
			t.Errorf("Reserve = %v, %v after %s", r, err, time.Since(began))
		}
		close(hang)
		synctest.Wait()
		if l.Err() != nil {
			t.Errorf("Err = %v when it writes again", l.Err())
		}
		syncNow(t, l)
		if b := balances(t, l); len(b) != 1 || b[0].Spent+b[0].Held != 0 {
			t.Errorf("%+v after it was given up", b)
		}
	})
}

type hungStore struct {
	*memStore
	hang, closing chan struct{} // what Put and Close wait for
}

func (s hungStore) Put(ctx context.Context, e []Entry) error {
	<-s.hang
	return s.memStore.Put(ctx, e)
}

func (s hungStore) Close() error {
	if s.closing != nil {
		<-s.closing
	}
	return s.memStore.Close()
}

// TestCloseHungStore: a ledger is closed in the end, also over a store that hangs while it
// writes, or while it is closed. Else the process would not end.
func TestCloseHungStore(t *testing.T) {
	for name, most := range map[string]time.Duration{"writing": putTimeout + endTimeout, "closing": putTimeout} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang, free := make(chan struct{}), make(chan struct{})
				close(free)
				s := hungStore{newMemStore(), hang, free}
				if name == "closing" {
					s.hang, s.closing = free, hang
				}
				l, err := New(t.Context(), Options{Store: s, Limits: []Limit{{Name: "x", Amount: 1000, Period: Total}}})
				if err != nil {
					t.Fatal(err)
				}
				if r, _, err := l.Reserve(t.Context(), ask(1, 1)); (r != nil) != (name == "closing") {
					t.Errorf("Reserve = %v, %v", r, err)
				}
				began := time.Now()
				if err := l.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "disk") {
					t.Errorf("Close = %v", err)
				}
				if took := time.Since(began); took != most {
					t.Errorf("closed after %s", took)
				}
				if err := l.Close(t.Context()); err != nil {
					t.Errorf("closed again: %v", err)
				}
				close(hang) // for the goroutines
			})
		})
	}
}
