package stage

import (
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

const limitedAnswer = `{"overallCode":"OK", "statuses":[{"code":"OK", "currentLimit":{"requestsPerUnit":4294967295, "unit":"MONTH"}, "limitRemaining":4294966295, "durationUntilReset":"500421s"}]}`

func TestParseLimited(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       Limited
	}{
		{"some", limitedAnswer, Limited{1000, 500421 * time.Second}},
		{"none left", `{"statuses":[{"code":"OK","currentLimit":{"requestsPerUnit":7},"durationUntilReset":"0s"}]}`, Limited{7, 0}},
		{"no limit", `{"overallCode":"OK","statuses":[{"code":"OK"}]}`, Limited{}},
		{"no status", `{"overallCode":"OK"}`, Limited{}},
		{"over", `{"statuses":[{"code":"OVER_LIMIT","currentLimit":{"requestsPerUnit":7},"durationUntilReset":"5s"}]}`, Limited{}},
		{"more left than there was", `{"statuses":[{"code":"OK","currentLimit":{"requestsPerUnit":7},"limitRemaining":8,"durationUntilReset":"5s"}]}`, Limited{}},
		{"a negative limit", `{"statuses":[{"code":"OK","currentLimit":{"requestsPerUnit":-7},"durationUntilReset":"5s"}]}`, Limited{}},
		{"no time", `{"statuses":[{"code":"OK","currentLimit":{"requestsPerUnit":7}}]}`, Limited{}},
		{"no JSON", `over`, Limited{}},
	} {
		got, err := parseLimited([]byte(tt.body))
		if (err == nil) != (tt.want != Limited{}) || got != tt.want {
			t.Errorf("%s: %+v, error %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func FuzzLimited(f *testing.F) {
	f.Add([]byte(limitedAnswer))
	f.Add([]byte(`{"statuses":[{"code":"OK","currentLimit":{},"durationUntilReset":"-5s"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseLimited(body)
		if l.Tokens < 0 || l.Tokens > 1<<32-1 || l.Left < 0 {
			t.Fatalf("%+v, error %v", l, err)
		}
	})
}

// Envoy takes the filters, in front of either upstream.
func TestRateLimitBootstrap(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Envoy")
	}
	for _, http2 := range []bool{false, true} {
		o := envoy.Options{Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", Upstream: "http://127.0.0.1:1", UpstreamHTTP2: http2, ExtProc: "127.0.0.1:2"}
		bootstrap, err := withOtherFilters(o, rateLimitFilters)
		if err != nil {
			t.Fatal(err)
		}
		if err := envoyrun.Validate(t.Context(), bootstrap); err != nil {
			t.Errorf("HTTP/2 %t: %v", http2, err)
		}
	}
}
