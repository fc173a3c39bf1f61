package extproc

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/extproc/exchange"
)

// exchangeKeys are the keys of every exchange's line. There is no cost_nanousd: no
// budget counts money yet, and a price that is not known is not 0.
var exchangeKeys = []string{
	"level", "ts", "msg",
	"request_id", "user",
	"api", "model", "stream",
	"input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "input_source", "output_source",
	"outcome", "limit", "held", "duration_ms", "ttft_ms",
	"status",
}

func TestLogLine(t *testing.T) {
	sizes, err := budget.NewSizes([]budget.Limit{{Name: "size", Unit: budget.InputTokens, Amount: 150, PerRequest: true}})
	if err != nil {
		t.Fatal(err)
	}
	truncating := func(o *Options) { o.Policy.Sizes, o.Policy.Truncate = sizes, []string{"size"} }
	usage := `data: {"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens_details":{"reasoning_tokens":4}}}` + "\n\n"
	for _, tc := range []struct {
		name string
		play func(p *peer)
		more []string // keys besides exchangeKeys
		less []string // keys of exchangeKeys that are missing
		want map[string]any
	}{
		{
			name: "completed",
			play: func(p *peer) {
				p.begin("ann")
				time.Sleep(250 * time.Millisecond)
				p.say("Good")
				time.Sleep(500 * time.Millisecond)
				p.send(responseBody(usage+"data: [DONE]\n\n", true))
				p.next()
			},
			want: map[string]any{
				"level": "info", "msg": "exchange", "request_id": "", "user": "ann", "api": "openai.chat", "model": "gpt-4o", "stream": true,
				"input_tokens": 30.0, "output_tokens": 12.0, "cached_tokens": 5.0, "reasoning_tokens": 4.0, "input_source": "reported", "output_source": "reported",
				"outcome": "completed", "limit": "", "held": 17.0, "duration_ms": 750.0, "ttft_ms": 250.0, "status": 200.0,
			},
		},
		{
			name: "counted",
			play: func(p *peer) {
				p.begin("ann")
				p.say("Good")
				p.say(" morning")
				p.send(responseBody("data: [DONE]\n\n", true))
				p.next()
			},
			want: map[string]any{"input_tokens": 9.0, "output_tokens": 2.0, "input_source": "counted", "output_source": "counted", "outcome": "completed"},
		},
		{
			name: "cut by a limit",
			play: func(p *peer) {
				p.begin("ann")
				for {
					p.send(responseBody(event(" a b c d e f g h i j k l m n o p"), false))
					if bodyOf(p.next()).GetEndOfStream() {
						break
					}
				}
				p.hangUp()
			},
			want: map[string]any{"outcome": "cut", "limit": "user", "input_source": "counted", "output_source": "counted"},
		},
		{
			name: "denied by a limit",
			play: func(p *peer) {
				p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann", "x-request-id", "r-1"))
				p.next()
				p.send(requestBody(chatBody(strings.Repeat("Good morning. ", 100), true)))
				if got := p.next().GetImmediateResponse().GetStatus().GetCode(); got != 429 {
					p.t.Errorf("status %v", got)
				}
			},
			want: map[string]any{"request_id": "r-1", "outcome": "denied", "limit": "user", "status": 429.0, "held": 0.0, "output_tokens": 0.0},
		},
		{
			name: "denied for another reason",
			play: func(p *peer) {
				p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann"))
				p.next()
				p.send(requestBody("{}"))
				p.next()
			},
			more: []string{"reason"},
			want: map[string]any{"outcome": "denied", "limit": "", "status": 400.0, "reason": `the request body has no "messages"`},
		},
		{
			name: "truncated",
			play: func(p *peer) {
				p.send(requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "x-user", "ann"))
				p.next()
				p.send(requestBody(`{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("Good morning. ", 300) + `"},{"role":"assistant"},{"role":"user","content":"Hello!"}]}`))
				p.next()
				p.send(responseHeaders(":status", "200", "content-type", eventStream))
				p.next()
				p.send(responseBody("data: [DONE]\n\n", true))
				p.next()
			},
			more: []string{"truncated_messages"},
			want: map[string]any{"outcome": "completed", "truncated_messages": 2.0, "input_tokens": 9.0},
		},
		{
			name: "upstream error",
			play: func(p *peer) {
				p.request("ann", true)
				p.send(responseHeaders(":status", "500", "content-type", "application/json"))
				p.next()
				p.send(responseBody("{}", true))
				p.next()
			},
			want: map[string]any{"outcome": "upstream_error", "status": 500.0, "input_tokens": 0.0, "output_tokens": 0.0},
		},
		{
			name: "bypassed",
			play: func(p *peer) {
				p.send(requestHeaders(":method", "GET", ":path", "/health?key=1", "x-user", "ann"))
				p.next()
				p.send(responseHeaders(":status", "200"))
				p.next()
				p.send(responseBody("ok", true))
				p.next()
			},
			more: []string{"path"}, less: []string{"user"},
			want: map[string]any{"outcome": "bypassed", "api": "", "model": "", "path": "/health", "status": 200.0},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, truncating, func(t *testing.T, r *rig) {
				p := r.dial()
				defer p.hangUp()
				tc.play(p)
				synctest.Wait()
				lines := r.log.lines("msg", "exchange")
				if len(lines) != 1 {
					t.Fatalf("%d lines:\n%s", len(lines), r.log.text())
				}
				line := lines[0]
				want := slices.DeleteFunc(slices.Concat(exchangeKeys, tc.more), func(k string) bool { return slices.Contains(tc.less, k) })
				slices.Sort(want)
				if got := slices.Sorted(maps.Keys(line)); !slices.Equal(got, want) {
					t.Errorf("keys\ngot  %v\nwant %v", got, want)
				}
				// A decoder would not show that a key is there twice.
				for _, k := range want {
					if n := strings.Count(r.log.text(), `"`+k+`":`); n != 1 {
						t.Errorf("the key %s is there %d times", k, n)
					}
				}
				for k, v := range tc.want {
					if line[k] != v {
						t.Errorf("%s is %v, want %v", k, line[k], v)
					}
				}
			})
		})
	}
}

