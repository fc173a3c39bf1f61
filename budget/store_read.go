package budget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// readAttempts is how often ReadFile begins again because a running server has put a
// new snapshot in place of what was being read.
const readAttempts = 5

// ReadFile returns the entries of the store in dir, sorted by limit, unit, subject
// and window. It needs no lock and changes nothing: beside a running server it returns
// what was written so far. The error wraps [fs.ErrNotExist] if dir has no ledger,
// else what [OpenFile] states.
func ReadFile(dir string) ([]Entry, error) {
	c, err := readFolder(dir)
	for range readAttempts {
		if err == nil || !notExist(err) && !errors.Is(err, ErrDamaged) {
			break
		}
		c, err = readFolder(dir)
	}
	if err != nil {
		return nil, err
	}
	return c.sorted(), nil
}

func compareEntries(a, b Entry) int {
	return cmp.Or(
		cmp.Compare(a.Key.Limit, b.Key.Limit),
		cmp.Compare(a.Key.Unit, b.Key.Unit),
		cmp.Compare(a.Key.Subject, b.Key.Subject),
		cmp.Compare(a.Key.Start, b.Key.Start),
		cmp.Compare(a.Key.End, b.Key.End),
	)
}

// OpenReadOnly returns the store in dir, also one that a crash left, for reading. It
// changes nothing in the folder. It fails as [OpenFile] does; with [ErrLocked] if a
// server runs on it, and with [fs.ErrNotExist] if there is no ledger. While the store
// is open no server can start on the folder, but others can read. Options have no effect
// but WithReport.
func OpenReadOnly(dir string, options ...FileOption) (Store, error) {
	s := &readStore{}
	var err error
	if s.dirLock, err = lockDir(dir, true); err == nil {
		s.lock, err = lockReadOnly(filepath.Join(dir, lockName))
	}
	switch {
	case errors.Is(err, ErrLocked):
		return nil, errors.Join(fmt.Errorf("%w: another process has %s open", err, dir), s.Close())
	case err != nil && !notExist(err): // a copy may lack the lock file; readFolder tells of a folder that is absent
		return nil, errors.Join(fmt.Errorf("budget: locking the store's folder: %w", err), s.Close())
	}
	c, err := readFolder(dir)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.entries = c.entries
	if torn := c.tornError(); torn != nil {
		newFileStore(dir, options).report(torn)
	}
	return s, nil
}

// readStore is a store that is only read.
type readStore struct {
	entries       map[Key]Entry
	dirLock, lock *os.File // nil if there were none
}

func (s *readStore) Get(_ context.Context, key Key) (Entry, bool, error) {
	e, ok := s.entries[key]
	return e, ok, nil
}

func (s *readStore) Range(_ context.Context, f func(Entry) bool) error {
	for _, e := range s.entries {
		if !f(e) {
			break
		}
	}
	return nil
}

func (s *readStore) Put(context.Context, []Entry) error { return ErrReadOnly }

func (s *readStore) Err() error { return nil }

func (s *readStore) Close() error { return closeAll(s.lock, s.dirLock) }
