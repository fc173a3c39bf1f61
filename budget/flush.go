package budget

import "time"

// flushDelay is from a Put to the beginning of the flush that it shares with others.
const flushDelay = 5 * time.Millisecond

// flush brings to the disk what was written.
func (s *FileStore) flush() error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if err := s.file.Sync(); err != nil {
		// The operating system may have dropped what it could not write, and a
		// second fsync would succeed without it.
		return s.fail(err)
	}
	return nil
}

// flushAgainAndAgain flushes some time after the first write since the last flush. It
// is a goroutine of its own, so that writes go on meanwhile.
func (s *FileStore) flushAgainAndAgain() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-s.unflushed:
		case <-s.quit:
			return
		}
		t.Reset(flushDelay)
		select {
		case <-t.C:
		case <-s.quit:
			return // Close flushes
		}
		failed := s.Err() != nil // and was told; what was written before is to be flushed all the same
		err := s.flush()
		if err != nil && !failed {
			s.report(err)
		}
		if err != nil || failed {
			return
		}
	}
}
