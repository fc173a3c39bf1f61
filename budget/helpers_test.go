package budget

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"
)

// noon is when tests begin: a Wednesday.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// clock is a clock that stands still until it is set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: noon} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var errBroken = errors.New("broken on purpose")

// memStore is a store in memory. It can fail on demand.
type memStore struct {
	mu      sync.Mutex
	entries map[Key]Entry
	failGet bool
	failPut bool
	gets    int
	puts    int
	closed  bool

	onGet func(ctx context.Context) // called without the lock
	onPut func()                    // the same
}

func newMemStore() *memStore { return &memStore{entries: make(map[Key]Entry)} }

// copied is a store of its own with the same entries.
func (s *memStore) copied() *memStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &memStore{entries: maps.Clone(s.entries)}
}

func (s *memStore) fail(get, put bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failGet, s.failPut = get, put
}

func (s *memStore) Get(ctx context.Context, key Key) (Entry, bool, error) {
	if s.onGet != nil {
		s.onGet(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.closed {
		panic("Get of a closed store")
	}
	if s.failGet {
		return Entry{}, false, errBroken
	}
	e, ok := s.entries[key]
	return e, ok, ctx.Err()
}

func (s *memStore) Put(_ context.Context, entries []Entry) error {
	if s.onPut != nil {
		s.onPut()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.closed {
		panic("Put into a closed store")
	}
	if s.failPut {
		return errBroken
	}
	for _, e := range entries {
		s.entries[e.Key] = e
	}
	return nil
}

func (s *memStore) Range(_ context.Context, f func(Entry) bool) error {
	s.mu.Lock()
	fail, entries := s.failGet, maps.Clone(s.entries)
	s.mu.Unlock()
	if fail {
		return errBroken
	}
	for _, e := range entries {
		if !f(e) {
			break
		}
	}
	return nil
}

func (s *memStore) Err() error { return nil }

func (s *memStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// open makes a ledger and closes it when the test ends.
func open(t testing.TB, o Options) *Ledger {
	t.Helper()
	l, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil && !errors.Is(err, errBroken) {
			t.Error(err)
		}
	})
	return l
}

// reserve fails the test unless the ledger grants the request.
func reserve(t testing.TB, l *Ledger, q Request) *Reservation {
	t.Helper()
	r, d, err := l.Reserve(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		t.Fatalf("refused: %+v", d)
	}
	return r
}

// refused fails the test unless the ledger refuses the request.
func refused(t testing.TB, l *Ledger, q Request) Decision {
	t.Helper()
	r, d, err := l.Reserve(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if r != nil || d.Allowed {
		t.Fatalf("not refused: %+v", d)
	}
	return d
}

func balances(t testing.TB, l *Ledger) []Balance {
	t.Helper()
	b, err := l.Balances(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func syncNow(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// inMemory is how many rows the table has.
func inMemory(l *Ledger) int64 { return l.table.count.Load() }

func ask(input, output int64, ids ...string) Request {
	q := Request{Input: input, Output: output, MinOutput: 1}
	for i := 0; i < len(ids); i += 2 {
		q.Identities = append(q.Identities, Identity{ids[i], ids[i+1]})
	}
	return q
}