// The secret is put wherever clients and upstreams can put text. Whatever becomes of
// the exchange, the log must not show it.
func TestLogKeepsSecrets(t *testing.T) {
	const secret = "XYZZY"
	post := func(p *peer, more ...string) *extprocv3.ProcessingResponse {
		p.send(requestHeaders(append([]string{
			":method", "POST", ":path", "/v1/chat/completions?key=" + secret, "x-user", "ann",
			"authorization", "Bearer " + secret, "api-key", secret, "x-api-key", secret, "cookie", secret, "x-" + strings.ToLower(secret), secret,
		}, more...)...))
		return p.next()
	}
	requests := map[string]string{
		"well formed":      chatBody(secret, true),
		"not streamed":     chatBody(secret, false),
		"not JSON":         secret,
		"half of it":       chatBody(secret, true)[:70],
		"bad escape":       `{"messages":[{"role":"user","content":"` + secret + `\q"}]}`,
		"bad UTF-8":        `{"messages":[{"role":"user","content":"` + secret + "\xff\"}]}",
		"not an object":    `["` + secret + `"]`,
		"twice":            `{"model":"gpt-4o","messages":[{"content":"` + secret + `","` + secret + `":1,"` + secret + `":2}]}`,
		"bad below a key":  `{"model":"gpt-4o","messages":[{"` + secret + `":tru}]}`,
		"key of no use":    `{"` + secret + `":"` + secret + `"}`,
		"messages as text": `{"model":"gpt-4o","messages":"` + secret + `"}`,
		"stream as text":   `{"model":"gpt-4o","messages":[],"stream":"` + secret + `"}`,
		"cap as text":      `{"model":"gpt-4o","messages":[],"max_tokens":"` + secret + `"}`,
		"choices as text":  `{"model":"gpt-4o","messages":[],"n":"` + secret + `"}`,
		"options as text":  `{"model":"gpt-4o","messages":[],"stream":true,"stream_options":"` + secret + `"}`,
		"model as list":    `{"model":["` + secret + `"],"messages":[]}`,
		"behind the end":   chatBody("Good morning", true) + secret,
		"tools":            `{"model":"gpt-4o","stream":true,"messages":[{"role":"user","name":"` + secret + `","content":[{"type":"text","text":"` + secret + `"}]}],"tools":[{"type":"function","function":{"name":"` + secret + `"}}],"user":"` + secret + `"}`,
		"too expensive":    chatBody(strings.Repeat(secret, 200), true),
	}
	answers := map[string]struct {
		contentType, body string
	}{
		"stream":      {eventStream, event(secret) + event(" and "+secret)},
		"error event": {eventStream, event("a") + `data: {"error":{"message":"` + secret + `"}}` + "\n\n"},
		"no JSON":     {eventStream, "data: " + secret + "\n\n"},
		"bad JSON":    {eventStream, `data: {"choices":[{"delta":{"content":"` + secret + "\n\n"},
		"comment":     {eventStream, ": " + secret + "\n\nevent: " + secret + "\nid: " + secret + "\n\n"},
		"long event":  {eventStream, "data: " + strings.Repeat(secret, 5000)},
		"document":    {"application/json", `{"choices":[{"message":{"content":"` + secret + `"}}]}`},
		"bad":         {"application/json", secret},
		"page":        {"text/html", secret},
	}
	search := func(t *testing.T, r *rig) {
		t.Helper()
		text := r.log.text()
		if !strings.Contains(text, `"msg":"exchange"`) {
			t.Fatalf("no line was logged:\n%s", text)
		}
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))[:6]} {
			if strings.Contains(strings.ToUpper(text), strings.ToUpper(form)) {
				t.Errorf("the log shows the secret:\n%s", text)
			}
		}
	}
	small := func(o *Options) { o.Policy.MaxEvent = 10_000 }
	for name, body := range requests {
		t.Run("request/"+name, func(t *testing.T) {
			bubble(t, small, func(t *testing.T, r *rig) {
				p := r.dial()
				defer p.hangUp()
				post(p)
				p.send(requestBody(body))
				p.next()
				p.hangUp()
				synctest.Wait()
				search(t, r)
			})
		})
	}
	for name, answer := range answers {
		for _, eos := range []bool{true, false} {
			t.Run("answer/"+name+map[bool]string{true: "", false: ", aborted"}[eos], func(t *testing.T) {
				bubble(t, small, func(t *testing.T, r *rig) {
					p := r.dial()
					defer p.hangUp()
					post(p)
					p.send(requestBody(chatBody("Good morning", answer.contentType == eventStream)))
					p.next()
					p.send(responseHeaders(":status", "200", "content-type", answer.contentType, "set-cookie", secret))
					p.next()
					p.send(responseBody(answer.body, eos))
					synctest.Wait()
					p.hangUp()
					synctest.Wait()
					search(t, r)
				})
			})
		}
	}
	t.Run("path of no API", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, r *rig) {
			p := r.dial()
			defer p.hangUp()
			p.send(requestHeaders(":method", "POST", ":path", "/v1/other?key="+secret, "authorization", secret))
			p.next()
			synctest.Wait()
			search(t, r)
		})
	})
	t.Run("compressed", func(t *testing.T) {
		bubble(t, nil, func(t *testing.T, r *rig) {
			p := r.dial()
			defer p.hangUp()
			post(p, "content-encoding", "gzip")
			p.send(requestBody(secret)) // which is no gzip
			p.next()
			synctest.Wait()
			search(t, r)
		})
	})
	// A verified token shows its one claim that is an identity, and nothing else.
	t.Run("token", func(t *testing.T) {
		configure := func(o *Options) {
			o.Policy.Identities = []exchange.Identity{{Name: "user", Sources: []exchange.Source{{JWT: "sub"}}}}
		}
		bubble(t, configure, func(t *testing.T, r *rig) {
			payload, err := structpb.NewStruct(map[string]any{"payload": map[string]any{"sub": "ann", "email": secret, "jti": secret}})
			if err != nil {
				t.Fatal(err)
			}
			p := r.dial()
			defer p.hangUp()
			m := requestHeaders(":method", "POST", ":path", "/v1/chat/completions", "authorization", "Bearer "+secret)
			m.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.jwt_authn": payload}}
			p.send(m)
			p.next()
			p.send(requestBody(chatBody(secret, true)))
			p.next()
			p.hangUp()
			synctest.Wait()
			search(t, r)
			r.exchangeLine("ann")
		})
	})
}

