package budget

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// contents is what a folder turned out to have.
type contents struct {
	entries  map[Key]Entry
	version  uint32   // of the snapshot; 0: there is none
	next     uint64   // sequence of the record that comes next
	journals []string // paths of the journal files that are needed, in order
	obsolete []string // names of files that are not needed any more
	last     scan     // of the last journal file
	size     int64    // of the last journal file, a torn record included
}

// errNoLedger says that a folder has no file of a ledger.
var errNoLedger = errors.New("budget: no ledger")

// readFolder reads the snapshot and the journal in dir and changes nothing. Its
// error wraps [fs.ErrNotExist] if there is neither. Errors say what to do.
func readFolder(dir string) (*contents, error) {
	c := &contents{}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("budget: reading the store's folder: %w", err)
	}
	var firsts []uint64 // in order, since the names are
	for _, n := range names {
		if first, ok := journalFirst(n.Name()); ok {
			firsts = append(firsts, first)
		} else if filepath.Ext(n.Name()) == tempSuffix && ours(n.Name()) {
			c.obsolete = append(c.obsolete, n.Name())
		}
	}
	var from uint64 // the first record that is needed
	c.entries, c.version, from, err = readSnapshot(dir)
	switch {
	case err == nil:
	case notExist(err) && len(firsts) == 0:
		return nil, fmt.Errorf("%w in %s: %w", errNoLedger, dir, err)
	case notExist(err) && firsts[0] > 1:
		return nil, advise(fmt.Errorf("%w: it is missing, and the journal begins later", ErrDamaged), filepath.Join(dir, snapshotName))
	case notExist(err):
		c.entries, from = make(map[Key]Entry), 1
	default:
		return nil, advise(err, filepath.Join(dir, snapshotName))
	}
	// A file is needed unless the next one begins before what is missing.
	for len(firsts) > 1 && firsts[1] <= from {
		c.obsolete = append(c.obsolete, journalName(firsts[0]))
		firsts = firsts[1:]
	}
	c.next = from
	switch {
	case c.version == 1 && len(firsts) == 0: // of a version without a journal
		return c, nil
	case len(firsts) == 0 || firsts[0] > from:
		return nil, advise(fmt.Errorf("%w: the journal from record %d on is missing", ErrDamaged, from), filepath.Join(dir, journalName(from)))
	}
	for _, first := range firsts {
		path := filepath.Join(dir, journalName(first))
		if n := len(c.journals); n > 0 && (first != c.last.next || c.last.torn) {
			if first <= c.last.next && givenUp(path, first) {
				c.obsolete = append(c.obsolete, journalName(first))
				continue
			}
			return nil, advise(fmt.Errorf("%w: its records up to %d are missing", ErrDamaged, first), c.journals[n-1])
		}
		c.journals = append(c.journals, path)
		if c.last, c.size, err = readJournal(path, first, from, func(e rawEntry) { e.addTo(c.entries) }); err != nil {
			return nil, advise(err, path)
		}
	}
	if c.next = c.last.next; c.next < from {
		return nil, advise(fmt.Errorf("%w: its records from %d to %d are missing", ErrDamaged, c.next, from), c.journals[len(c.journals)-1])
	}
	return c, nil
}

// givenUp reports whether a journal file has no records. If the one before has the record
// that it should begin with, or a part of it, then it was begun, and removed again
// because of some error, and a power failure has brought it back. See
// [FileStore.begin].
func givenUp(path string, first uint64) bool {
	s, _, err := readJournal(path, first, first, func(rawEntry) {})
	return err == nil && s.next == first && !s.torn
}

func readJournal(path string, first, from uint64, f func(rawEntry)) (s scan, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return s, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return s, 0, err
	}
	if !info.Mode().IsRegular() {
		return s, 0, fmt.Errorf("%w: %s", ErrForeign, notRegular(info))
	}
	s, err = scanJournal(file, info.Size(), first, from, f)
	return s, info.Size(), err
}

// tornError tells of the record that is left out; nil if there is none.
func (c *contents) tornError() error {
	if !c.last.torn {
		return nil
	}
	return fmt.Errorf("%w (%s): its %d bytes from byte %d on are left out", ErrTorn, c.journals[len(c.journals)-1], c.size-c.last.end, c.last.end)
}

// advise adds to an error of reading what to do about it.
func advise(err error, path string) error {
	const again = "put back a copy of the whole folder, or move all its ledger.* files away to begin with nothing used"
	switch {
	case errors.Is(err, ErrVersion):
		return fmt.Errorf("%w (%s): use the program version that wrote it, or move the folder's ledger.* files away to begin with nothing used", err, path)
	case errors.Is(err, ErrForeign), errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w (%s): %s", err, path, again)
	}
	return fmt.Errorf("budget: reading the ledger: %w", err)
}

// ours reports whether a temporary file is one of the store's.
func ours(name string) bool {
	final := name[:len(name)-len(tempSuffix)]
	_, journal := journalFirst(final)
	return journal || final == snapshotName
}

// sorted returns the entries by limit, unit, subject and window.
func (c *contents) sorted() []Entry {
	entries := make([]Entry, 0, len(c.entries))
	for _, e := range c.entries {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, compareEntries)
	return entries
}
