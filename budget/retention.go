package budget

import (
	"sync"
	"time"
)

// A window that has ended is of use for reports only, and for a clock that is set back.
// How long a file store keeps it goes by its length: a limit per minute makes as many
// counters in an hour as one per day in two months. The cells of a rolling limit go by
// their width, which may be a second: so many of them as of minutes, which are for a clock
// that is set back, and for nobody to look at. What the store has too much of is
// dropped with each snapshot. From half full on, sweeps do that, too, and keep all for a
// shorter time if need be.
//
// A sweep changes the memory only. If the process ends before the next snapshot, the
// journal has what was dropped again, and so does the store.
const (
	keepLengths = 35        // how many of its lengths a window is kept after its end
	keepLeast   = time.Hour // and at least, if that is no more than the retention,
	keepMost    = 60        // or than so many of its lengths
	keepAlways  = time.Minute

	fillParts = 16            // what fill is counted in
	fillHalf  = fillParts / 2 // from here on the store is swept
	// sweepInterval is from one sweep to the next, unless the store has grown by a part.
	sweepInterval = time.Minute
)

// kept is how many seconds after its end e is kept.
func (s *FileStore) kept(e Entry) int64 {
	most := int64(s.retention / time.Second)
	length := e.Key.End - e.Key.Start
	if length <= 0 || length > most/keepLengths {
		length = most/keepLengths + 1 // files may have any numbers: the subtraction may have overflowed
	}
	return min(max(keepLengths*length, min(keepMost*length, int64(keepLeast/time.Second)), int64(keepAlways/time.Second)), most)
}

// expired reports whether e need not be kept at time now, in Unix seconds.
func (s *FileStore) expired(e Entry, now int64) bool {
	return e.Key.End != 0 && e.Key.End < now-s.kept(e)
}

// fill is how full the store is, in parts. The caller holds the lock.
func (s *FileStore) fill() int {
	return max(fillParts*len(s.entries)/s.most, int(fillParts*s.bytes/maxBytes))
}

// drop removes an entry from memory. The caller holds the lock.
func (s *FileStore) drop(e Entry) {
	s.bytes -= entrySize(e)
	delete(s.entries, e.Key)
}

// wantSweep wakes the goroutine that sweeps. It does not wait.
func (s *FileStore) wantSweep() {
	select {
	case s.crowded <- struct{}{}:
	default:
	}
}

// sweepAgainAndAgain sweeps when somebody wants it who found the store half full or
// full, but not without end where sweeping does not help.
func (s *FileStore) sweepAgainAndAgain() {
	from, last := fillHalf, time.Time{}
	for {
		select {
		case <-s.crowded:
		case <-s.quit:
			return
		}
		s.mu.RLock()
		fill := s.fill()
		s.mu.RUnlock()
		if fill < from && time.Since(last) < s.sweepEvery {
			continue
		}
		from = max(fillHalf, s.sweep()) + 1
		last = time.Now()
	}
}

// size is what entries take.
type size struct {
	entries int
	bytes   int64
}

func (z *size) add(e Entry) { z.entries, z.bytes = z.entries+1, z.bytes+entrySize(e) }

func (z *size) sub(o size) { z.entries, z.bytes = z.entries-o.entries, z.bytes-o.bytes }

// ages is into how many parts a sweep divides the time that an entry is kept. A part is
// dropped as a whole.
const ages = 1024

// age is how much of its time e has been kept at time now, in parts of ages; false if
// it must not be dropped. From ages on it has expired.
func (s *FileStore) age(e Entry, now int64) (int64, bool) {
	switch {
	case s.expired(e, now):
		return ages, true
	case e.Key.End == 0 || e.Key.End > now-int64(keepAlways/time.Second):
		return 0, false
	}
	return min(ages*(now-e.Key.End)/s.kept(e), ages-1), true
}

// A clock that has run away is not believed before it has shown the same for clockDoubt:
// by it, windows that still run seem to have ended long ago.
const (
	clockSlack = keepAlways // what it may be ahead of the time that has passed since it was believed
	clockDoubt = time.Hour
)

// sober is the clock of retention: a wall clock beside the time that passes, which nobody
// can set. It is safe for concurrent use.
type sober struct {
	now    func() time.Time
	passed func() time.Duration // since some moment; nil: now is believed

	mu      sync.Mutex
	began   time.Time     // what the believed clock showed at that moment
	doubted bool          // it is ahead; since is when that was seen first
	since   time.Duration // as passed
}

func newSober(now func() time.Time, passed func() time.Duration) *sober {
	c := &sober{now: now, passed: passed}
	if passed != nil {
		c.began = now().Add(-passed())
	}
	return c
}

// unix is the time to go by, in Unix seconds. A clock that is behind is believed: by
// it, less is dropped.
func (c *sober) unix() int64 {
	if c.passed == nil {
		return c.now().Unix()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := c.passed()
	now, believed := c.now().Round(0), c.began.Add(passed).Round(0)
	switch {
	case now.Before(believed.Add(clockSlack)):
		c.doubted = false
		return now.Unix()
	case !c.doubted:
		c.doubted, c.since = true, passed
	case passed-c.since >= clockDoubt: // it was wrong before, or the machine has slept
		c.doubted, c.began = false, now.Add(-passed)
		return now.Unix()
	}
	return believed.Unix()
}

// sweep drops what has expired. If the store is still half full, all other windows are
// kept for as much shorter a part of their time as it takes to change that; but none is
// dropped that has ended within keepAlways. It returns how full the store is then.
//
// So a flood of short windows takes the long ones no more of their past than itself.
func (s *FileStore) sweep() (fill int) {
	now := s.clock.unix()
	var ended [ages + 1]size
	s.scan(s.mu.RLocker(), func(e Entry) {
		if age, ok := s.age(e, now); ok {
			ended[age].add(e)
		}
	})

	s.mu.RLock()
	left := size{len(s.entries), s.bytes}
	s.mu.RUnlock()
	left.sub(ended[ages])
	least := int64(ages) // who has this age has to go
	for least > 0 && (2*left.entries >= s.most || 2*left.bytes >= maxBytes) {
		least--
		left.sub(ended[least])
	}

	s.scan(&s.mu, func(e Entry) {
		if age, ok := s.age(e, now); ok && age >= least {
			s.drop(e)
		}
	})
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fill()
}

// scan calls f for each entry under the given lock, which it gives up now and then, so
// that others wait no longer than for a part of it. Entries that come or go meanwhile
// may be met or not. It ends early if the store is closed.
func (s *FileStore) scan(lock sync.Locker, f func(Entry)) {
	lock.Lock()
	defer lock.Unlock()
	n := 0
	for _, e := range s.entries {
		f(e)
		if n++; n%chunkSize != 0 {
			continue
		}
		lock.Unlock()
		select {
		case <-s.quit:
			lock.Lock()
			return
		default:
		}
		lock.Lock()
	}
}
