package envoy

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const api = "https://api.openai.com"

// TestMistakes: every mistake is an error which names the field.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		opts Options
		want string
	}{
		{Options{}, "Upstream: is required"},
		{Options{Upstream: "api.openai.com"}, "Upstream: \"api.openai.com\" is not a URL"},
		{Options{Upstream: "ftp://api.openai.com"}, "is not a URL"},
		{Options{Upstream: "https://"}, "is not a URL"},
		{Options{Upstream: api + "/v1"}, "must end after the host and port"},
		{Options{Upstream: api + "?a=b"}, "must end after the host and port"},
		{Options{Upstream: "https://me:secret@api.openai.com"}, "user or password"},
		{Options{Upstream: "https://api.openai.com:0"}, "0 is not a port"},
		{Options{Upstream: "https://api.openai.com:65536"}, "65536 is not a port"},
		{Options{Upstream: api, Listen: "localhost:10000"}, "Listen: \"localhost:10000\" is a name"},
		{Options{Upstream: api, Listen: "127.0.0.1"}, "Listen: \"127.0.0.1\" is neither"},
		{Options{Upstream: api, Listen: "127.0.0.1:http"}, "\"http\" is not a port"},
		{Options{Upstream: api, Admin: "localhost:9901"}, "Admin: "},
		{Options{Upstream: api, ExtProc: "unix:run/socket"}, "ExtProc: \"unix:run/socket\": the path of the socket must be absolute"},
		{Options{Upstream: api, ExtProc: "localhost:0"}, "ExtProc: \"localhost:0\" needs a port"},
		{Options{Upstream: api, ExtProc: "10.0.0.1:9002,10.0.0.2:0"}, "ExtProc: \"10.0.0.2:0\" needs a port"},
		{Options{Upstream: api, ExtProc: "10.0.0.1:9002,"}, "ExtProc: \"\" is neither"},
		{Options{Upstream: api, ExtProc: "10.0.0.1:9002, 10.0.0.1:9002"}, "is there twice"},
		{Options{Upstream: api, ExtProc: "unix:/a,tokenbudget-0:9002"}, "sockets and names"},
		{Options{Upstream: api, ExtProc: manyAddresses(maxServers + 1)}, "more than 64 servers"},
		{Options{Upstream: api, ExtProc: "a:1,b:1", ExtProcTLS: &ClientTLS{CAFile: "/a"}}, "set ServerName"},
		{Options{Upstream: api, ExtProcTLS: &ClientTLS{}}, "CAFile is required"},
		{Options{Upstream: api, ExtProcTLS: &ClientTLS{CAFile: "/a", CertFile: "/b"}}, "belong together"},
		{Options{Upstream: api, ExtProc: "unix:/a", ExtProcTLS: &ClientTLS{CAFile: "/a"}}, "set ServerName"},
		{Options{Upstream: api, MessageTimeout: time.Microsecond}, "MessageTimeout"},
		{Options{Upstream: api, IdleTimeout: -1}, "IdleTimeout"},
		{Options{Upstream: api, MaxConnections: -1}, "MaxConnections"},
		{Options{Upstream: api, StripHeaders: []string{":path"}}, "StripHeaders: \":path\""},
		{Options{Upstream: api, StripHeaders: []string{"Host"}}, "host cannot be removed"},
		{Options{Upstream: api, PassPaths: []string{"health"}}, "PassPaths: \"health\" does not begin with /"},
		{Options{Upstream: api, Identities: []string{"a:b"}}, "Identities: \"a:b\""},
	} {
		for name, render := range map[string]func(Options) ([]byte, error){"bootstrap": BootstrapYAML, "filter": FilterYAML} {
			_, err := render(tt.opts)
			if name == "filter" && reflect.DeepEqual(tt.opts, Options{}) {
				if err != nil {
					t.Errorf("a filter needs no upstream, but: %v", err)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s, %+v: error %v, want %q", name, tt.opts, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		}
	}
	_, err := Bootstrap(Options{Listen: "a", Admin: "b"})
	for _, field := range []string{"Listen", "Admin", "Upstream"} {
		if err == nil || !strings.Contains(err.Error(), "envoy: "+field) {
			t.Errorf("three mistakes: the error does not name %s: %v", field, err)
		}
	}
}

func manyAddresses(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = "10.0.0.1:" + strconv.Itoa(i+1)
	}
	return strings.Join(all, ",")
}

// TestOptionsStay: rendering does not write into the caller's slices.
func TestOptionsStay(t *testing.T) {
	o := full
	o.StripHeaders = slices.Clone(full.StripHeaders)
	o.Identities = append(make([]string, 0, 100), full.Identities...)
	if _, err := BootstrapYAML(o); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(o, full) || o.Identities[:3][2] != "" {
		t.Errorf("options are now %+v", o)
	}
}

// TestAuthority: the upstream is asked for under its own name.
func TestAuthority(t *testing.T) {
	for url, want := range map[string]string{
		"https://api.openai.com":     "api.openai.com",
		"https://api.openai.com:443": "api.openai.com",
		"https://api.openai.com:80":  "api.openai.com:80",
		"http://localhost:8000/":     "localhost:8000",
		"http://localhost":           "localhost",
		"https://[::1]":              "[::1]",
		"https://[::1]:8443":         "[::1]:8443",
	} {
		s, err := Options{Upstream: url}.resolve(true)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := s.authority(); got != want {
			t.Errorf("%s: authority %q, want %q", url, got, want)
		}
	}
}

// TestReachable: an address at which the server listens is none at which other pods reach it, and
// what cannot work in a mesh is refused.
func TestReachable(t *testing.T) {
	for _, tt := range []struct {
		extProc, upstream string
		sidecar           bool
		istio, gateway    string // what the error says; empty: none
	}{
		{"tokenbudget.llm.svc.cluster.local:9002", "https://api.openai.com", false, "", ""},
		{"127.0.0.1:9002", "https://api.openai.com", false, "", "-extproc tokenbudget"}, // Istio: it may be in the gateway's pod
		{"[::1]:9002", "https://api.openai.com", true, "", "-extproc tokenbudget"},
		{":9002", "https://api.openai.com", false, "-extproc tokenbudget", "-extproc tokenbudget"},
		{"[::]:9002", "https://api.openai.com", true, "-extproc tokenbudget", "-extproc tokenbudget"},
		{"unix:/run/tokenbudget.sock", "https://api.openai.com", true, "", ""},
		{"tokenbudget.llm.svc.cluster.local:9002", "https://model.llm.svc.cluster.local", false, "", ""},
		{"tokenbudget.llm.svc.cluster.local:9002", "https://model.llm.svc.cluster.local", true, "port for http", ""},
	} {
		o := Options{ExtProc: tt.extProc, Upstream: tt.upstream}
		for want, render := range map[string]func() ([]byte, error){
			"istio: " + tt.istio:     func() ([]byte, error) { return IstioYAML(o, Mesh{Sidecar: tt.sidecar}) },
			"gateway: " + tt.gateway: func() ([]byte, error) { return GatewayYAML(o, Mesh{}) },
		} {
			_, says, _ := strings.Cut(want, ": ")
			if _, err := render(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("%+v: %v, want %q", o, err, want)
			}
		}
	}
}
