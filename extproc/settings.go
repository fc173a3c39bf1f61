package extproc

import (
	"cmp"
	"time"

	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// Settings are those of the [Options] that may change while the server runs.
type Settings struct {
	Policy                       exchange.Policy
	ExchangeTimeout, IdleTimeout time.Duration
	DrainTimeout, DrainDelay     time.Duration
	Overload                     Overload
}

// settings are Settings made ready.
type settings struct {
	policy                *exchange.Policy
	exchange, idle, drain time.Duration
	delay                 time.Duration // of the drain
	overload              Overload
}

// Set changes the settings for the exchanges that begin from now on, and the drain. Each
// exchange goes on to its end with those that it began with. Of a larger
// Policy.MaxRequest than the server had when Serve was called, bodies of more than twice
// of what it was then, and a MiB, fail: the size of messages is settled there.
func (s *Server) Set(n Settings) {
	if old := s.settings.Load(); old != nil { // what was learned stays true
		n.Policy.Rejected = cmp.Or(n.Policy.Rejected, old.policy.Rejected)
		n.Policy.Hidden = cmp.Or(n.Policy.Hidden, old.policy.Hidden)
		n.Policy.Background = cmp.Or(n.Policy.Background, old.policy.Background)
		n.Policy.Contexts = cmp.Or(n.Policy.Contexts, old.policy.Contexts)
	}
	s.settings.Store(&settings{
		policy:   exchange.NewPolicy(n.Policy),
		exchange: cmp.Or(n.ExchangeTimeout, DefaultExchangeTimeout),
		idle:     cmp.Or(n.IdleTimeout, DefaultIdleTimeout),
		drain:    cmp.Or(n.DrainTimeout, DefaultDrainTimeout),
		delay:    n.DrainDelay,
		overload: n.Overload.withDefaults(),
	})
}
