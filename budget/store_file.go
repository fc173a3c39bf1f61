package budget

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Names in the folder of a file store.
const (
	snapshotName  = "ledger.snapshot"
	journalPrefix = "ledger.journal."
	tempSuffix    = ".tmp"
	lockName      = "ledger.lock"
)

// Bounds of a file store.
const (
	maxEntries = 4 << 20
	// maxBytes is the size of all entries from which on Get refuses new keys, half of
	// maxSnapshot: those that the ledger has in memory already can still be put.
	maxBytes = maxSnapshot / 2
	// rotateSize is the least size of a journal file at which the next one begins. It
	// bounds what is read at a start: this, the snapshot, and what comes while a
	// snapshot is written.
	rotateSize = 32 << 20
)

// DefaultRetention is how long a file store keeps windows of a day or more that have
// ended: all days of the longest month and some to look at them. Those of shorter windows
// it keeps for 35 times their length, at least for an hour. What rolling periods consist of
// are windows of a sixtieth, whose hour is 60 times their length if that is less. All of
// that is less when the store is half full.
const DefaultRetention = 35 * 24 * time.Hour

// Fsync says when what is written is flushed to the disk, which is what survives a
// power failure. What is written survives every crash of the process.
type Fsync string

// The values of [Fsync].
const (
	// FsyncWait: every Put waits for the flush. Puts that come meanwhile share the next
	// one.
	FsyncWait Fsync = "wait"
	// FsyncGroup: a flush begins some milliseconds after a Put, so that it is done
	// after 10 ms unless the disk is slow. A power failure loses at most that.
	FsyncGroup Fsync = "group"
	// FsyncOS: the operating system flushes when it likes to, some 30 seconds later.
	FsyncOS Fsync = "os"
)

// FileStore keeps balances in memory and in a folder: a snapshot of all, and a
// journal of what was put since. When the journal has grown, a new file of it is
// begun, a new snapshot written beside, and what came before is removed.
//
// An error of writing or flushing is final, since nobody can say what the disk has
// then: the store refuses every further Put, and [FileStore.Err] tells why. A new
// start reads what is there. A snapshot that cannot be written is reported and tried
// again later; the journal goes on.
//
// A folder belongs to one open store at a time. It is locked, and so is a file in it. The
// locks go with the process, so nothing has to be tidied up after a crash. They do not reach
// over a network file system that has no flock.
type FileStore struct {
	dir       string
	disk      disk
	lock      *os.File // of the file; dirLock is that of the folder, nil where there are none
	dirLock   *os.File
	fsync     Fsync
	report    func(error)
	retention time.Duration
	clock     *sober
	most      int   // entries
	rotateAt  int64 // least size of a journal file that is full

	crowded    chan struct{} // holds one token while a sweep is wanted
	sweepEvery time.Duration

	failure atomic.Pointer[error]
	quit    chan struct{} // closed by Close
	workers sync.WaitGroup

	writing  chan struct{} // holds one token while somebody writes; what follows belongs to its holder
	closed   bool
	journals []string // paths; the last is written to
	next     uint64   // sequence of the next record
	size     int64    // of the last journal file
	full     int64    // the size at which a new file begins
	checked  time.Time
	buf      []byte
	changed  []Entry

	unflushed chan struct{} // holds one token while the journal has what is not flushed
	fileMu    sync.Mutex    // held by those who flush or change file, not by those who write
	file      diskFile      // the end of the last journal file

	snapshotting atomic.Bool // somebody makes a snapshot; what follows is his
	before       []string    // paths of journal files that it will make superfluous

	mu      sync.RWMutex // not held during I/O
	entries map[Key]Entry
	bytes   int64 // of all entries in a snapshot
	shut    bool
}

// FileOption changes how a [FileStore] works.
type FileOption func(*FileStore)

// WithRetention sets how long windows that have ended are kept for reports at most,
// instead of [DefaultRetention]. They are dropped when a snapshot is written, or before
// their time when the store is half full.
func WithRetention(d time.Duration) FileOption {
	return func(s *FileStore) { s.retention = max(0, d) }
}

// WithClock sets the clock that retention goes by, instead of [time.Now]. It is believed
// even if it runs away.
func WithClock(now func() time.Time) FileOption {
	return func(s *FileStore) { s.clock = newSober(now, nil) }
}

// WithFsync sets when what is written is flushed, instead of [FsyncGroup].
func WithFsync(f Fsync) FileOption {
	return func(s *FileStore) { s.fsync = f }
}

// WithReport sets who is told of what no caller is told: a torn record that was left out
// ([ErrTorn]), a flush that failed, a snapshot that could not be written. It may be
// called by several goroutines at a time, and must not use the store.
func WithReport(report func(error)) FileOption {
	return func(s *FileStore) { s.report = report }
}

