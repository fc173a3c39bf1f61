package budget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Names in the folder of a file store.
const (
	snapshotName = "ledger.snapshot"
	tempSuffix   = ".tmp"
	lockName     = "ledger.lock"
)

// Bounds of a file store.
const (
	maxSnapshot = 1 << 30 // bytes of the file
	maxEntries  = 4 << 20
)

// DefaultRetention is how long a file store keeps windows that have ended: all days
// of the longest month and some to look at them.
const DefaultRetention = 35 * 24 * time.Hour

// FileStore keeps balances in memory and in one file, which is written whole, and
// replaced in one step, whenever one of them has changed. That suits some ten
// thousand counters: the work of a write grows with all counters, not with the
// changed ones.
//
// A folder belongs to one open store at a time. The lock goes with the process, so
// nothing has to be tidied up after a crash. It does not reach over a network file
// system that has no flock.
type FileStore struct {
	dir       string
	disk      disk
	lock      *os.File
	retention time.Duration
	now       func() time.Time
	most      int // entries

	writing chan struct{} // holds one token while somebody writes

	mu      sync.RWMutex // not held during I/O; to change what follows, one must have the token, too
	entries map[Key]Entry
	closed  bool
}

// FileOption changes how a [FileStore] works.
type FileOption func(*FileStore)

// WithRetention sets how long windows that have ended are kept for reports, instead
// of [DefaultRetention]. They are dropped when the file is next written.
func WithRetention(d time.Duration) FileOption {
	return func(s *FileStore) { s.retention = max(0, d) }
}

// WithClock sets the clock that retention goes by, instead of [time.Now].
func WithClock(now func() time.Time) FileOption {
	return func(s *FileStore) { s.now = now }
}

// OpenFile opens the store in dir, and makes the folder (mode 0700) if it is absent.
// A folder without a ledger is an empty store. The error wraps [ErrLocked],
// [ErrForeign], [ErrVersion], [ErrDamaged] or that of the operating system, and
// nothing was changed then but for the lock file.
func OpenFile(dir string, options ...FileOption) (*FileStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("budget: making the store's folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("%w: another process has %s open; stop it, or choose another folder for this one", err, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("budget: locking the store's folder: %w", err)
	}
	entries, err := readSnapshot(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, lock.Close())
	}
	if entries == nil {
		entries = make(map[Key]Entry)
	}
	s := &FileStore{
		dir:       dir,
		disk:      osDisk{},
		lock:      lock,
		retention: DefaultRetention,
		now:       time.Now,
		most:      maxEntries,
		writing:   make(chan struct{}, 1),
		entries:   entries,
	}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// ReadFile returns the entries of the store in dir, sorted by limit, unit, subject
// and window. It needs no lock: beside a running server it returns what was last
// written. The error wraps [fs.ErrNotExist] if dir has no ledger, else what
// [OpenFile] states.
func ReadFile(dir string) ([]Entry, error) {
	entries, err := readSnapshot(dir)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(entries), func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(a.Key.Limit, b.Key.Limit),
			cmp.Compare(a.Key.Unit, b.Key.Unit),
			cmp.Compare(a.Key.Subject, b.Key.Subject),
			cmp.Compare(a.Key.Start, b.Key.Start),
		)
	}), nil
}

// readSnapshot reads and checks the file. Its errors say what to do.
func readSnapshot(dir string) (map[Key]Entry, error) {
	path := filepath.Join(dir, snapshotName)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("budget: reading the ledger: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSnapshot+1))
	if err != nil {
		return nil, fmt.Errorf("budget: reading the ledger: %w", err)
	}
	var entries map[Key]Entry
	if len(data) > maxSnapshot {
		err = fmt.Errorf("%w: it has more than %d bytes", ErrForeign, maxSnapshot)
	} else {
		entries, err = parseSnapshot(data)
	}
	switch {
	case errors.Is(err, ErrVersion):
		return nil, fmt.Errorf("%w (%s): use the program version that wrote it, or move the file away to begin with nothing used", err, path)
	case err != nil:
		return nil, fmt.Errorf("%w (%s): put back a copy, or move the file away to begin with nothing used", err, path)
	}
	return entries, nil
}

// Get implements [Store]. It does no I/O.
func (s *FileStore) Get(ctx context.Context, key Key) (Entry, bool, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return Entry{}, false, ErrClosed
	}
	e, ok := s.entries[key]
	return e, ok, nil
}

