package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/tokenbudget/tokenbudget/internal/certs"
	"github.com/tokenbudget/tokenbudget/internal/certs/certtest"
)

// A change of the files shows in the log and in the metrics, whether it can be used or not.
func TestRotation(t *testing.T) {
	ca := certtest.New(t)
	until := time.Now().Add(time.Hour)
	first, soon := ca.Issue(t, "localhost"), ca.IssueAs(t, func(c *x509.Certificate) { c.NotAfter = until }, "localhost")
	core, logs := observer.New(zap.InfoLevel)
	reg := prometheus.NewRegistry()
	r := newRotation(zap.New(core), reg)
	r.every = time.Millisecond
	if c, err := r.config("admin", nil, tls.NoClientCert, "http/1.1"); c != nil || err != nil {
		t.Errorf("without files: %v, %v", c, err)
	}
	files := certs.Files{Cert: first.CertFile, Key: first.KeyFile, ClientCA: ca.File}
	c, err := r.config("extproc", &files, tls.RequireAndVerifyClientCert, "h2")
	if err != nil || c.ClientAuth != tls.RequireAndVerifyClientCert || len(c.NextProtos) != 1 || c.NextProtos[0] != "h2" {
		t.Fatalf("%+v, %v", c, err)
	}
	expiry := func() float64 {
		return metric(t, reg, "tokenbudget_certificate_expiry_timestamp_seconds", "extproc")
	}
	reloads := func(result string) float64 {
		return metric(t, reg, "tokenbudget_certificate_reloads_total", "extproc", result)
	}
	year := expiry()
	if year < float64(time.Now().AddDate(0, 11, 0).Unix()) || reloads("ok")+reloads("failed") != 0 {
		t.Errorf("at first: until %v, %v reloads", year, reloads("ok")+reloads("failed"))
	}

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	r.start(ctx, func(f func() error) { go func() { ended <- f() }() })
	await := func(what, message string) {
		t.Helper()
		for deadline := time.Now().Add(patience); logs.FilterMessage(message).Len() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not in the log: %v", what, logs.All())
			}
		}
	}
	certtest.Copy(t, soon.KeyFile, files.Key)
	await("the failure", "the changed certificate files cannot be used; those from before stay")
	if expiry() != year || reloads("failed") != 1 {
		t.Errorf("after a failure: until %v, %v failed", expiry(), reloads("failed"))
	}
	certtest.Copy(t, soon.CertFile, files.Cert)
	await("the end that is near", "certificate")
	if expiry() != float64(until.Unix()) || reloads("ok") != 1 || reloads("failed") != 1 || logs.FilterMessage("new certificate").Len() != 1 {
		t.Errorf("after a change: until %v, %v good, %v", expiry(), reloads("ok"), logs.All())
	}
	stop()
	if err := <-ended; err != nil || len(r.sources) != 1 {
		t.Errorf("%d sources, ended with %v", len(r.sources), err)
	}
}

// metric returns the value of a counter or gauge, which must be there, with the values of
// its labels in the order of their names.
func metric(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var values []string
			for _, l := range m.GetLabel() {
				values = append(values, l.GetValue())
			}
			if f.GetName() == name && slices.Equal(values, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is 0
			}
		}
	}
	t.Fatalf("no %s%q", name, labels)
	return 0
}

// What strangers cause is told once; other errors always; probes that only connect never.
func TestAdminErrors(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	l := newAdminErrors(zap.New(core))
	l.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
	for range 3 {
		l.Print("http: TLS handshake error from 192.0.2.1:1: tls: bad certificate")
		l.Print("http: panic serving 192.0.2.1:1")
	}
	if told, others := logs.FilterLevelExact(zap.WarnLevel).Len(), logs.FilterLevelExact(zap.ErrorLevel).Len(); told != 1 || others != 3 {
		t.Errorf("%d refusals and %d others in the log, want 1 and 3: %v", told, others, logs.All())
	}
}
