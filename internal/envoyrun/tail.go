package envoyrun

import (
	"slices"
	"sync"
)

// tail is a writer which keeps the last bytes written to it. It never fails and
// never makes the writer wait.
type tail struct {
	keep int

	mu  sync.Mutex
	buf []byte // at most 2*keep, so that it is seldom moved
}

func newTail(keep int) *tail { return &tail{keep: keep} }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	p = p[max(0, n-t.keep):]
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.buf)+len(p) > 2*t.keep {
		t.buf = slices.Delete(t.buf, 0, max(0, len(t.buf)-t.keep))
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf[max(0, len(t.buf)-t.keep):])
}
