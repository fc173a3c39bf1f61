package live

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/doctor"
)

// TestRendered: nothing is found in what tokenbudget renders, however the server is reached.
func TestRendered(t *testing.T) {
	for name, o := range map[string]envoy.Options{
		"address":         {ExtProc: "127.0.0.1:9002"},
		"name":            {ExtProc: "tokenbudget.llm.svc.cluster.local:9002", UpstreamHTTP2: true},
		"socket":          {ExtProc: "unix:/run/tokenbudget.sock", PassPaths: []string{"/health"}, DenyPaths: []string{"/v1/files*"}},
		"several":         {ExtProc: "a.llm:9002,b.llm:9002", StripHeaders: []string{"x-team"}},
		"several sockets": {ExtProc: "unix:/run/a.sock,unix:/run/b.sock"},
		"TLS":             {ExtProc: "tokenbudget.llm:9002", ExtProcTLS: &envoy.ClientTLS{CAFile: "ca.crt", CertFile: "tls.crt", KeyFile: "tls.key"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Upstream = "https://api.openai.com"
			o = o.WithDefaults()
			b, err := envoy.Bootstrap(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, dynamic := range []bool{false, true} {
				d, err := doctor.Parse(written(t, b, dynamic))
				if err != nil {
					t.Fatal(err)
				}
				check(t, doctor.Examine(d, doctor.Options{MaxRequestBody: int64(o.MaxRequestBody), MessageTimeout: o.MessageTimeout, StripHeaders: o.StripHeaders}), "")
			}
		})
	}
}

// TestEnvoyGateway: nothing is found in what Envoy Gateway 1.9.1 itself makes of what is rendered for it, for
// two servers, with TLS, a throttling budget, a header that only Envoy may set and a path that is not metered:
// listeners, clusters and routes of "egctl experimental translate", with fields named as Envoy's admin
// interface names them, and without metadata.
func TestEnvoyGateway(t *testing.T) {
	raw, err := os.ReadFile("testdata/envoy-gateway.json")
	if err != nil {
		t.Fatal(err)
	}
	o := doctor.Options{MaxRequestBody: 16 << 20, MessageTimeout: 9 * time.Second, MaxMessageTimeout: 65 * time.Second, StripHeaders: []string{"x-team"}}
	for _, tt := range []struct{ old, other, rule string }{
		{"", "", ""},
		{`"connect-failure,refused-stream"`, `"refused-stream"`, "server-retry"},
		{`"max_message_timeout": "65s"`, `"max_message_timeout": "1s"`, "max-message-timeout"},
		{`"connection_keepalive"`, `"no_keepalive"`, "keepalive"},
	} {
		if !strings.Contains(string(raw), tt.old) {
			t.Fatalf("there is no %s to break", tt.old)
		}
		d, err := doctor.Parse([]byte(strings.Replace(string(raw), tt.old, tt.other, 1)))
		if err != nil {
			t.Fatal(err)
		}
		check(t, doctor.Examine(d, o), tt.rule)
	}
}
