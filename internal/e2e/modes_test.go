package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/envoy"
	"github.com/tokenbudget/tokenbudget/extproc"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
	"github.com/tokenbudget/tokenbudget/internal/standin"
)

// modeCase is a configuration of Envoy's filter other than the rendered one, and what comes
// of it.
type modeCase struct {
	name  string
	set   map[string]string // of processing_mode
	extra string            // a line of the filter
	reset bool              // degraded_cut: reset

	degraded string // what log and metric say
	refusal  string // of a refused request, what the upstream has seen: nothing, or headers
	blind    bool   // the prompt is not seen, so its tokens are the provider's or an estimate
	late     bool   // the client gets a stream only when it is over
	unseen   bool   // the answer is not seen: it costs what was held
	cut      cutKind
}

// cutKind is how a stream that passes its limit is ended.
type cutKind int

const (
	cutEnded     cutKind = iota // the client gets a clean end, and the upstream is cancelled
	cutSwallowed                // the client gets its end at once, but the upstream goes on, and is charged
	cutReset                    // the closing events arrive, then the connection breaks; the upstream is cancelled
	cutShortened                // the client gets less of an answer that is over
	cutNone                     // it is not
)

var modeCases = []modeCase{
	{
		name: "usual", refusal: "nothing", cut: cutEnded,
	},
	{
		name: "response=STREAMED", set: map[string]string{"response_body_mode": "STREAMED", "response_trailer_mode": "SKIP"},
		degraded: "response_body_mode=STREAMED", refusal: "nothing", cut: cutSwallowed,
	},
	{
		name: "response=STREAMED,trailers=SEND", set: map[string]string{"response_body_mode": "STREAMED"},
		degraded: "response_body_mode=STREAMED", refusal: "nothing", cut: cutSwallowed,
	},
	{
		name: "response=STREAMED,reset", set: map[string]string{"response_body_mode": "STREAMED", "response_trailer_mode": "SKIP"}, reset: true,
		degraded: "response_body_mode=STREAMED", refusal: "nothing", cut: cutReset,
	},
	{
		name: "response=STREAMED,headers=SKIP", set: map[string]string{"response_body_mode": "STREAMED", "response_header_mode": "SKIP", "response_trailer_mode": "SKIP"},
		degraded: "response_body_mode=STREAMED,response_header_mode=SKIP", refusal: "nothing", cut: cutSwallowed,
	},
	{
		name: "response headers=SKIP", set: map[string]string{"response_header_mode": "SKIP"},
		degraded: "response_header_mode=SKIP", refusal: "nothing", cut: cutEnded,
	},
	{
		name: "response=BUFFERED", set: map[string]string{"response_body_mode": "BUFFERED", "response_trailer_mode": "SKIP"},
		degraded: "response_body_mode=BUFFERED", refusal: "nothing", late: true, cut: cutShortened,
	},
	{
		name: "response=BUFFERED_PARTIAL", set: map[string]string{"response_body_mode": "BUFFERED_PARTIAL", "response_trailer_mode": "SKIP"},
		degraded: "response_body_mode=BUFFERED_PARTIAL", refusal: "nothing", late: true, cut: cutShortened,
	},
	{
		name: "response=NONE", set: map[string]string{"response_body_mode": "NONE", "response_trailer_mode": "SKIP"},
		degraded: "response_body_mode=NONE", refusal: "nothing", unseen: true, cut: cutNone,
	},
	{
		name: "response=NONE,headers=SKIP", set: map[string]string{"response_body_mode": "NONE", "response_header_mode": "SKIP", "response_trailer_mode": "SKIP"},
		degraded: "response_body_mode=NONE", refusal: "nothing", unseen: true, cut: cutNone,
	},
	{
		name: "request=STREAMED", set: map[string]string{"request_body_mode": "STREAMED"},
		degraded: "request_body_mode=STREAMED", refusal: "headers", cut: cutEnded,
	},
	{
		name: "request=STREAMED,nowait", set: map[string]string{"request_body_mode": "STREAMED"}, extra: "send_body_without_waiting_for_header_response: true",
		degraded: "request_body_mode=STREAMED", refusal: "headers", cut: cutEnded,
	},
	{
		name: "request=FULL_DUPLEX_STREAMED", set: map[string]string{"request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND"},
		degraded: "request_body_mode=FULL_DUPLEX_STREAMED", refusal: "nothing", cut: cutEnded,
	},
	{
		name: "request=BUFFERED_PARTIAL", set: map[string]string{"request_body_mode": "BUFFERED_PARTIAL"},
		degraded: "request_body_mode=BUFFERED_PARTIAL", refusal: "nothing", cut: cutEnded,
	},
	{
		name: "request=NONE", set: map[string]string{"request_body_mode": "NONE"},
		degraded: "request_body_mode=NONE", refusal: "nothing", blind: true, cut: cutEnded,
	},
	{
		name: "both=STREAMED", set: map[string]string{"request_body_mode": "STREAMED", "response_body_mode": "STREAMED", "response_trailer_mode": "SKIP"},
		degraded: "request_body_mode=STREAMED,response_body_mode=STREAMED", refusal: "headers", cut: cutSwallowed,
	},
}

