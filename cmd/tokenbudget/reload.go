package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/internal/config"
)

const (
	reloadEvery  = 2 * time.Second        // how often the file is read
	reloadSettle = 200 * time.Millisecond // for how long it must stay the same; an editor empties it before it writes
	settleTries  = 10                     // after these it is left to the next time
)

// reading is what the configuration file holds, or why it cannot be read.
type reading struct {
	data []byte
	err  error
}

func readConfig(path string) reading {
	data, err := config.ReadFile(path)
	return reading{data, err}
}

// readRunning is readConfig for a server that runs, and that must not wait for a pipe.
func readRunning(path string) reading {
	data, err := config.ReadRunning(path)
	return reading{data, err}
}

// equal says whether two readings are the same, as far as loading is concerned.
func (r reading) equal(other reading) bool {
	return bytes.Equal(r.data, other.data) && (r.err == nil) == (other.err == nil)
}

// reloading is what a server knows of its configuration file. The file is read again and
// again rather than watched: a mounted ConfigMap is a chain of symbolic links, of which
// only one in the middle is swapped.
type reloading struct {
	seen    reading                   // at the last look; of watch only
	read    func(path string) reading // readRunning, but for tests
	every   time.Duration
	settle  time.Duration
	refused atomic.Pointer[time.Time] // since when the file is one that cannot be used; nil: it is not

	reloads *prometheus.CounterVec
	success prometheus.Gauge
}

func newReloading(first reading, reg prometheus.Registerer) *reloading {
	r := &reloading{
		seen: first, read: readRunning, every: reloadEvery, settle: reloadSettle,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenbudget_config_reloads_total", Help: "Changes of the configuration file, and SIGHUPs, by whether the file could be used.",
		}, []string{"result"}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tokenbudget_config_last_reload_success_timestamp_seconds", Help: "When the configuration file was last loaded, in Unix time.",
		}),
	}
	for _, result := range []string{"ok", "failed"} {
		r.reloads.WithLabelValues(result) // a counter that is missing alarms nobody
	}
	r.success.SetToCurrentTime()
	reg.MustRegister(r.reloads, r.success)
	return r
}

// watch loads the file when it has changed, or hangUp says so, until ctx ends; then it
// returns nil. It is to be called once.
func (l *live) watch(ctx context.Context, hangUp <-chan os.Signal) error {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangUp:
			l.look(ctx, true)
		case <-tick.C:
			l.look(ctx, false)
		}
	}
}

// look loads the file if it has changed since the last look, or in any case. It waits
// until the file stays the same.
func (l *live) look(ctx context.Context, anyway bool) {
	now := l.read(l.path)
	if !anyway && now.equal(l.seen) {
		return
	}
	for try := 0; ; try++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.settle):
		}
		again := l.read(l.path)
		if again.equal(now) {
			break
		}
		if now = again; try == settleTries && !anyway {
			return
		}
	}
	if !anyway && now.equal(l.seen) {
		return // it is as it was again
	}
	l.seen = now
	l.reload(ctx, now, anyway)
}

// reload loads what was read. What is wrong with it is told once; what was in effect
// stays then.
func (l *live) reload(ctx context.Context, r reading, anyway bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	file, err := (*config.Config)(nil), r.err
	if err == nil {
		file, err = config.ParseRunning(l.path, r.data)
	}
	before := l.now.Load()
	var c *config.Config
	var restart []string
	if err == nil {
		c, restart = running(before.config, file, anyway)
		err = l.apply(ctx, &ruling{c, before.overrides})
	}
	if err != nil {
		since := time.Now()
		l.refused.CompareAndSwap(nil, &since)
		l.reloads.WithLabelValues("failed").Inc()
		l.log.Error("the configuration file cannot be used; what it said before stays in effect",
			zap.Strings("mistakes", strings.Split(err.Error(), "\n")))
		return
	}
	l.refused.Store(nil)
	l.reloads.WithLabelValues("ok").Inc()
	l.success.SetToCurrentTime()
	l.log.Info("the configuration file was loaded", zap.Strings("changes", changes(before.config, c)))
	for _, key := range restart {
		l.log.Warn("configuration", zap.String("warning", key+" has changed in the file and needs a restart; the rest of the file counts"))
	}
	if w := renderAgain(before.config, c); w != "" {
		l.log.Warn("configuration", zap.String("warning", w))
	}
	for _, w := range c.Warnings() {
		l.log.Warn("configuration", zap.String("warning", w))
	}
	l.warnIdle()
}

