package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/envoy"
)

// TestOtherServer: of two servers one cannot be reached, and Envoy has not noticed. Each exchange
// begins at the other one, and is charged once. Without the retries half of them fail.
func TestOtherServer(t *testing.T) {
	const requests = 20
	r := newRoad(t, roadOptions{limits: plenty()})
	without := func(what, until string) func([]byte) []byte {
		return func(bootstrap []byte) []byte {
			text := string(bootstrap)
			from := strings.Index(text, what)
			to := strings.Index(text[max(from, 0):], until)
			if from < 0 || to < 0 {
				t.Fatalf("no %q, or no %q behind it, in the rendered configuration", what, until)
			}
			return []byte(text[:from] + text[from+to:])
		}
	}
	unnoticed := without("      # A server that is about to go", "      # Streams are long")
	for name, edit := range map[string]func([]byte) []byte{
		"rendered": unnoticed,
		"control": func(b []byte) []byte {
			return without("                        # An exchange that could not begin", "                      # These belong together")(unnoticed(b))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.edit = edit
			r.startEnvoyWith(t.Context(), t, envoy.Options{Upstream: r.up.URL(), ExtProc: "127.0.0.1:1," + r.extProc})
			hc := client(false)
			defer hc.CloseIdleConnections()
			answered := 0
			for i := range requests {
				id := fmt.Sprint(name, i)
				resp, _, err := r.do(t.Context(), hc, call{
					id: id, user: name, body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
					headers: map[string]string{"x-standin-interval": "0"},
				})
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode == 200 {
					answered++
					if _, err := r.finished(id); err != nil {
						t.Error(err)
					}
				}
			}
			if lines := len(r.exchanges(name)); lines != answered {
				t.Errorf("%d exchanges for %d answers", lines, answered)
			}
			if failed := requests - answered; name == "rendered" && failed != 0 || name == "control" && failed == 0 {
				t.Errorf("%d of %d requests failed", failed, requests)
			}
		})
	}
}
