package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/config"
	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/overrides"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

var serveCommand = command{
	name:  "serve",
	args:  "-config FILE",
	short: "runs the server",
	long: `It answers Envoy's ext_proc filter (tokenbudget envoy prints the filter's
configuration) until SIGTERM or SIGINT, then lets open streams finish up to
timeouts.drain and writes the balances. The log is JSON on standard error, a line
for each exchange. When FILE changes, and on SIGHUP, it is loaded; a file with
mistakes changes nothing.`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		path := configFlag(fs)
		return func(ctx context.Context, e env, args []string) error {
			if err := noArguments(args); err != nil {
				return err
			}
			file, c, err := firstConfig(e, *path)
			if err != nil {
				return err
			}
			return serve(ctx, e, *path, file, c)
		}
	},
}

// newLog returns the server's log: zap JSON with the keys level, ts and msg.
func newLog(w zapcore.WriteSyncer) *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), w, zap.InfoLevel))
}

// openLedger opens the ledger that a configuration and overrides describe, over a store
// which it owns then.
func openLedger(ctx context.Context, c *config.Config, set *overrides.Set, store budget.Store, onError func(error), onOverflow func(string, bool)) (*budget.Ledger, error) {
	ledger, err := budget.New(ctx, budget.Options{
		Limits: set.Apply(c.Budgets), Store: store, SyncInterval: c.Store.File.Sync, OnStoreError: onError, OnOverflow: onOverflow,
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return ledger, nil
}

func serve(ctx context.Context, e env, path string, file reading, c *config.Config) (err error) {
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	var log *zap.Logger
	logged := newLogWriter(e.stderr, logBuffer, func(lines int64) {
		log.Warn("the log was not read as fast as it was written; lines are missing", zap.Int64("lines", lines))
	})
	log = newLog(logged)
	// Without this the first line after the death of who reads the log would end the process.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	defer func() { err = cmp.Or(err, logged.Close(logCloseTimeout)) }()
	if limit := memoryLimit(os.Getenv("GOMEMLIMIT")); limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	if percent := gcPercent(os.Getenv("GOGC")); percent > 0 {
		debug.SetGCPercent(percent)
	}
	for _, w := range c.Warnings() {
		log.Warn("configuration", zap.String("warning", w))
	}
	storeErrors := prometheus.NewCounter(prometheus.CounterOpts{Name: "tokenbudget_store_errors_total", Help: "Times that balances could not be written."})
	overflow := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenbudget_overflow_requests_total", Help: "Requests that shared a counter because their budget had too many subjects, by limit.",
	}, []string{"limit"})
	onStoreError := func(err error) {
		if errors.Is(err, budget.ErrTorn) {
			log.Warn("the store was not closed in good order; nothing that was acknowledged is missing", zap.Error(err))
			return
		}
		storeErrors.Inc()
		log.Error("the store has a fault; while /readyz is not ready, new requests are refused", zap.Error(err))
	}
	store, err := budget.OpenFile(c.Store.File.Dir, budget.WithFsync(c.Store.File.Fsync), budget.WithReport(onStoreError))
	if err != nil {
		return err
	}
	set, err := loadOverrides(c.Store.File.Dir)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	ledger, err := openLedger(ctx, c, set, store, onStoreError, func(limit string, first bool) {
		overflow.WithLabelValues(limit).Inc()
		if first {
			log.Warn("a budget has as many subjects as it may have; new ones share one counter",
				zap.String("limit", limit), zap.String("subject", budget.Overflow))
		}
	})
	if err != nil {
		return err
	}
	// What was served until the end must be written, whatever has ended the rest.
	defer func() {
		if closeErr := ledger.Close(context.WithoutCancel(ctx)); closeErr != nil {
			log.Error("balances could not be written at the end; what the last writes lack is lost", zap.Error(closeErr))
			err = cmp.Or(err, closeErr)
		}
		log.Info("stopped")
	}()

	// The tables of the common encoding are built now rather than by the first request.
	if _, err := tokens.Get("o200k_base"); err != nil {
		return err
	}

	factors := loadFactors(c.Store.File.Dir, log)
	memo, err := count.NewMemo(count.DefaultMemo)
	if err != nil {
		return err
	}
	defer memo.Close()

	reg := prometheus.NewRegistry()
	rules := newLive(path, file, c, set, log, reg)
	rules.warnIdle()
	rules.count = count.Options{Factors: &factors.Factors, Memo: memo}
	settings, err := rules.settings(rules.now.Load())
	if err != nil {
		return err
	}
	reg.MustRegister(memoMetrics(memo)...)
	reg.MustRegister(storeErrors, overflow, logged.dropped(), newGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	certificates := newRotation(log, reg)
	extprocTLS, err := certificates.config("extproc", c.Listen.ExtProcTLS, tls.RequireAndVerifyClientCert, "h2")
	if err != nil {
		return err
	}
	// Who has no certificate may still ask for health, and perhaps show the token.
	adminTLS, err := certificates.config("admin", c.Listen.AdminTLS, tls.VerifyClientCertIfGiven, "http/1.1")
	if err != nil {
		return err
	}
	server := extproc.New(extproc.Options{
		TLS: extprocTLS, Ledger: ledger, Log: log, Metrics: extproc.NewMetrics(reg), Policy: settings.Policy,
		ExchangeTimeout: settings.ExchangeTimeout, IdleTimeout: settings.IdleTimeout, DrainTimeout: settings.DrainTimeout,
		DrainDelay: settings.DrainDelay, ConnectionAge: c.Timeouts.ConnectionAge,
		Overload: settings.Overload,
	})
	rules.ledger, rules.server = ledger, server

	lis, err := listen(c.Listen.ExtProc)
	if err != nil {
		return fmt.Errorf("listen.extproc: %w", err)
	}
	var adminLis net.Listener
	if c.Listen.Admin != "" {
		if adminLis, err = listen(c.Listen.Admin); err != nil {
			return errors.Join(fmt.Errorf("listen.admin: %w", err), lis.Close())
		}
	}

	// The ledger, the learned factors and the admin pages outlive the drain, so they
	// have a context of their own that ends when the server has.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var group errgroup.Group
	if adminLis != nil {
		handler := admin.Handler(admin.Options{
			Balances: ledger.Balances, Gatherer: reg, Identities: rules.identities, Models: factors.List,
			Overrides: rules, Access: rules.access, Notes: func() []string { return append(rules.notes(), server.Notes()...) },
			Ready: func() error {
				if ctx.Err() != nil {
					return errors.New("draining")
				}
				return ledger.Err()
			},
		})
		pages := adminLis
		if adminTLS != nil {
			pages = tls.NewListener(adminLis, adminTLS)
		}
		group.Go(func() error { return admin.Serve(background, pages, handler, newAdminErrors(log)) })
	}
	certificates.start(background, group.Go)
	group.Go(func() error { return ledger.Run(background) })
	group.Go(func() error { return factors.run(background) })
	group.Go(func() error { return rules.watch(background, hangUp) })
	group.Go(func() error {
		defer stopBackground()
		return server.Serve(ctx, lis)
	})
	fields := []zap.Field{zap.String("version", buildVersion()), zap.String("extproc", address(lis)), zap.Int("budgets", budgetCount(c))}
	if adminLis != nil {
		fields = append(fields, zap.String("admin", address(adminLis)))
	}
	log.Info("serving", fields...)
	return group.Wait()
}

// memoryLimit is what the garbage collector is told to stay below, in bytes, if the
// environment does not tell it (GOMEMLIMIT): nine tenths of what this process can have. Then
// it works harder before memory runs out, and overload is noticed in time. 0: the
// environment does.
func memoryLimit(env string) int64 {
	if env != "" {
		return 0
	}
	return extproc.MachineMemory() / 10 * 9
}

// gcPercent is how much the heap may grow until the garbage collector runs, in percent of what
// it left, if the environment does not tell it (GOGC). Half of Go's own: the tables of the
// encodings are most of a small heap, and would let as much garbage lie about. There are hardly
// any pointers in them, so that running twice as often costs nothing that could be measured. 0:
// the environment does.
func gcPercent(env string) int {
	if env != "" {
		return 0
	}
	return 50
}

// newGoCollector shows of the runtime, besides the usual, what overload goes by.
func newGoCollector() prometheus.Collector {
	return collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{
		Matcher: regexp.MustCompile("^/gc/heap/live:bytes$"),
	}))
}

