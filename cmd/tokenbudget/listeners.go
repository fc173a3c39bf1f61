package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/internal/certs"
)

// rotation keeps the certificates of the listeners, and tells what becomes of them.
type rotation struct {
	log     *zap.Logger
	reloads *prometheus.CounterVec
	expiry  *prometheus.GaugeVec
	sources []*certs.Source
	every   time.Duration // how often files are read; 0: the default
}

func newRotation(log *zap.Logger, reg prometheus.Registerer) *rotation {
	r := &rotation{
		log: log,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tokenbudget_certificate_reloads_total", Help: "Changes of a listener's certificate files, by whether they could be used.",
		}, []string{"listener", "result"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tokenbudget_certificate_expiry_timestamp_seconds", Help: "When the certificate ends that a listener serves, in Unix time.",
		}, []string{"listener"}),
	}
	reg.MustRegister(r.reloads, r.expiry)
	return r
}

// config returns the TLS configuration of a listener, or nil if it has no files.
func (r *rotation) config(listener string, f *certs.Files, auth tls.ClientAuthType, protocol string) (*tls.Config, error) {
	if f == nil {
		return nil, nil
	}
	for _, result := range []string{"ok", "failed"} {
		r.reloads.WithLabelValues(listener, result) // a counter that is missing alarms nobody
	}
	show := func(set *certs.Set) { r.expiry.WithLabelValues(listener).Set(float64(set.NotAfter().Unix())) }
	source, err := certs.NewSource(*f, certs.Options{Interval: r.every, OnChange: func(set *certs.Set, err error) {
		at := zap.String("listener", listener)
		if err != nil {
			r.reloads.WithLabelValues(listener, "failed").Inc()
			r.log.Error("the changed certificate files cannot be used; those from before stay", at, zap.Error(err))
			return
		}
		r.reloads.WithLabelValues(listener, "ok").Inc()
		show(set)
		r.log.Info("new certificate", at, zap.Time("until", set.NotAfter().UTC()))
		for _, w := range set.Warnings(time.Now()) {
			r.log.Warn("certificate", at, zap.String("warning", w.Error()))
		}
	}})
	if err != nil {
		return nil, fmt.Errorf("listen.%s: tls: %w", listener, err)
	}
	show(source.Set())
	r.sources = append(r.sources, source)
	return source.ServerConfig(auth, protocol), nil
}

// start watches the files until ctx ends.
func (r *rotation) start(ctx context.Context, run func(func() error)) {
	for _, s := range r.sources {
		run(func() error { return s.Run(ctx) })
	}
}

// adminErrors is where the HTTP server says what went wrong with single connections.
// Those refused in the TLS handshake are told once a minute.
type adminErrors struct {
	log      *zap.Logger
	refusals certs.Refusals
}

func newAdminErrors(l *zap.Logger) *log.Logger { return log.New(&adminErrors{log: l}, "", 0) }

// Write implements [io.Writer]; each call is one message.
func (w *adminErrors) Write(p []byte) (int, error) {
	message := strings.TrimSpace(string(p))
	switch {
	case !strings.HasPrefix(message, "http: TLS handshake error"):
		w.log.Error("admin", zap.String("error", message))
		return len(p), nil
	case strings.HasSuffix(message, ": EOF"): // a probe that only connects
		return len(p), nil
	}
	if n, tell := w.refusals.Tell(time.Now()); tell {
		w.log.Warn("a connection to listen.admin was refused in the TLS handshake", zap.String("error", message), zap.Int64("refused", n))
	}
	return len(p), nil
}