// Range implements [Store]. It shows the entries as they were when it was called; f
// may use the store.
func (s *FileStore) Range(ctx context.Context, f func(Entry) bool) error {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return ErrClosed
	}
	entries := slices.Collect(maps.Values(s.entries))
	s.mu.RUnlock()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !f(e) {
			return nil
		}
	}
	return nil
}

// Put implements [Store]. If no entry differs from what is stored it does not write.
// It returns [ErrFull] if there would be more entries than the store can hold, and
// an error for an entry which a reader would refuse. ctx is obeyed while it waits
// for another Put; a write that has begun is finished.
func (s *FileStore) Put(ctx context.Context, entries []Entry) error {
	for _, e := range entries {
		if e.Key.Unit > Requests || e.Used < 0 {
			return fmt.Errorf("budget: cannot store %s of limit %q with usage %d", e.Key.Unit, e.Key.Limit, e.Used)
		}
	}
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.closed {
		return ErrClosed
	}
	changed := make(map[Key]Entry, len(entries))
	for _, e := range entries {
		changed[e.Key] = e
	}
	maps.DeleteFunc(changed, func(k Key, e Entry) bool {
		old, ok := s.entries[k]
		return ok && old == e
	})
	if len(changed) == 0 {
		return nil
	}
	// Readers go on while next is made and written: it becomes visible when it is
	// safe on disk.
	next := maps.Clone(s.entries)
	maps.Copy(next, changed)
	oldest := s.now().Add(-s.retention).Unix()
	maps.DeleteFunc(next, func(_ Key, e Entry) bool { return e.End != 0 && e.End < oldest })
	data, err := s.encode(next)
	if err != nil {
		return err
	}
	if err := s.checkLock(); err != nil {
		return fmt.Errorf("budget: writing the ledger: %w", err)
	}
	if err := replaceFile(s.disk, s.dir, snapshotName, data); err != nil {
		return fmt.Errorf("budget: writing the ledger: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = next
	return nil
}

// checkLock makes sure that the lock which is held is the one that others would ask
// for. A folder that was removed and made anew has another one.
func (s *FileStore) checkLock() error {
	held, err := s.lock.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(filepath.Join(s.dir, lockName))
	if err != nil {
		return fmt.Errorf("the lock is gone: %w", err)
	}
	if !os.SameFile(held, there) {
		return fmt.Errorf("%s is not the folder that was opened: another process may be using it; restart this one", s.dir)
	}
	return nil
}

func (s *FileStore) encode(entries map[Key]Entry) ([]byte, error) {
	if len(entries) > s.most {
		return nil, fmt.Errorf("%w: the store in %s can hold %d; count limits per fewer identities, or keep ended windows for a shorter time", ErrFull, s.dir, s.most)
	}
	b := appendHeader(make([]byte, 0, headerSize+sumSize+64*len(entries)), len(entries))
	for _, e := range entries {
		b = appendEntry(b, e)
	}
	b = appendSum(b)
	if len(b) > maxSnapshot {
		return nil, fmt.Errorf("%w: the ledger in %s would have more than %d bytes; count limits per fewer identities, or keep ended windows for a shorter time", ErrFull, s.dir, maxSnapshot)
	}
	return b, nil
}

// Close implements [Store]: it waits for a Put under way and gives up the lock.
// Later calls return nil.
func (s *FileStore) Close() error {
	s.writing <- struct{}{} // a Put always ends
	defer func() { <-s.writing }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.lock.Close()
}
