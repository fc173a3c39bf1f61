package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// cuts is how many streams are cut for each combination of HTTP versions.
const cuts = 250

// TestCuts cuts a thousand streams in mid-answer.
func TestCuts(t *testing.T) { cutStreams(t, "", cuts) }

// TestCutsOldest: the oldest Envoy that the configuration is for cuts streams as well.
func TestCutsOldest(t *testing.T) {
	path, err := envoyrun.FindVersion(t.Context(), envoyrun.Versions[0])
	if err != nil {
		t.Fatal(err)
	}
	cutStreams(t, path, 20)
}

// cutStreams cuts streams behind the Envoy at path, or the usual one.
func cutStreams(t *testing.T, path string, cuts int) {
	const limit = 60
	o := roadOptions{
		limits: []budget.Limit{
			perUser("user-year", budget.Tokens, limit),
			{Name: "all", Unit: budget.Tokens, Amount: 1e9, Period: budget.Year},
		},
		interval:  2 * time.Millisecond,
		envoyPath: path,
	}
	var latencies []time.Duration
	combinations(t, o, func(t *testing.T, r *road, hc *http.Client) {
		var mu sync.Mutex
		var g errgroup.Group
		g.SetLimit(16)
		name := strings.ReplaceAll(t.Name(), "/", "-")
		for i := range cuts {
			g.Go(func() error {
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				id := fmt.Sprintf("%s-%d", name, i)
				// Prompts of many lengths put the cut in many places; writes of
				// many sizes put the limit between messages and inside of them.
				c := call{id: id, user: id, headers: map[string]string{
					"x-standin-recording": "openai/chat-streaming",
					"x-standin-repeat":    "40", "x-standin-stall-after": "1000", // it does not end by itself
				}, body: fmt.Sprintf(`{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":%q}]}`, strings.Repeat("word ", rng.IntN(25)))}
				switch i % 4 {
				case 1:
					c.headers["x-standin-burst"] = fmt.Sprint(1 + rng.IntN(20))
				case 2:
					c.headers["x-standin-split"] = fmt.Sprint(50 + rng.IntN(2000))
				}
				resp, body, err := r.do(t.Context(), hc, c)
				if err != nil {
					return fmt.Errorf("%s: no clean end: %w", id, err)
				}
				if resp.StatusCode != http.StatusOK {
					return fmt.Errorf("%s: %s %s", id, resp.Status, body)
				}
				s, err := r.finished(id)
				if err != nil {
					return err
				}
				ex, err := r.up.WaitExchange(t.Context(), id)
				if err != nil {
					return err
				}
				if ex.Completed || ex.CancelledAt.IsZero() || ex.EventsSent >= ex.EventsTotal {
					return fmt.Errorf("%s: the upstream was not cancelled: %d of %d events sent", id, ex.EventsSent, ex.EventsTotal)
				}
				mu.Lock()
				latencies = append(latencies, max(0, ex.CancelledAt.Sub(s.cutAt)))
				mu.Unlock()
				return checkCut(body, s, "user-year")
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		var all int64
		for i := range cuts {
			id := fmt.Sprintf("%s-%d", name, i)
			b := r.balance(t, "user-year", id)
			all += b.Spent
			entries := r.exchanges(id)
			if len(entries) != 1 {
				t.Fatalf("%s: %d log lines, want 1", id, len(entries))
			}
			fields := entries[0].ContextMap()
			if fields["outcome"] != "cut" || fields["limit"] != "user-year" {
				t.Errorf("%s: the log says %v by %v", id, fields["outcome"], fields["limit"])
			}
			s := r.tap.of(id)
			arrived, delivered := count(t, s.in.Bytes()), count(t, s.out.Bytes())
			input := fields["input_tokens"].(int64)
			if b.Held != 0 || b.Spent != input+arrived {
				t.Errorf("%s: the ledger says spent %d, held %d; input %d and output %d reached the server", id, b.Spent, b.Held, input, arrived)
			}
			if input+delivered > limit {
				t.Errorf("%s: %d tokens were delivered with %d in the prompt; the limit is %d", id, delivered, input, limit)
			}
			if delivered == 0 || delivered > arrived {
				t.Errorf("%s: %d tokens delivered of %d that arrived", id, delivered, arrived)
			}
		}
		for _, b := range r.balances(t) {
			if b.Limit == "all" && b.Held != 0 {
				t.Errorf("%d tokens are still held", b.Held)
			}
		}
		// Envoy's own log is where its users see a cut.
		want := fmt.Sprintf("%q:%q", "user", fmt.Sprintf("%s-%d", name, cuts-1))
		logged := func() bool {
			log := r.envoy.Output()
			return strings.Contains(log, want) && strings.Contains(log, `"outcome":"cut"`) && strings.Contains(log, `"limit":"user-year"`)
		}
		for end := time.Now().Add(patience); !logged(); time.Sleep(10 * time.Millisecond) { // Envoy writes it in turns
			if time.Now().After(end) {
				t.Fatalf("Envoy's access log lacks %s or the cut's metadata", want)
			}
		}
	})
	if len(latencies) > 0 {
		slices.Sort(latencies)
		n := len(latencies)
		t.Logf("%d cuts; from the cut's message to the upstream seeing its cancellation: p50 %v, p99 %v, most %v",
			n, latencies[n/2], latencies[n*99/100], latencies[n-1])
	}
}

// checkCut checks one cut answer as the client got it.
func checkCut(body []byte, s *seen, limit string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(body, s.out.Bytes()) {
		return fmt.Errorf("the client got %d bytes, %d left the server", len(body), s.out.Len())
	}
	at := bytes.LastIndex(body, []byte(": tokenbudget: cut, limit "+limit+"\n"))
	if at < 0 {
		return fmt.Errorf("no comment names the limit in %q", tail(body))
	}
	if !bytes.HasPrefix(s.in.Bytes(), body[:at]) {
		return fmt.Errorf("what stands before the cut is not what came from the upstream: %d bytes of %d, ending in %q", at, s.in.Len(), tail(body[:at]))
	}
	_, end, _ := bytes.Cut(body[at:], []byte("\n"))
	events := strings.Split(string(end), "\n\n")
	if len(events) != 3 || !strings.Contains(events[0], `"finish_reason":"length"`) || events[1] != "data: [DONE]" || events[2] != "" {
		return fmt.Errorf("closing events: %q", events)
	}
	return nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-300):] }

// TestCutUpstreamSilent: deadlines and a drain cut a stream whose upstream says nothing.
func TestCutUpstreamSilent(t *testing.T) {
	for _, tt := range []struct {
		name, limit string
		configure   func(*extproc.Options)
	}{
		{"idle", "(idle)", func(o *extproc.Options) { o.IdleTimeout = 2 * time.Second }},
		{"deadline", "(deadline)", func(o *extproc.Options) { o.ExchangeTimeout = 3 * time.Second }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := roadOptions{limits: []budget.Limit{perUser("user-year", budget.Tokens, 1e6)}, interval: time.Millisecond, configure: tt.configure}
			combinations(t, o, func(t *testing.T, r *road, hc *http.Client) {
				id := strings.ReplaceAll(t.Name(), "/", "-")
				resp, body, err := r.do(t.Context(), hc, call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`,
					headers: map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-stall-after": "5"}})
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatalf("%v %v", resp, err)
				}
				s, err := r.finished(id)
				if err != nil {
					t.Fatal(err)
				}
				ex, err := r.up.WaitExchange(t.Context(), id)
				if err != nil || ex.CancelledAt.IsZero() {
					t.Fatalf("the upstream was not cancelled: %+v, %v", ex, err)
				}
				if err := checkCut(body, s, tt.limit); err != nil {
					t.Error(err)
				}
				if b := r.balance(t, "user-year", id); b.Held != 0 || b.Spent != 3+count(t, s.in.Bytes()) {
					t.Errorf("the ledger says %+v", b)
				}
			})
		})
	}
}
