package budget

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// powerDisk is a disk that keeps for good only what it was told to: what a file has once
// the file is flushed, and which names a folder has once the folder is. Of the rest a
// power failure leaves any part.
type powerDisk struct {
	osDisk
	dir string

	mu      sync.Mutex
	dead    bool                  // the process has ended: nothing more happens
	fail    func(op string) error // nil: nothing fails
	names   map[string]*powerFile // as the running system sees them
	durable map[string]*powerFile
	pending []func(map[string]*powerFile) // changes of names since the folder was flushed
}

// powerFile is a file, whatever its name.
type powerFile struct {
	d       *powerDisk
	data    []byte
	durable []byte
}

// powerHandle is a powerFile that is open, and its twin in the real folder, which the
// store reads when it is opened.
type powerHandle struct {
	*powerFile
	twin diskFile
}

func newPowerDisk(dir string) *powerDisk {
	return &powerDisk{dir: dir, names: make(map[string]*powerFile), durable: make(map[string]*powerFile)}
}

// step says whether an operation happens. The caller holds the lock.
func (d *powerDisk) step(op string) error {
	switch {
	case d.dead:
		return errCrash
	case d.fail != nil:
		return d.fail(op)
	}
	return nil
}

// change changes names now, and for good once the folder is flushed.
func (d *powerDisk) change(f func(map[string]*powerFile)) {
	f(d.names)
	d.pending = append(d.pending, f)
}

func (d *powerDisk) create(path string) (diskFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("create"); err != nil {
		return nil, err
	}
	twin, err := d.osDisk.create(path)
	if err != nil {
		return nil, err
	}
	f := d.names[path]
	if f == nil {
		f = &powerFile{d: d}
		d.change(func(names map[string]*powerFile) { names[path] = f })
	}
	f.data = nil
	return &powerHandle{f, twin}, nil
}

func (d *powerDisk) openEnd(path string) (diskFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("open"); err != nil {
		return nil, err
	}
	twin, err := d.osDisk.openEnd(path)
	if err != nil {
		return nil, err
	}
	return &powerHandle{d.names[path], twin}, nil
}

func (d *powerDisk) truncate(path string, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("truncate"); err != nil {
		return err
	}
	f := d.names[path]
	f.data = f.data[:size]
	f.durable = slices.Clone(f.data)
	return d.osDisk.truncate(path, size)
}

func (d *powerDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename"); err != nil {
		return err
	}
	f := d.names[from]
	d.change(func(names map[string]*powerFile) {
		delete(names, from)
		names[to] = f
	})
	return d.osDisk.rename(from, to)
}

func (d *powerDisk) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove"); err != nil {
		return err
	}
	d.change(func(names map[string]*powerFile) { delete(names, path) })
	return d.osDisk.remove(path)
}

func (d *powerDisk) syncDir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if path != d.dir {
		return nil
	}
	if err := d.step("sync folder"); err != nil {
		return err
	}
	for _, f := range d.pending {
		f(d.durable)
	}
	d.pending = nil
	return nil
}

func (f *powerHandle) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step("write")
	if errors.Is(err, errCrash) {
		return 0, err
	}
	if err != nil {
		b = b[:len(b)/2]
	}
	f.data = append(f.data, b...)
	n, werr := f.twin.Write(b)
	return n, errors.Join(err, werr)
}

func (f *powerHandle) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("sync"); err != nil {
		return err
	}
	f.durable = slices.Clone(f.data)
	return nil
}

func (f *powerHandle) Close() error { return f.twin.Close() }

// flushed reports whether the disk has all of the journal, or never will.
func (d *powerDisk) flushed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, f := range d.names {
		if _, journal := journalFirst(path); journal && !bytes.Equal(f.data, f.durable) {
			return d.dead
		}
	}
	return true
}

