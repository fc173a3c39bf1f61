package live

import (
	"testing"

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
