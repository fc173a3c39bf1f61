package extproc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// noteFor is how long after the last exchange in a mode in which less can be done
// [Server.Notes] tells of it.
const noteFor = 10 * time.Minute

// degraded remembers the modes of Envoy's filter, other than the usual ones, that exchanges
// came in, by [exchange.Record.Degraded]. These are combinations of few names, none of
// which clients choose: some hundred at the most.
type degraded struct {
	mu    sync.Mutex
	modes map[string]*degradedMode
}

// degradedMode is what is known of one of them.
type degradedMode struct {
	exchanges int64
	last      time.Time
}

// note counts an exchange, and reports whether it is the first of its mode.
func (d *degraded) note(mode string, now time.Time) (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.modes[mode]
	if m == nil {
		if d.modes == nil {
			d.modes = make(map[string]*degradedMode)
		}
		m, first = new(degradedMode), true
		d.modes[mode] = m
	}
	m.exchanges++
	m.last = now
	return first
}

// notes says in which modes exchanges have come lately.
func (d *degraded) notes(now time.Time) (all []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, mode := range slices.Sorted(maps.Keys(d.modes)) {
		m := d.modes[mode]
		if now.Sub(m.last) > noteFor {
			continue
		}
		lost, set := explain(mode)
		all = append(all, fmt.Sprintf("warning: Envoy's filter has %s (%d exchanges, the last at %s): %s; set %s there",
			mode, m.exchanges, m.last.UTC().Format(time.RFC3339), strings.Join(lost, "; "), strings.Join(set, ", ")))
	}
	return all
}

// explain says what is lost in a mode, and what the filter's configuration should have.
func explain(mode string) (lost, set []string) {
	for _, d := range exchange.Degradations(mode) {
		lost = append(lost, d.Lost)
		if !slices.Contains(set, d.Set) {
			set = append(set, d.Set)
		}
	}
	return lost, set
}

// noteDegraded notes an exchange in a mode in which less can be done; the log tells of the
// first.
func (s *Server) noteDegraded(r *exchange.Record) {
	if r.Degraded == "" || !s.degraded.note(r.Degraded, time.Now()) {
		return
	}
	lost, set := explain(r.Degraded)
	s.opts.Log.Warn("Envoy's filter is not configured as it should be; the best is done that this allows. It is not told again",
		zap.String("degraded", r.Degraded), zap.Strings("lost", lost), zap.Strings("set", set))
}

// Notes tells what is not as it should be, though the server works: the modes of Envoy's
// filter in which exchanges came within the last ten minutes.
func (s *Server) Notes() []string { return s.degraded.notes(time.Now()) }
