package budget

import (
	"errors"
	"fmt"
	"io"
)

// rotate begins a new journal file and has a snapshot written, after which the files
// before are not needed any more. The caller has the token. If that cannot be done, the
// journal goes on as it is, unless the store has failed.
func (s *FileStore) rotate() {
	s.full = s.size + max(s.rotateAt, s.bytesNow()) // the next try, if this one fails
	if !s.snapshotting.CompareAndSwap(false, true) {
		return
	}
	// What the next file will build on must not be lost when that is not.
	if s.flush() != nil {
		s.snapshotting.Store(false)
		return
	}
	old := s.file
	if err := s.begin(); err != nil {
		s.snapshotting.Store(false)
		s.report(fmt.Errorf("budget: a new journal file in %s cannot be begun, the old one grows: %w", s.dir, err))
		return
	}
	s.full = max(s.rotateAt, s.bytesNow())
	if err := old.Close(); err != nil { // flushed already
		s.report(fmt.Errorf("budget: closing a journal file in %s: %w", s.dir, err))
	}
	last := len(s.journals) - 1
	s.before = append(s.before, s.journals[:last]...)
	s.journals = s.journals[last:]
	next := s.next
	s.workers.Go(func() {
		defer s.snapshotting.Store(false)
		err := s.snapshot(next)
		for err == nil && len(s.before) > 0 { // the oldest first: the rest is a chain at any time
			if err = s.disk.remove(s.before[0]); err == nil || notExist(err) {
				s.before, err = s.before[1:], nil
			}
		}
		if err != nil && !errors.Is(err, ErrClosed) {
			s.report(fmt.Errorf("budget: a snapshot in %s could not be made, the journal grows until the next: %w", s.dir, err))
		}
	})
}

func (s *FileStore) bytesNow() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.bytes
}

// snapshot writes all entries, which have the changes of all records before next, and
// forgets those whose retention is over. Changes that come meanwhile may be in it or not:
// they are in records from next on. It returns ErrClosed if the store is closed
// meanwhile.
func (s *FileStore) snapshot(next uint64) error {
	now := s.clock.unix()
	var expired []Key
	err := replaceFile(s.disk, s.dir, snapshotName, func(f io.Writer) error {
		w := newSnapshotWriter(f, next)
		closed := false
		s.chunks(func(chunk []Entry) bool {
			for _, e := range chunk {
				if s.expired(e, now) {
					expired = append(expired, e.Key)
				} else {
					w.add(e)
				}
			}
			select {
			case <-s.quit:
				closed = true
			default:
			}
			return !closed && w.err == nil
		})
		if closed {
			return ErrClosed
		}
		return w.end()
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range expired {
		if e, ok := s.entries[k]; ok && s.expired(e, now) {
			s.drop(e)
		}
	}
	return nil
}