func newFileStore(dir string, options []FileOption) *FileStore {
	begun := time.Now()
	s := &FileStore{
		dir:       dir,
		disk:      osDisk{},
		fsync:     FsyncGroup,
		report:    func(error) {},
		retention: DefaultRetention,
		clock:     newSober(time.Now, func() time.Duration { return time.Since(begun) }),
		most:      maxEntries,
		rotateAt:  rotateSize,
		quit:      make(chan struct{}),
		writing:   make(chan struct{}, 1),
		unflushed: make(chan struct{}, 1),
		crowded:   make(chan struct{}, 1),

		sweepEvery: sweepInterval,
	}
	for _, o := range options {
		o(s)
	}
	return s
}

// OpenFile opens the store in dir, and makes the folder (mode 0700) if it is absent.
// A folder without a ledger is an empty store. The error wraps [ErrLocked],
// [ErrForeign], [ErrVersion], [ErrDamaged] or that of the operating system. Unless it
// comes from writing, nothing was changed then but for the lock file.
func OpenFile(dir string, options ...FileOption) (*FileStore, error) {
	s := newFileStore(dir, options)
	if err := makeDir(s.disk, dir); err != nil {
		return nil, fmt.Errorf("budget: making the store's folder: %w", err)
	}
	var err error
	if s.dirLock, err = lockDir(dir, false); err == nil {
		s.lock, err = lockFile(filepath.Join(dir, lockName))
	}
	switch {
	case errors.Is(err, ErrLocked):
		err = fmt.Errorf("%w: another process has %s open; stop it, or choose another folder for this one", err, dir)
	case err != nil:
		err = fmt.Errorf("budget: locking the store's folder: %w", err)
	default:
		err = s.recover()
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(s.lock, s.dirLock))
	}
	s.workers.Go(s.sweepAgainAndAgain)
	if s.fsync == FsyncGroup {
		s.workers.Go(s.flushAgainAndAgain)
	}
	return s, nil
}