// filter puts the case's settings into a rendered configuration.
func (c *modeCase) filter(t *testing.T, bootstrap []byte) []byte {
	t.Helper()
	lines := strings.Split(string(bootstrap), "\n")
	found := 0
	for i, line := range lines {
		key, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		if v, ok := c.set[key]; ok {
			found++
			lines[i] = indent + key + ": " + v
		}
		if key == "processing_mode" && c.extra != "" {
			lines[i] = indent + c.extra + "\n" + line
		}
	}
	if found != len(c.set) {
		t.Fatalf("the rendered configuration lacks some of %v", c.set)
	}
	return []byte(strings.Join(lines, "\n"))
}

// TestModes shows what client, upstream, ledger and log get in every mode that Envoy's filter
// can be in.
func TestModes(t *testing.T) {
	for _, c := range modeCases {
		t.Run(c.name, func(t *testing.T) {
			for _, http2 := range []bool{false, true} {
				t.Run(map[bool]string{false: "http1", true: "http2"}[http2], func(t *testing.T) {
					r := newRoad(t, roadOptions{
						limits:   []budget.Limit{perUser("user-year", budget.Tokens, modeLimit)},
						policy:   exchange.Policy{ResetCut: c.reset},
						interval: 2 * time.Millisecond, http2: http2,
						edit: func(b []byte) []byte { return c.filter(t, b) },
					})
					hc := client(http2)
					defer hc.CloseIdleConnections()
					m := &modeRoad{road: r, modeCase: &c, hc: hc}
					t.Run("passes", m.passes)
					t.Run("unary", m.unary)
					t.Run("refused", m.refused)
					t.Run("live", m.live)
					for i := range map[bool]int{false: 1, true: 5}[c.cut == cutReset] {
						t.Run(fmt.Sprintf("cut%d", i), m.cuts)
					}
				})
			}
		})
	}
}

// modeLimit is each user's, in tokens: less than one answer that is repeated. A guard of
// it is kept, and the prompt of streamAsked has modePrompt.
const (
	modeLimit  = 150
	modeGuard  = modeLimit * 2 / 100
	modePrompt = 9
)

type modeRoad struct {
	*road
	*modeCase
	hc      *http.Client
	endless bool            // a request has no end until its answer has come
	more    <-chan struct{} // what a request's body has behind its first piece comes after that; nil: at once
}

// reply is what a client got.
type reply struct {
	status  int
	body    []byte
	first   time.Time // when the first of it came
	err     error     // of the connection
	headers http.Header
}