// budgetCount is how many budgets a file has; each is a limit for each of its units.
func budgetCount(c *config.Config) int {
	names := make(map[string]bool)
	for _, l := range c.Budgets {
		names[l.Name] = true
	}
	return len(names)
}

// memoMetrics show how much of the prompts need not be counted again.
func memoMetrics(m *count.Memo) []prometheus.Collector {
	counter := func(name, help string, of func(seen, counted int64) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(of(m.Bytes())) })
	}
	return []prometheus.Collector{
		counter("tokenbudget_memo_seen_bytes_total", "Bytes of messages that the memo of conversations was asked for.", func(seen, _ int64) int64 { return seen }),
		counter("tokenbudget_memo_counted_bytes_total", "Of these, bytes that it did not remember, and that were counted.", func(_, counted int64) int64 { return counted }),
	}
}

// orNone is a configured timeout; none at all is a negative one to the server.
func orNone(timeout time.Duration) time.Duration {
	if timeout == 0 {
		return -1
	}
	return timeout
}

// policy is what a configuration says about exchanges.
func policy(c *config.Config) exchange.Policy {
	p := exchange.Policy{
		Pass: c.Paths.Pass, Deny: c.Paths.Deny, PassUnknown: c.UnknownAPI == config.UnknownPass,
		SilentCut: !c.ClosingComment, CutCompleted: c.ResponsesCut == config.CutCompleted, MaxRequest: c.MaxRequestBody,
		Truncate:       c.Truncate,
		RefuseDegraded: c.Degraded == config.DegradedRefuse, ResetCut: c.DegradedCut == config.DegradedReset,
	}
	switch c.OutputCap {
	case config.CapAlways:
		p.OutputCap = exchange.CapAlways
	case config.CapNever:
		p.OutputCap = exchange.CapNever
	}
	switch c.IncludeUsage {
	case config.UsageAlways:
		p.IncludeUsage = exchange.UsageAlways
	case config.UsageNever:
		p.IncludeUsage = exchange.UsageNever
	}
	counted := make(map[string]bool) // identities that limits look at which do more than watch
	for _, b := range c.Budgets {
		enforced := b.Action != budget.ActionShadow
		for _, name := range b.Per {
			counted[name] = counted[name] || enforced
			p.PlainPath = p.PlainPath || enforced && name == budget.ByPath
			p.OneModel = p.OneModel || enforced && name == budget.ByModel
		}
		for _, m := range b.Match {
			switch m.Property {
			case budget.OfIdentity:
				counted[m.Name] = counted[m.Name] || enforced
			case budget.OfPath:
				p.PlainPath = p.PlainPath || enforced
			case budget.OfModel:
				p.OneModel = p.OneModel || enforced
			case budget.OfHeader:
				names := &p.WatchHeaders
				if enforced {
					names = &p.MatchHeaders
				}
				if !slices.Contains(*names, m.Name) {
					*names = append(*names, m.Name)
				}
			}
		}
	}
	p.WatchHeaders = slices.DeleteFunc(p.WatchHeaders, func(name string) bool { return slices.Contains(p.MatchHeaders, name) })
	p.Keys, p.KeyHeaders = knownKeys(c.APIKeys), c.APIKeys.Headers
	for _, id := range c.Identities {
		sources := make([]exchange.Source, len(id.Sources))
		for i, s := range id.Sources {
			sources[i] = exchange.Source{JWT: s.JWT, Header: s.Header, APIKey: s.APIKey}
		}
		p.Identities = append(p.Identities, exchange.Identity{
			Name: id.Name, Sources: sources, Required: c.Missing == config.MissingRefuse && counted[id.Name],
		})
	}
	return p
}