// closeAll closes those files that are not nil.
func closeAll(files ...*os.File) error {
	var errs []error
	for _, f := range files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// recover reads the folder and makes it ready to be written to.
func (s *FileStore) recover() error {
	c, err := readFolder(s.dir)
	if errors.Is(err, errNoLedger) {
		c, err = &contents{entries: make(map[Key]Entry), next: 1}, nil
	}
	if err != nil {
		return err
	}
	s.entries, s.next, s.journals = c.entries, c.next, c.journals
	for _, e := range s.entries {
		s.bytes += entrySize(e)
	}
	if s.fill() >= fillHalf {
		s.sweep() // the journal may have brought back what was dropped
	}
	fail := func(err error) error { return fmt.Errorf("budget: opening the ledger in %s: %w", s.dir, err) }
	// A process that was killed may have left names and records which were read, but
	// are not on the disk. What follows builds on them.
	if err := s.disk.syncDir(s.dir); err != nil {
		return fail(err)
	}
	if torn := c.tornError(); torn != nil {
		if err := s.disk.truncate(s.journals[len(s.journals)-1], c.last.end); err != nil {
			return fail(err)
		}
		s.report(torn)
	}
	for _, name := range c.obsolete {
		if err := s.disk.remove(filepath.Join(s.dir, name)); err != nil {
			return fail(err)
		}
	}
	if len(s.journals) == 0 {
		err = s.begin()
	} else {
		s.size = c.last.end
		if s.file, err = s.disk.openEnd(s.journals[len(s.journals)-1]); err == nil {
			if err = s.file.Sync(); err != nil {
				err = errors.Join(err, s.file.Close())
			}
		}
	}
	if err != nil {
		return fail(err)
	}
	s.full = max(s.rotateAt, s.bytes)
	if c.version == 1 {
		// Now, so that a program which knows no journal does not take it for all there is.
		if err := s.snapshot(s.next); err != nil {
			return fail(errors.Join(err, s.file.Close()))
		}
	}
	return nil
}

// entrySize is about what an entry takes in a snapshot.
func entrySize(e Entry) int64 { return int64(len(e.Key.Limit) + len(e.Key.Subject) + 24) }

// begin begins a new journal file. After an error the old one goes on, unless the store
// has failed. The caller has the token.
func (s *FileStore) begin() error {
	name := journalName(s.next)
	path := filepath.Join(s.dir, name)
	err := replaceFile(s.disk, s.dir, name, func(w io.Writer) error {
		_, err := w.Write(newJournalHeader(s.next))
		return err
	})
	var file diskFile
	if err == nil {
		file, err = s.disk.openEnd(path)
	}
	if err != nil {
		// An empty file in the chain would make the records that now follow in the old
		// one look like damage.
		if rerr := s.disk.remove(path); rerr != nil && !notExist(rerr) {
			return s.fail(errors.Join(err, rerr))
		}
		return err
	}
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	s.file, s.size = file, int64(journalHeader)
	s.journals = append(s.journals, path)
	return nil
}

// Get implements [Store]. It does no I/O. It returns [ErrFull] for a key that the store
// has not, if it has no room for more.
func (s *FileStore) Get(ctx context.Context, key Key) (Entry, bool, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.shut {
		return Entry{}, false, ErrClosed
	}
	e, ok := s.entries[key]
	if !ok && s.fill() >= fillParts {
		s.wantSweep()
		return Entry{}, false, fmt.Errorf("%w: the store in %s has %d, and takes no more; count limits per fewer identities", ErrFull, s.dir, len(s.entries))
	}
	return e, ok, nil
}

// Range implements [Store]. f may use the store. It keeps nobody waiting, so entries that
// change meanwhile are shown as they were or as they are; those that come or go, perhaps.
func (s *FileStore) Range(ctx context.Context, f func(Entry) bool) error {
	s.mu.RLock()
	shut := s.shut
	s.mu.RUnlock()
	if shut {
		return ErrClosed
	}
	var err error
	s.chunks(func(chunk []Entry) bool {
		for _, e := range chunk {
			if err = ctx.Err(); err != nil || !f(e) {
				return false
			}
		}
		return true
	})
	return err
}

// chunkSize is how many entries are looked at in one go, so that a Put waits no longer
// than that for who looks at all.
const chunkSize = 1024

// chunks calls f for all entries, some at a time and without the lock, until it returns
// false. The map changes meanwhile; each entry that stays is met once.
func (s *FileStore) chunks(f func([]Entry) bool) {
	chunk := make([]Entry, 0, chunkSize)
	s.mu.RLock()
	for _, e := range s.entries {
		if chunk = append(chunk, e); len(chunk) < chunkSize {
			continue
		}
		s.mu.RUnlock()
		if !f(chunk) {
			return
		}
		chunk = chunk[:0]
		s.mu.RLock()
	}
	s.mu.RUnlock()
	f(chunk)
}

// Put implements [Store]. If no entry differs from what is stored it does not write.
// It returns an error for an entry which a reader would refuse, and what Err returns
// once the store has failed. ctx is obeyed while it waits for another Put; a write
// that has begun is finished.
func (s *FileStore) Put(ctx context.Context, entries []Entry) error {
	for _, e := range entries {
		if err := checkEntry(e); err != nil {
			return err
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
	if err := s.Err(); err != nil {
		return err
	}
	s.changed = s.changed[:0]
	s.mu.RLock()
	for _, e := range entries {
		if old, ok := s.entries[e.Key]; !ok || old != e {
			s.changed = append(s.changed, e)
		}
	}
	s.mu.RUnlock()
	if len(s.changed) == 0 {
		return nil
	}
	if err := s.checkLock(); err != nil {
		return s.fail(err)
	}
	s.buf, s.next = appendRecords(s.buf[:0], s.next, s.changed)
	n, err := s.file.Write(s.buf)
	s.size += int64(n)
	if err != nil {
		return s.fail(err)
	}
	switch s.fsync {
	case FsyncWait:
		if err := s.flush(); err != nil {
			return err
		}
	case FsyncGroup:
		select {
		case s.unflushed <- struct{}{}:
		default:
		}
	}
	s.mu.Lock()
	for _, e := range s.changed {
		if _, ok := s.entries[e.Key]; !ok {
			s.bytes += entrySize(e)
		}
		s.entries[e.Key] = e
	}
	if s.fill() >= fillHalf {
		s.wantSweep()
	}
	s.mu.Unlock()
	if s.size >= s.full {
		s.rotate()
	}
	return s.Err()
}

// fail makes an error of writing or flushing final.
func (s *FileStore) fail(err error) error {
	err = fmt.Errorf("budget: writing the ledger in %s failed, and nothing more is written until a restart: %w", s.dir, err)
	if !s.failure.CompareAndSwap(nil, &err) {
		return s.Err() // the first one says more
	}
	return err
}

// Err implements [Store].
func (s *FileStore) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// lockInterval is how often checkLock looks.
const lockInterval = time.Second

// checkLock makes sure, now and then, that the lock which is held is the one that
// others would ask for. A folder that was removed and made anew has another one.
func (s *FileStore) checkLock() error {
	if time.Since(s.checked) < lockInterval {
		return nil
	}
	held, err := s.lock.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(filepath.Join(s.dir, lockName))
	if err != nil {
		return fmt.Errorf("the lock is gone: %w", err)
	}
	if !os.SameFile(held, there) {
		return fmt.Errorf("%s is not the folder that was opened: another process may be using it", s.dir)
	}
	s.checked = time.Now()
	return nil
}

// Close implements [Store]: it waits for a Put under way, flushes, and gives up the
// lock. Later calls return nil.
func (s *FileStore) Close() error {
	s.writing <- struct{}{} // a Put always ends
	defer func() { <-s.writing }()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.quit)
	s.workers.Wait()
	s.mu.Lock()
	s.shut = true
	s.mu.Unlock()
	failed := s.Err() != nil
	err := s.flush() // what was written before a failure, too
	if failed {
		err = nil // it was told
	}
	return errors.Join(err, s.file.Close(), closeAll(s.lock, s.dirLock))
}