// running returns the configuration that a server which runs by old can run by when the
// file has changed to c, and the keys which that leaves as they were. Tokenizers are kept
// if the section says the same, unless anew is set: to read them takes its time.
func running(old, c *config.Config, anew bool) (*config.Config, []string) {
	next := *c
	var restart []string
	keep := func(key string, same bool, f func()) {
		if !same {
			restart = append(restart, key)
			f()
		}
	}
	listen := old.Insecure == c.Insecure && reflect.DeepEqual(old.Listen, c.Listen)
	keep("listen", listen, func() {
		next.Listen, next.Insecure = old.Listen, old.Insecure
		// What the addresses need was checked together with the token.
		keep("admin_token", old.AdminToken == c.AdminToken, func() { next.AdminToken = old.AdminToken })
	})
	keep("store", old.Store == c.Store, func() { next.Store = old.Store })
	keep("max_request_body", old.MaxRequestBody == c.MaxRequestBody, func() { next.MaxRequestBody = old.MaxRequestBody })
	age := &next.Timeouts.ConnectionAge // gRPC is told at the start
	keep("timeouts.connection_age", old.Timeouts.ConnectionAge == *age, func() { *age = old.Timeouts.ConnectionAge })
	if !anew && slices.EqualFunc(old.Models, c.Models, sameModel) {
		next.Models = old.Models
	}
	return &next, restart
}

// renderAgain says so if Envoy's rendered configuration would be another one, as far as
// that decides whom Envoy lets claim what, what it meters, and how long it waits.
func renderAgain(old, c *config.Config) string {
	const render = " changed: render Envoy's configuration again (tokenbudget envoy); until then "
	var all []string
	if !slices.Equal(setByEnvoy(old), setByEnvoy(c)) {
		all = append(all, "headers with set_by: envoy have"+render+"clients may set the new ones")
	}
	if !slices.Equal(old.Paths.Pass, c.Paths.Pass) ||
		// What Envoy lets pass never gets here to be refused.
		len(c.Paths.Pass) > 0 && !slices.Equal(old.Paths.Deny, c.Paths.Deny) {
		all = append(all, "paths that pass have"+render+"Envoy lets those pass which it knows, neither metered nor refused")
	}
	if throttles(c) && !throttles(old) {
		all = append(all, "what throttles has"+render+"Envoy fails requests that wait for longer than its message_timeout")
	}
	return strings.Join(all, "; ")
}

// setByEnvoy are the headers of which Envoy must remove the client's copy.
func setByEnvoy(c *config.Config) (names []string) {
	for _, id := range c.Identities {
		for _, s := range id.Sources {
			if s.SetByEnvoy {
				names = append(names, s.Header)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func sameModel(a, b config.Model) bool {
	return slices.Equal(a.Match, b.Match) && a.As == b.As && a.Encoding == b.Encoding && a.Tokenizer == b.Tokenizer
}

// notes is what /readyz says about the configuration file. Everybody may read it, so it
// shows nothing of the file.
func (l *live) notes() []string {
	since := l.refused.Load()
	if since == nil {
		return nil
	}
	return []string{"the configuration file cannot be used since " + since.UTC().Format(time.RFC3339) + "; what it said before is in effect (the log says why)"}
}

// firstConfig reads the configuration of a server that starts.
func firstConfig(e env, path string) (reading, *config.Config, error) {
	if path == "" {
		return reading{}, nil, usagef("-config is missing")
	}
	r := readConfig(path)
	if errors.Is(r.err, os.ErrNotExist) {
		_, err := loadConfig(e, path) // says more
		return r, nil, err
	}
	if r.err != nil {
		return r, nil, r.err
	}
	c, err := loadWith(func(name string) (*config.Config, error) { return config.Parse(name, r.data, os.LookupEnv) }, e, path)
	return r, c, err
}
