package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/config"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/overrides"
)

// live is what a running server goes by and what may change while it runs: the
// configuration, and above it the overrides of the admin API.
type live struct {
	log    *zap.Logger
	path   string // of the configuration
	count  count.Options
	ledger *budget.Ledger
	server *extproc.Server

	mu  sync.Mutex // changes come one after the other
	now atomic.Pointer[ruling]

	*reloading
}

// ruling is what is in effect at one time. It does not change.
type ruling struct {
	config    *config.Config
	overrides *overrides.Set
}

func newLive(path string, first reading, c *config.Config, set *overrides.Set, log *zap.Logger, reg prometheus.Registerer) *live {
	l := &live{log: log, path: path, reloading: newReloading(first, reg)}
	l.now.Store(&ruling{c, set})
	return l
}

// limits are the file's, with the amounts of the overrides.
func (r *ruling) limits() []budget.Limit { return r.overrides.Apply(r.config.Budgets) }

// settings is what a ruling says about exchanges. The error names every mistake in the
// limits.
func (l *live) settings(r *ruling) (s extproc.Settings, err error) {
	s = extproc.Settings{
		Policy:          policy(r.config),
		ExchangeTimeout: r.config.Timeouts.Exchange, IdleTimeout: r.config.Timeouts.Idle, DrainTimeout: orNone(r.config.Timeouts.Drain),
		DrainDelay: r.config.Timeouts.DrainDelay,
		Overload:   extproc.Overload(r.config.Overload),
	}
	s.Policy.BackgroundTimeout = orNone(r.config.Timeouts.Background)
	if s.Policy.Sizes, err = budget.NewSizes(r.limits()); err != nil {
		return s, err
	}
	o := l.count
	o.Models = mappings(r.config)
	s.Policy.Count = count.New(o)
	return s, nil
}

// applyTimeout is the longest that a change of the limits may take to be put into effect.
const applyTimeout = 30 * time.Second

// apply puts a ruling into effect. After an error the one before is in effect. The
// caller holds the lock.
func (l *live) apply(ctx context.Context, next *ruling) error {
	before := l.now.Load()
	settings, err := l.settings(next)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	// The settings first: they say what of a request is read that limits look at.
	l.server.Set(settings)
	if err := l.ledger.SetLimits(ctx, next.limits()); err != nil {
		if settings, beforeErr := l.settings(before); beforeErr == nil {
			l.server.Set(settings)
		}
		return err
	}
	l.now.Store(next)
	return nil
}

// access is what the admin pages ask for.
func (l *live) access() admin.Access {
	c := l.now.Load().config
	local := c.Listen.AdminTLS == nil && config.Loopback(c.Listen.Admin) && !strings.HasPrefix(c.Listen.Admin, "unix:")
	return admin.Access{Local: local, Guarded: c.AdminGuarded(), Token: c.AdminToken, Certificates: hasClientCA(c.Listen.AdminTLS)}
}

func hasClientCA(f *certs.Files) bool { return f != nil && f.ClientCA != "" }

func (l *live) identities() []string { return identityNames(l.now.Load().config) }

// warnIdle tells of overrides that have no effect.
func (l *live) warnIdle() {
	for _, o := range l.List() {
		if !o.Effective {
			l.log.Warn("an override has no effect", zap.String("budget", o.Budget), zap.Any("subject", o.Subject), zap.String("why", o.Note))
		}
	}
}

// amountsText is amounts in words: 8000 input_tokens, 2000 output_tokens.
func amountsText(amounts map[string]int64) string {
	var parts []string
	for _, unit := range slices.Sorted(maps.Keys(amounts)) {
		parts = append(parts, fmt.Sprint(amounts[unit], " ", unit))
	}
	return strings.Join(parts, ", ")
}
