package config

import "time"

// Timeouts bound every wait. Idle, if the file does not set it, follows a shorter
// Exchange, and DrainDelay a shorter Drain.
type Timeouts struct {
	Exchange time.Duration // the longest that one exchange may last
	Idle     time.Duration // the longest silence of an upstream; at most Exchange
	Drain    time.Duration // how long open streams may finish at shutdown; 0: not at all

	// DrainDelay is for how much of Drain new exchanges are still taken, so that load balancers
	// notice first; at most Drain.
	DrainDelay time.Duration
	// ConnectionAge is after what time Envoys are told to connect anew; 0: never.
	ConnectionAge time.Duration
	// Background is how long a response may go on in the background until it is charged what is
	// held for it; 0: it is at once.
	Background time.Duration
}

var defaultTimeouts = Timeouts{
	Exchange: 30 * time.Minute, Idle: 5 * time.Minute, Drain: 25 * time.Second,
	DrainDelay: 5 * time.Second, ConnectionAge: 5 * time.Minute, Background: time.Hour,
}

// checkTimeouts keeps the idle timeout within the exchange's, and the drain's delay
// within the drain. One that the file does not set follows; one that it sets must fit.
func (d *decoder) checkTimeouts(c *Config) {
	t := &c.Timeouts
	within := func(inner *time.Duration, outer time.Duration, hint, format string) {
		if *inner <= outer {
			return
		}
		if n := d.at[inner]; n != nil {
			d.fail(n, hint, format, brief(*inner), brief(outer))
			return
		}
		*inner = outer
	}
	within(&t.Idle, t.Exchange, "make it shorter", "an idle timeout of %s is longer than an exchange may last, which is %s")
	within(&t.DrainDelay, t.Drain, "make it shorter, or drain longer", "a delay of the drain of %s is longer than the drain, of which it is a part, and which lasts %s")
}
