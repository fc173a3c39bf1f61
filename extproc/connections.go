package extproc

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// connections is a listener that knows how many of its connections are open.
type connections struct {
	net.Listener
	open prometheus.Gauge
	n    atomic.Int64
}

// lingerPoll is how often linger looks whether there is still somebody to wait for.
const lingerPoll = 50 * time.Millisecond

// linger waits until those who balance the load have noticed that this server is about to
// go. A health check takes a second, a Service of Kubernetes one or two; a connection that
// came in between would be refused, and with it a client's request. Nobody does who has
// no connection: then it returns at once.
func (l *connections) linger(delay time.Duration) {
	end := time.Now().Add(delay)
	for l.n.Load() > 0 && time.Now().Before(end) {
		time.Sleep(min(lingerPoll, time.Until(end)))
	}
}

// Accept implements [net.Listener].
func (l *connections) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.n.Add(1)
	l.open.Inc()
	return &connection{Conn: c, of: l}, nil
}

// connection is one of them.
type connection struct {
	net.Conn
	of   *connections
	once sync.Once
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.once.Do(func() {
		c.of.n.Add(-1)
		c.of.open.Dec()
	})
	return c.Conn.Close()
}