// mappings is what a configuration says about models.
func mappings(c *config.Config) []count.Mapping {
	all := make([]count.Mapping, len(c.Models))
	for i, m := range c.Models {
		all[i] = count.Mapping{Match: m.Match, As: m.As, Encoding: m.Loaded}
	}
	return all
}

// identityNames are the names by which usage can be summed up: the identities, and
// model and path if a budget is counted per them.
func identityNames(c *config.Config) []string {
	names := make([]string, len(c.Identities))
	for i, id := range c.Identities {
		names[i] = id.Name
	}
	for _, name := range []string{budget.ByModel, budget.ByPath} {
		if slices.ContainsFunc(c.Budgets, func(b budget.Limit) bool { return slices.Contains(b.Per, name) }) {
			names = append(names, name)
		}
	}
	return names
}

// listen listens on "host:port" or "unix:/path". A socket file that a crashed
// server left behind is removed; one that somebody may answer on is not.
func listen(addr string) (net.Listener, error) {
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		return net.Listen("tcp", addr)
	}
	lis, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return lis, err
	}
	if info, statErr := os.Lstat(path); statErr != nil || info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("%w: %s is no socket; move it away, or choose another path", err, path)
	}
	c, dialErr := net.DialTimeout("unix", path, time.Second)
	if dialErr == nil {
		return nil, errors.Join(fmt.Errorf("another server listens on %s; stop it, or choose another path", path), c.Close())
	}
	// Only a refusal says that nobody listens; a server of another user or one that
	// is busy fails in other ways.
	if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, errors.Join(err, dialErr)
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// address is where a listener can be reached, in the form of the configuration. The
// port that the system chooses in place of 0 is known only now.
func address(lis net.Listener) string {
	a := lis.Addr()
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}