// ask sends a request, its body in several pieces, and reads the whole answer.
func (m *modeRoad) ask(t *testing.T, user, body string, headers map[string]string) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := m.request(ctx, call{id: user, user: user, body: body, headers: headers})
	if err != nil {
		t.Fatal(err)
	}
	pieces, w := io.Pipe()
	go func() {
		defer w.Close()
		for i, piece := range []string{body[:len(body)/3], body[len(body)/3 : len(body)/2], body[len(body)/2:]} {
			if _, err := io.WriteString(w, piece); err != nil {
				break // the answer has come before
			}
			if i == 0 && m.more != nil {
				select {
				case <-m.more:
				case <-ctx.Done():
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		for err := error(nil); m.endless && err == nil; time.Sleep(time.Millisecond) {
			_, err = io.WriteString(w, strings.Repeat(" ", 16<<10))
		}
	}()
	req.Body = pieces // the length stays what it is
	if m.endless {
		req.ContentLength = -1
	}
	resp, err := m.hc.Do(req)
	defer pieces.Close() // what is left of the request is not read by anybody
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := reply{status: resp.StatusCode, headers: resp.Header}
	buf := make([]byte, 32<<10)
	for got.err == nil {
		n, err := resp.Body.Read(buf)
		if got.first.IsZero() && n > 0 {
			got.first = time.Now()
		}
		got.body, got.err = append(got.body, buf[:n]...), err
	}
	if got.err == io.EOF {
		got.err = nil
	}
	return got
}

func modeUser(t *testing.T) string { return strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()) }

// ended waits for the server and the upstream to have done with an exchange.
func (m *modeRoad) ended(t *testing.T, user string) (standin.Exchange, map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := m.finished(user); err != nil {
		t.Fatal(err)
	}
	up, err := m.up.WaitExchange(ctx, user)
	if err != nil {
		t.Fatal(err)
	}
	lines := m.exchanges(user)
	if len(lines) != 1 {
		t.Fatalf("%d log lines", len(lines))
	}
	line := lines[0].ContextMap()
	if got := fmt.Sprint(line["degraded"]); got != m.degraded && (m.degraded != "" || line["degraded"] != nil) {
		t.Errorf("degraded is %q, want %q", got, m.degraded)
	}
	return up, line
}

const streamAsked = `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"Good morning"}]}`

// passes: an answer that fits passes as the upstream sends it, and costs what it costs.
func (m *modeRoad) passes(t *testing.T) {
	user := modeUser(t)
	got := m.ask(t, user, streamAsked, map[string]string{"x-standin-recording": "openai/chat-streaming"})
	up, line := m.ended(t, user)
	if got.status != http.StatusOK || got.err != nil || !up.Completed {
		t.Fatalf("status %d, %v; upstream completed %v", got.status, got.err, up.Completed)
	}
	sent, _ := content(up.Sent)
	texts, usage := content(got.body)
	if fmt.Sprint(sent) != fmt.Sprint(texts) || !bytes.HasSuffix(got.body, []byte("data: [DONE]\n\n")) {
		t.Errorf("the client got %q, the upstream sent %q", texts, sent)
	}
	if usage != nil && !m.unseen {
		t.Error("the client got a usage that it did not ask for")
	}
	if injected := strings.Contains(string(up.Body), `"include_usage":true`); injected == m.blind || !strings.Contains(string(up.Body), "Good morning") {
		t.Errorf("the upstream got %s", up.Body)
	}
	if length := up.Header.Get("content-length"); length != "" && length != fmt.Sprint(len(up.Body)) {
		t.Errorf("content-length %s for %d bytes", length, len(up.Body))
	}
	if m.late && !got.first.After(up.Ended) {
		t.Errorf("the first of the answer came %v before its end", up.Ended.Sub(got.first))
	}
	if !m.unseen && line["outcome"] != "completed" {
		t.Errorf("the log says %v", line["outcome"])
	}
	spent := m.balance(t, "user-year", user)
	want := line["input_tokens"].(int64) + count(t, up.Sent)
	if m.unseen {
		want = modeLimit - modeGuard // all that was left was held
	}
	if spent.Held != 0 || spent.Spent != want {
		t.Errorf("the ledger says spent %d, held %d; want %d", spent.Spent, spent.Held, want)
	}
}

// live: an answer comes as it is produced, and the end of one that is cut at once. The
// upstream says nothing more behind the limit, and does not end.
func (m *modeRoad) live(t *testing.T) {
	if m.late {
		t.Skip("the answer comes when it is over")
	}
	user, want := modeUser(t), "data: [DONE]\n\n"
	if m.cut == cutNone {
		want = "data: "
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := m.request(ctx, call{id: user, user: user, body: streamAsked, headers: map[string]string{
		"x-standin-recording": "openai/chat-streaming", "x-standin-repeat": "8", "x-standin-interval": "0", "x-standin-stall-after": "300",
	}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := m.hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got []byte
	for buf := make([]byte, 32<<10); err == nil && !bytes.Contains(got, []byte(want)); {
		var n int
		n, err = resp.Body.Read(buf)
		got = append(got, buf[:n]...)
	}
	if !bytes.Contains(got, []byte(want)) {
		t.Errorf("got %q, then %v", tail(got), err)
	}
	cancel()
	if _, err := m.finished(user); err != nil {
		t.Error(err)
	}
	if b := m.balance(t, "user-year", user); b.Held != 0 || b.Spent == 0 {
		t.Errorf("the ledger says %+v", b)
	}
}

// unary: an answer that is no stream costs what its usage says.
func (m *modeRoad) unary(t *testing.T) {
	user := modeUser(t)
	got := m.ask(t, user, `{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"Good morning"}]}`, nil)
	up, line := m.ended(t, user)
	if got.status != http.StatusOK || got.err != nil || !bytes.Equal(got.body, up.Sent) {
		t.Fatalf("status %d, %v; %s", got.status, got.err, got.body)
	}
	if length := got.headers.Get("content-length"); length != "" && length != fmt.Sprint(len(got.body)) {
		t.Errorf("content-length %s for %d bytes", length, len(got.body))
	}
	source := "reported"
	if m.unseen {
		source = "estimated"
	}
	if line["output_source"] != source {
		t.Errorf("the output is %v", line["output_source"])
	}
	if spent := m.balance(t, "user-year", user); spent.Held != 0 || spent.Spent != line["input_tokens"].(int64)+line["output_tokens"].(int64) {
		t.Errorf("the ledger says spent %d, held %d; the log %v", spent.Spent, spent.Held, line)
	}
}

// refused: a prompt that does not fit is refused, and what the upstream has seen of it.
func (m *modeRoad) refused(t *testing.T) {
	user := modeUser(t)
	got := m.ask(t, user, strings.Replace(streamAsked, "Good morning", strings.Repeat("word ", 2000), 1), nil)
	if got.status != http.StatusTooManyRequests || got.headers.Get("x-tokenbudget-limit") != "user-year" || got.err != nil {
		t.Errorf("status %d, %s, %v", got.status, got.body, got.err)
	}
	time.Sleep(20 * time.Millisecond)
	up, seen := m.up.Exchange(user)
	switch m.refusal {
	case "nothing":
		if seen {
			t.Errorf("the upstream has seen %+v", up)
		}
	case "headers":
		if len(up.Body) > 0 || up.BytesSent > 0 && up.Completed {
			t.Errorf("the upstream has seen a body of %d bytes, and answered", len(up.Body))
		}
	}
	if spent := m.balance(t, "user-year", user); spent.Held != 0 || spent.Spent != 0 {
		t.Errorf("the ledger says %+v", spent)
	}
}

// cuts: a stream that passes its limit.
func (m *modeRoad) cuts(t *testing.T) {
	user := modeUser(t)
	headers := map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-repeat": "8", "x-standin-interval": "1ms"}
	cancelled := m.cut == cutEnded || m.cut == cutReset
	if cancelled {
		headers["x-standin-stall-after"] = "300" // or it may be over before its cancellation arrives
	}
	got := m.ask(t, user, streamAsked, headers)
	up, line := m.ended(t, user)
	input, delivered, produced := line["input_tokens"].(int64), count(t, got.body), count(t, up.Sent)
	if got.status != http.StatusOK {
		t.Fatalf("status %d, %s", got.status, got.body)
	}
	if m.cut == cutNone {
		if got.err != nil || !up.Completed || delivered != produced {
			t.Errorf("%d of %d tokens arrived: %v", delivered, produced, got.err)
		}
		if m.unseen && !strings.Contains(string(up.Body), `"max_completion_tokens":`) {
			t.Errorf("the cap was not lowered: %s", up.Body)
		}
		return
	}
	if line["outcome"] != "cut" || line["limit"] != "user-year" {
		t.Errorf("the log says %v by %v", line["outcome"], line["limit"])
	}
	if (got.err != nil) != (m.cut == cutReset) {
		t.Errorf("the connection ends with %v", got.err)
	}
	if !bytes.HasSuffix(got.body, []byte("data: [DONE]\n\n")) || !bytes.Contains(got.body, []byte(": tokenbudget: cut, limit user-year\n")) || !bytes.Contains(got.body, []byte(`"finish_reason":"length"`)) {
		t.Errorf("no closing events: %q", tail(got.body))
	}
	if modePrompt+delivered > modeLimit-modeGuard || delivered == 0 {
		t.Errorf("%d tokens were delivered", delivered)
	}
	if up.Cancelled() != cancelled || up.Completed == cancelled {
		t.Errorf("the upstream: cancelled %v, completed %v", up.Cancelled(), up.Completed)
	}
	spent := m.balance(t, "user-year", user)
	if arrived := spent.Spent - input; spent.Held != 0 || arrived < delivered || arrived > produced || !cancelled && arrived != produced {
		t.Errorf("the ledger says spent %d, held %d; %d tokens were in the prompt, %d delivered, %d produced", spent.Spent, spent.Held, input, delivered, produced)
	}
	t.Logf("%v: %d of %d tokens delivered; the upstream sent %d events of %d; charged %d",
		m.name, delivered, produced, up.EventsSent, up.EventsTotal, spent.Spent)
}

// TestModesRefused: what cannot be metered at all in a mode is refused, and says what to set.
func TestModesRefused(t *testing.T) {
	long := `{"model":"gpt-4o","messages":[{"role":"user","content":"` + strings.Repeat("word ", 20_000) + `"}]}`
	for _, c := range []struct {
		modeCase
		body   string
		status int
		says   string
	}{
		{modeCase{name: "request headers=SKIP", set: map[string]string{"request_header_mode": "SKIP"}}, streamAsked, 500, "request_header_mode SKIP"},
		{modeCase{name: "all request=SKIP", set: map[string]string{"request_header_mode": "SKIP", "request_body_mode": "NONE"}}, streamAsked, 500, "request_header_mode SKIP"},
		{modeCase{name: "request=BUFFERED_PARTIAL", set: map[string]string{"request_body_mode": "BUFFERED_PARTIAL"}}, long, 413, "request_body_buffer_limit"},
		{modeCase{name: "request=STREAMED", set: map[string]string{"request_body_mode": "STREAMED"}}, long, 413, "at most 65536 are allowed"},
		{modeCase{name: "request=FULL_DUPLEX_STREAMED", set: map[string]string{"request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND"}}, long, 413, "at most 65536 are allowed"},
		{modeCase{name: "response headers=SKIP", set: map[string]string{"response_header_mode": "SKIP"}}, long, 413, "Payload Too Large"}, // Envoy's own
	} {
		t.Run(c.name, func(t *testing.T) {
			maxRequest := int64(64 << 10)
			if c.says == "request_body_buffer_limit" {
				maxRequest = 16 << 20 // only Envoy's is too small
			}
			r := newRoad(t, roadOptions{
				limits: []budget.Limit{perUser("user-year", budget.Tokens, 1e6)},
				policy: exchange.Policy{MaxRequest: maxRequest},
				envoy:  envoy.Options{MaxRequestBody: 64 << 10},
				edit:   func(b []byte) []byte { return c.filter(t, b) },
			})
			hc := client(false)
			defer hc.CloseIdleConnections()
			m := &modeRoad{road: r, modeCase: &c.modeCase, hc: hc, endless: c.status == http.StatusRequestEntityTooLarge}
			got := m.ask(t, "refused", c.body, map[string]string{"x-user": "ann"})
			if got.status != c.status || !strings.Contains(string(got.body), c.says) || got.err != nil {
				t.Errorf("got %d, %s, %v", got.status, got.body, got.err)
			}
			if up, _ := r.up.Exchange("refused"); len(up.Body) > 0 && c.status != 500 {
				t.Errorf("the upstream has seen %d bytes", len(up.Body))
			}
			if b := r.balance(t, "user-year", "ann"); b.Spent != 0 || b.Held != 0 {
				t.Errorf("the ledger says %+v", b)
			}
		})
	}
}

// TestModesPass: what is not metered passes in every mode.
func TestModesPass(t *testing.T) {
	for _, c := range modeCases {
		if c.reset || c.extra != "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			r := newRoad(t, roadOptions{
				limits: []budget.Limit{perUser("user-year", budget.Tokens, 100)},
				policy: exchange.Policy{Pass: []string{chatPath}},
				edit:   func(b []byte) []byte { return c.filter(t, b) },
			})
			hc := client(false)
			defer hc.CloseIdleConnections()
			m := &modeRoad{road: r, modeCase: &modeCase{}, hc: hc}
			got := m.ask(t, "passes", streamAsked, map[string]string{"x-standin-recording": "openai/chat-streaming", "x-standin-interval": "0"})
			up, err := r.up.WaitExchange(t.Context(), "passes")
			if err != nil || got.status != http.StatusOK || got.err != nil || !bytes.Equal(got.body, up.Sent) || string(up.Body) != streamAsked {
				t.Errorf("status %d, %d bytes of %d; the upstream got %s; %v, %v", got.status, len(got.body), len(up.Sent), up.Body, got.err, err)
			}
		})
	}
}

