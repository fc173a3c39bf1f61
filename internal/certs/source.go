package certs

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"
)

// Interval is how often [Source.Run] reads the files, unless the options say otherwise.
const Interval = 5 * time.Second

// Options of a [Source].
type Options struct {
	Interval time.Duration // 0: Interval
	// OnChange is called by Run after the files have changed: with the new set, or with
	// the [Problems] for which the last good one stays. Once for each change, and once
	// more if files that could not be used can be after all, since it is time now.
	OnChange func(*Set, error)
}

// Source serves the certificates of a listener's files, the newest that could be
// loaded. It is safe for concurrent use.
type Source struct {
	files   Files
	opts    Options
	read    func(Files) content // read, but for tests
	now     func() time.Time    // time.Now, but for tests
	seen    content             // at the last look; of Run only
	failed  bool                // it could not be used; of Run only
	current atomic.Pointer[Set]
}

// NewSource loads the files. The error is [Problems].
func NewSource(f Files, o Options) (*Source, error) {
	if o.Interval == 0 {
		o.Interval = Interval
	}
	if o.OnChange == nil {
		o.OnChange = func(*Set, error) {}
	}
	s := &Source{files: f, opts: o, read: read, now: time.Now, seen: read(f)}
	set, err := load(f, s.seen, time.Now())
	if err != nil {
		return nil, err
	}
	s.current.Store(set)
	return s, nil
}

// Set returns what is served now.
func (s *Source) Set() *Set { return s.current.Load() }

// Run looks for changes until ctx ends, and then returns nil. It is to be called once.
func (s *Source) Run(ctx context.Context) error {
	tick := time.NewTicker(s.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.look()
		}
	}
}

// look loads the files if they have changed since the last look, or if they could not be
// used then: a certificate that was not valid yet may be so by now.
func (s *Source) look() {
	now := s.read(s.files)
	changed := !now.equal(s.seen)
	if !changed && !s.failed {
		return
	}
	// The files may be swapped between the reading of one and of the next. What stays
	// the same over a second reading belongs together, or will be seen to change again.
	if changed && !s.read(s.files).equal(now) {
		return
	}
	set, err := load(s.files, now, s.now())
	s.seen, s.failed = now, err != nil
	if err == nil {
		s.current.Store(set)
	}
	if changed || err == nil {
		s.opts.OnChange(set, err)
	}
}

// ServerConfig returns the configuration of a listener whose clients speak one of the
// protocols (ALPN, RFC 7301). What clients must prove is auth, if the files name
// authorities of clients; else nothing.
func (s *Source) ServerConfig(auth tls.ClientAuthType, protocols ...string) *tls.Config {
	config := func() *tls.Config {
		set := s.Set()
		c := &tls.Config{
			MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, NextProtos: protocols,
			Certificates: []tls.Certificate{set.pair},
		}
		if set.clients != nil {
			c.ClientAuth, c.ClientCAs = auth, set.clients
		}
		return c
	}
	outer := config()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return config(), nil }
	return outer
}