// powerFails lets only that remain which a disk has to keep, and by chance some of the
// rest.
func (d *powerDisk) powerFails(t *rapid.T) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.pending {
		if rapid.Bool().Draw(t, "a name came to the disk") {
			f(d.durable)
		}
	}
	d.pending, d.names = nil, make(map[string]*powerFile)
	for path := range d.durable {
		d.names[path] = nil
	}
	old, err := os.ReadDir(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range old {
		if n.Name() != lockName {
			if err := os.Remove(filepath.Join(d.dir, n.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(d.names)) {
		f := d.durable[path]
		if bytes.HasPrefix(f.data, f.durable) {
			// The file was written on at its end. Some of that came to the disk, and its
			// length too, or even before.
			came := rapid.IntRange(len(f.durable), len(f.data)).Draw(t, "bytes that came to the disk")
			size := came
			if rapid.Bool().Draw(t, "with zeros") {
				came = max(came/sector*sector, len(f.durable))
				size = len(f.data)
			}
			f.durable = append(slices.Clone(f.data[:came]), make([]byte, size-came)...)
		}
		f.data = slices.Clone(f.durable)
		d.names[path] = f
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerDisk: whatever fails, and whenever the process is killed or the power fails,
// the folder can be opened and has what was acknowledged: with FsyncWait at once, with
// FsyncGroup as soon as all is flushed, which does not take long.
func TestPowerDisk(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		d := newPowerDisk(dir)
		mode := rapid.SampledFrom([]Fsync{FsyncWait, FsyncGroup}).Draw(t, "mode")
		// What is put only rises. So of each counter this has to be there, and no more
		// than that.
		must, may := make(map[Key]int64), make(map[Key]int64)
		var used int64
		for range rapid.IntRange(2, 6).Draw(t, "lives") {
			s, err := OpenFile(dir, withDisk(d), WithFsync(mode))
			if err != nil {
				t.Fatalf("the folder cannot be opened: %v", err)
			}
			for key, least := range must {
				if got := s.entries[key].Used; got < least || got > may[key] {
					t.Fatalf("%q has %d, and must have %d to %d", key.Limit, got, least, may[key])
				}
			}
			s.rotateAt, s.full = 120, 120
			acknowledged := make(map[Key]int64)
			for range rapid.IntRange(0, 12).Draw(t, "puts") {
				if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
					at := rapid.IntRange(1, 12).Draw(t, "in so many steps")
					dies := rapid.Bool().Draw(t, "the process dies")
					d.mu.Lock()
					d.fail = func(string) error {
						if at--; at != 0 {
							return nil
						}
						if d.dead = dies; dies {
							return errCrash
						}
						return syscall.ENOSPC
					}
					d.mu.Unlock()
				}
				used++
				e := entry(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "limit"), "", used)
				may[e.Key] = used
				if s.Put(t.Context(), []Entry{e}) == nil {
					acknowledged[e.Key] = used
				}
				if rapid.Bool().Draw(t, "wait for a snapshot") {
					waitSnapshot(s)
				}
			}
			kill := func() {
				d.mu.Lock()
				d.dead = true
				d.mu.Unlock()
				die(s)
				d.mu.Lock()
				d.dead, d.fail = false, nil
				d.mu.Unlock()
			}
			all := func() { maps.Copy(must, acknowledged) }
			switch rapid.SampledFrom([]string{"killed", "power", "flushed, power"}).Draw(t, "ends by") {
			case "killed":
				kill()
				all()
				continue // what was written is still there
			case "flushed, power":
				for end := time.Now().Add(time.Minute); !d.flushed() && s.Err() == nil; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						t.Fatal("what was written is not flushed")
					}
				}
				d.mu.Lock()
				dead := d.dead
				d.mu.Unlock()
				if s.Err() == nil && !dead {
					all()
				}
			}
			kill()
			if mode == FsyncWait {
				all()
			} else {
				for key := range must {
					must[key] = 0 // this life may have read what was never flushed
				}
			}
			d.powerFails(t)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}

// TestNewFolders: the names of folders that were made are flushed, the uppermost included.
func TestNewFolders(t *testing.T) {
	base, d := t.TempDir(), &badDisk{}
	flushed := make(map[string]bool)
	d.fail = func(op, path string) error {
		flushed[path] = flushed[path] || op == "sync folder"
		return nil
	}
	dir := filepath.Join(base, "a", "b")
	if err := openStore(t, dir+"/", withDisk(d)).Close(); err != nil {
		t.Fatal(err)
	}
	if !flushed[base] || !flushed[filepath.Join(base, "a")] || flushed[filepath.Dir(base)] {
		t.Errorf("flushed %v", flushed)
	}
	clear(flushed)
	openStore(t, dir, withDisk(d))
	if flushed[base] {
		t.Error("flushed again")
	}
}