// TestModeSlowBody: in FULL_DUPLEX_STREAMED a request whose headers are not answered until its
// body is there may take longer for it than message_timeout.
func TestModeSlowBody(t *testing.T) {
	c := modeCase{set: map[string]string{"request_body_mode": "FULL_DUPLEX_STREAMED", "request_trailer_mode": "SEND"}}
	r := newRoad(t, roadOptions{
		limits: []budget.Limit{perUser("user-year", budget.Tokens, 1e6)},
		envoy:  envoy.Options{MessageTimeout: 100 * time.Millisecond},
		edit:   func(b []byte) []byte { return c.filter(t, b) },
	})
	pieces, w := io.Pipe()
	go func() {
		for _, piece := range []string{streamAsked[:20], streamAsked[20:40], streamAsked[40:]} {
			_, _ = io.WriteString(w, piece)
			time.Sleep(200 * time.Millisecond)
		}
		_ = w.Close()
	}()
	req, err := r.request(t.Context(), call{id: "slow", user: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	req.Body, req.ContentLength = pieces, -1
	hc := client(true)
	defer hc.CloseIdleConnections()
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !bytes.HasSuffix(body, []byte("data: [DONE]\n\n")) {
		t.Errorf("%s, %q, %v", resp.Status, tail(body), err)
	}
}

// TestObservability: nothing can be refused or cut, and all is charged.
func TestObservability(t *testing.T) {
	for _, c := range []modeCase{
		{name: "streamed", set: map[string]string{"request_body_mode": "STREAMED", "response_body_mode": "STREAMED", "response_trailer_mode": "SKIP"}},
		{name: "usual", unseen: true},
	} {
		c.extra, c.degraded = "observability_mode: true", "observability_mode=true"
		t.Run(c.name, func(t *testing.T) {
			r := newRoad(t, roadOptions{
				limits: []budget.Limit{perUser("user-year", budget.Tokens, 30)},
				edit:   func(b []byte) []byte { return c.filter(t, b) },
			})
			hc := client(false)
			defer hc.CloseIdleConnections()
			m := &modeRoad{road: r, modeCase: &c, hc: hc}
			var before int64
			for i := range map[bool]int{false: 3, true: 1}[c.unseen] { // Envoy lets go of an unseen answer after five seconds
				id := fmt.Sprint("observed-", i)
				got := m.ask(t, id, streamAsked, map[string]string{"x-standin-recording": "openai/chat-streaming", "x-user": "ann"})
				up, err := r.up.WaitExchange(t.Context(), id)
				if err != nil || got.status != http.StatusOK || got.err != nil || !bytes.Equal(got.body, up.Sent) || string(up.Body) != streamAsked {
					t.Fatalf("status %d, %d bytes of %d; %v, %v", got.status, len(got.body), len(up.Sent), got.err, err)
				}
				if _, err := r.finished(id); err != nil {
					t.Fatal(err)
				}
				b := r.balance(t, "user-year", "ann")
				charged := b.Spent - before
				before = b.Spent
				if want := modePrompt + count(t, up.Sent); b.Held != 0 || charged != want && !c.unseen || charged <= 0 {
					t.Errorf("charged %d, held %d; want %d", charged, b.Held, want)
				}
			}
			for i, line := range r.exchanges("ann") {
				fields := line.ContextMap()
				if fields["degraded"] != c.degraded || fields["outcome"] != "completed" || i > 0 && fields["shadow"] != "user-year:denied" {
					t.Errorf("the log says %v", fields)
				}
			}
		})
	}
}

// TestModeTrailers: an upstream that ends with trailers, whole and cut. Envoy does not tell
// the end of such an answer where it skips them.
func TestModeTrailers(t *testing.T) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "text/event-stream")
		w.Header().Set("trailer", "x-checksum")
		for i := range 10 {
			fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word%d\"}}]}\n\n", i)
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
		w.Header().Set("x-checksum", "7")
	}))
	upstream.Config.Protocols = new(http.Protocols)
	upstream.Config.Protocols.SetUnencryptedHTTP2(true)
	upstream.Start()
	defer upstream.Close()
	for _, mode := range []string{"STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "NONE"} {
		for _, trailers := range []string{"SKIP", "SEND"} {
			t.Run(mode+"/"+trailers, func(t *testing.T) {
				c := modeCase{set: map[string]string{"response_body_mode": mode, "response_trailer_mode": trailers}}
				r := newRoad(t, roadOptions{
					limits: []budget.Limit{perUser("user-year", budget.OutputTokens, 1000), {Name: "tight", Unit: budget.OutputTokens, Amount: 30, Period: budget.Year}},
					policy: exchange.Policy{OutputCap: exchange.CapNever},
					http2:  true, upstream: upstream.URL,
					edit: func(b []byte) []byte { return c.filter(t, b) },
				})
				hc := client(true)
				defer hc.CloseIdleConnections()
				for _, id := range []string{"whole", "cut"} {
					resp, body, err := r.do(t.Context(), hc, call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"max_tokens":20,"messages":[]}`})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := r.finished(id); err != nil {
						t.Fatal(err)
					}
					line := r.exchanges(id)[0].ContextMap()
					if mode == "NONE" || mode == "BUFFERED_PARTIAL" && id == "cut" {
						continue // held, and perhaps refused
					}
					want := map[string]string{"whole": "completed", "cut": "cut"}[id]
					if !strings.HasSuffix(string(body), "data: [DONE]\n\n") || resp.Trailer.Get("x-checksum") != "7" || line["outcome"] != want {
						t.Errorf("%s: the answer ends in %q, trailers %v; the log says %v", id, tail(body), resp.Trailer, line)
					}
				}
				for _, b := range r.balances(t) {
					if b.Spent == 0 || b.Held != 0 {
						t.Errorf("the ledger says %+v", b)
					}
				}
			})
		}
	}
}

// TestModeLongAnswer: answers that are longer than Envoy's buffer, where it collects them.
// The cap is not lowered, so that what is held is less than what is in them.
func TestModeLongAnswer(t *testing.T) {
	const words = 20_000
	stream := strings.Repeat("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}],\"padding\":\""+strings.Repeat("x", 1000)+"\"}\n\n", words) + "data: [DONE]\n\n"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "text/event-stream")
		for piece := range slices.Chunk([]byte(stream), 128<<10) {
			_, _ = w.Write(piece)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond)
		}
	}))
	defer upstream.Close()
	for _, tt := range []struct {
		mode   string
		limit  int64
		status int
		spent  func(int64) bool
	}{
		{"BUFFERED", 30_000, 500, func(n int64) bool { return n == 16384+modePrompt }},         // as much as is held for any answer
		{"BUFFERED_PARTIAL", 30_000, 200, func(n int64) bool { return n >= 16384+modePrompt }}, // or the part, if that is more
		{"BUFFERED_PARTIAL", 200, 429, func(n int64) bool { return n > 190 && n <= 200 }},
	} {
		t.Run(fmt.Sprint(tt.mode, tt.limit), func(t *testing.T) {
			c := modeCase{set: map[string]string{"response_body_mode": tt.mode, "response_trailer_mode": "SKIP"}}
			r := newRoad(t, roadOptions{
				limits:   []budget.Limit{perUser("user-year", budget.Tokens, tt.limit)},
				upstream: upstream.URL,
				envoy:    envoy.Options{MaxRequestBody: 64 << 10},
				edit:     func(b []byte) []byte { return c.filter(t, b) },
			})
			hc := client(true)
			defer hc.CloseIdleConnections()
			resp, body, err := r.do(t.Context(), hc, call{id: "long", user: "ann", body: streamAsked})
			if err != nil || resp.StatusCode != tt.status || tt.status == 200 && string(body) != stream {
				t.Fatalf("%v, %d bytes, %v", resp, len(body), err)
			}
			if _, err := r.finished("long"); err != nil {
				t.Fatal(err)
			}
			if line := r.exchanges("ann")[0].ContextMap(); tt.status == 200 && line["reason"] != "the rest of the answer was not seen" {
				t.Errorf("the log says %v", line)
			}
			if b := r.balance(t, "user-year", "ann"); b.Held != 0 || !tt.spent(b.Spent) {
				t.Errorf("the ledger says %+v", b)
			}
		})
	}
}

// TestModeStop: a deadline breaks off an answer that is metered but cannot be ended, and
// leaves one alone of which nothing is seen.
func TestModeStop(t *testing.T) {
	for _, tt := range []struct {
		modeCase
		broken  bool
		outcome string
	}{
		{modeCase{name: "STREAMED", set: map[string]string{"response_body_mode": "STREAMED", "response_trailer_mode": "SKIP"}}, true, "aborted"},
		{modeCase{name: "NONE", set: map[string]string{"response_body_mode": "NONE", "response_trailer_mode": "SKIP"}}, false, "completed"},
		{modeCase{name: "NONE,headers=SKIP", set: map[string]string{"response_body_mode": "NONE", "response_header_mode": "SKIP", "response_trailer_mode": "SKIP"}}, false, "completed"},
		{modeCase{name: "observability", set: map[string]string{"request_body_mode": "STREAMED", "response_body_mode": "STREAMED", "response_trailer_mode": "SKIP"}, extra: "observability_mode: true"}, false, "aborted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoad(t, roadOptions{
				limits:    []budget.Limit{perUser("user-year", budget.Tokens, 1e6)},
				interval:  80 * time.Millisecond, // so the upstream is at it for four seconds
				configure: func(o *extproc.Options) { o.ExchangeTimeout = 2 * time.Second },
				edit:      func(b []byte) []byte { return tt.filter(t, b) },
			})
			hc := client(true)
			defer hc.CloseIdleConnections()
			headers := map[string]string{"x-standin-recording": "openai/chat-streaming"}
			if tt.broken {
				headers["x-standin-stall-after"] = "20" // it does not end by itself
			}
			_, body, err := r.do(t.Context(), hc, call{id: "late", user: "ann", body: streamAsked, headers: headers})
			up, upErr := r.up.WaitExchange(t.Context(), "late")
			if _, finishErr := r.finished("late"); finishErr != nil || upErr != nil {
				t.Fatal(finishErr, upErr)
			}
			if (err != nil) != tt.broken || up.Cancelled() != tt.broken || !tt.broken && !bytes.Equal(body, up.Sent) {
				t.Errorf("the client got %d of %d bytes, %v; the upstream was cancelled: %v", len(body), up.BytesTotal, err, up.Cancelled())
			}
			if line := r.exchanges("ann")[0].ContextMap(); line["outcome"] != tt.outcome {
				t.Errorf("the log says %v", line)
			}
			if b := r.balance(t, "user-year", "ann"); b.Held != 0 || b.Spent == 0 {
				t.Errorf("the ledger says %+v", b)
			}
		})
	}
}
