package budget

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The file that is locked is a file like others to who tidies up. Without it the folder
// still belongs to the store that has it open.
func TestLockFileRemoved(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	put(t, s, entry("a", "", 1))
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if other, err := OpenFile(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("another store opens it: %v", errors.Join(err, closeStore(other)))
	}
	if _, err := OpenReadOnly(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("another one reads it: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a store opens what is being read: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir) // all locks were given up
}

func closeStore(s *FileStore) error {
	if s == nil {
		return nil
	}
	return s.Close()
}
