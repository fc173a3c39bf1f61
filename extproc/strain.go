package extproc

import (
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// strain is how the process fares: how long goroutines wait for a processor, and how full
// the heap is. The runtime measures both all the time; here it is asked when exchanges come,
// up to ten times a second. So there is no goroutine of its own, and an idle server does
// nothing.
//
// The delay is the median of the waits since it was last asked, and counts as the least of
// the last three: one long pause, of the machine perhaps, is no overload.
type strain struct {
	mu      sync.Mutex // whoever does not get it leaves the work to who has it
	samples []metrics.Sample
	before  []uint64 // waits by their length, as of the last time
	last    [3]time.Duration
	next    int
	limit   int64     // bytes of memory
	forced  time.Time // when a collection was asked for

	asked  atomic.Int64 // Unix time, in nanoseconds
	least  atomic.Int64 // nanoseconds: the delay
	isLate atomic.Bool
	isFull atomic.Bool
}

const (
	strainEvery = 100 * time.Millisecond
	forceEvery  = 5 * time.Second

	schedLatencies = "/sched/latencies:seconds"
	liveHeap       = "/gc/heap/live:bytes" // what the last collection left
	stacks         = "/memory/classes/heap/stacks:bytes"
)

func newStrain() strain {
	return strain{samples: []metrics.Sample{{Name: schedLatencies}, {Name: liveHeap}, {Name: stacks}}}
}

// look asks the runtime, if it is time to. It is late from a delay of most on.
func (s *strain) look(now time.Time, most time.Duration) {
	if now.UnixNano()-s.asked.Load() < int64(strainEvery) || !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	s.asked.Store(now.UnixNano())
	if s.limit == 0 {
		s.limit = memoryLimit()
	}
	metrics.Read(s.samples)
	h := s.samples[0].Value.Float64Histogram()
	if len(s.before) != len(h.Counts) {
		s.before = make([]uint64, len(h.Counts)) // the first time: since the process began
	}
	s.note(median(h.Buckets, s.before, h.Counts), most)
	copy(s.before, h.Counts)
	full := s.samples[1].Value.Uint64()+s.samples[2].Value.Uint64() > uint64(s.limit)/4*3
	s.isFull.Store(full)
	if full && now.Sub(s.forced) >= forceEvery {
		// While nobody is let in, little is allocated, and no collection might find out for
		// minutes that there is room again.
		s.forced = now
		runtime.GC()
	}
}

// note takes in one median.
func (s *strain) note(d, most time.Duration) {
	s.last[s.next] = d
	s.next = (s.next + 1) % len(s.last)
	least := slices.Min(s.last[:])
	s.least.Store(int64(least))
	s.isLate.Store(least >= most)
}

// median is the lower bound of the bucket that the median is in of what was counted since
// before; 0 if that is nothing. Bucket i reaches from bounds[i] to bounds[i+1], in seconds.
func median(bounds []float64, before, counts []uint64) time.Duration {
	var all uint64
	for i, n := range counts {
		all += n - before[i]
	}
	var below uint64
	for i, n := range counts {
		if below += n - before[i]; 2*below > all {
			return time.Duration(max(0, bounds[i]) * float64(time.Second))
		}
	}
	return 0
}

// late says that goroutines wait for too long.
func (s *strain) late() bool { return s.isLate.Load() }

// heapFull says that live memory takes more than three quarters of what the process may
// have: the collector has little room left, and would take over the processors.
func (s *strain) heapFull() bool { return s.isFull.Load() }

func (s *strain) delay() time.Duration { return time.Duration(s.least.Load()) }