func TestMetrics(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		const chat = "openai.chat"
		completed := r.dial()
		completed.begin("ann")
		if n := r.metric("tokenbudget_open_exchanges"); n != 1 {
			t.Errorf("%v exchanges are open, want 1", n)
		}
		time.Sleep(time.Second)
		completed.say("Good")
		completed.say(" morning")
		completed.send(responseBody("data: [DONE]\n\n", true))
		completed.next()
		if err := completed.end(); err != nil {
			t.Error(err)
		}

		cut := r.dial()
		cut.begin("bob")
		for cutOff := false; !cutOff; {
			cut.send(responseBody(event(" a b c d e f g h"), false))
			cutOff = bodyOf(cut.next()).GetEndOfStream()
		}
		cut.hangUp()

		denied := r.dial()
		if got := denied.request("bob", true).GetImmediateResponse().GetStatus().GetCode(); got != 429 {
			t.Errorf("status %v, want 429", got)
		}

		unary := r.dial()
		unary.request("carol", false)
		unary.answer("application/json")
		unary.send(responseBody(`{"choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12}}`, true))
		unary.next()

		bypassed := r.dial()
		bypassed.send(requestHeaders(":method", "GET", ":path", "/health"))
		bypassed.next()
		bypassed.send(responseHeaders(":status", "200"))
		bypassed.next()
		bypassed.send(responseBody("ok", true))
		bypassed.next()
		synctest.Wait()

		line := r.exchangeLine("ann")
		var bob map[string]any
		for _, l := range r.log.lines("outcome", "cut") {
			bob = l
		}
		for _, want := range []struct {
			name   string
			labels []string
			value  float64
		}{
			{"tokenbudget_open_exchanges", nil, 0},
			{"tokenbudget_panics_total", nil, 0},
			{"tokenbudget_exchanges_total", []string{"api", chat, "outcome", "completed"}, 2},
			{"tokenbudget_exchanges_total", []string{"api", chat, "outcome", "cut"}, 1},
			{"tokenbudget_exchanges_total", []string{"api", chat, "outcome", "denied"}, 1},
			{"tokenbudget_exchanges_total", []string{"api", "", "outcome", "bypassed"}, 1},
			{"tokenbudget_limited_total", []string{"limit", "user", "outcome", "cut"}, 1},
			{"tokenbudget_limited_total", []string{"limit", "user", "outcome", "denied"}, 1},
			{"tokenbudget_tokens_total", []string{"api", chat, "kind", "input", "source", "counted"}, line["input_tokens"].(float64) + bob["input_tokens"].(float64)},
			{"tokenbudget_tokens_total", []string{"api", chat, "kind", "output", "source", "counted"}, 2 + bob["output_tokens"].(float64)},
			{"tokenbudget_tokens_total", []string{"api", chat, "kind", "input", "source", "reported"}, 30},
			{"tokenbudget_tokens_total", []string{"api", chat, "kind", "output", "source", "reported"}, 12},
			{"tokenbudget_exchange_duration_seconds", []string{"api", chat, "outcome", "completed"}, 2},
			{"tokenbudget_exchange_duration_seconds", []string{"api", chat, "outcome", "cut"}, 1},
			// The first text of the cut stream came at once, in the bubble's time.
			{"tokenbudget_time_to_first_token_seconds", []string{"api", chat}, 1},
		} {
			if got := r.metric(want.name, want.labels...); got != want.value {
				t.Errorf("%s%v is %v, want %v", want.name, want.labels, got, want.value)
			}
		}
		for _, p := range []*peer{completed, denied, unary, bypassed} {
			p.hangUp()
		}
	})
}
