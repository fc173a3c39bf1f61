package count

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

func newMemo(tb testing.TB, entries int64) *Memo {
	tb.Helper()
	m, err := NewMemo(entries)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

// chatRequest is a chat request with these messages, and tools if they are not empty.
func chatRequest(tb testing.TB, messages []json.RawMessage, tools string) *dialect.Request {
	tb.Helper()
	body, err := json.Marshal(map[string]any{"model": "gpt-4o", "messages": messages})
	if err != nil {
		tb.Fatal(err)
	}
	if tools != "" {
		body = fmt.Appendf(body[:len(body)-1], `,"tools":%s}`, tools)
	}
	r, err := dialect.OpenAIChat{}.ParseRequest(body)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

var someWords = strings.Fields("the of river water 漢字 Straße func() { return } 12345 \n\n  don't naïve https://example.com/a?b=c \"quoted\" … emoji 🎉 e")

// prose is text of about n bytes.
func prose(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(someWords[r.IntN(len(someWords))])
		b.WriteByte(' ')
	}
	return b.String()
}

func chatMessage(r *rand.Rand, role string, n int) json.RawMessage {
	var v any
	switch text := prose(r, n); r.IntN(6) {
	case 0:
		v = map[string]any{"role": role, "name": "ann", "content": text}
	case 1:
		v = map[string]any{"role": role, "content": []any{map[string]any{"type": "text", "text": text}, map[string]any{"type": "image_url", "image_url": "x"}}}
	case 2:
		v = text
	default:
		v = map[string]any{"role": role, "content": text}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// sizes of messages, around the memo's steps and far from them.
func size(r *rand.Rand) int {
	return []int{0, 1, 10, 100, memoStep - 40, memoStep, 2*memoStep + 1, 9000}[r.IntN(8)]
}

// A memo never changes a count: random conversations go on, are edited, cut off,
// and told to other models, with memos that know all, hardly anything and nothing.
func TestMemoChangesNoCount(t *testing.T) {
	plain := New(Options{})
	for _, entries := range []int64{1, 16, DefaultMemo} {
		t.Run(fmt.Sprint(entries), func(t *testing.T) {
			t.Parallel()
			memo := newMemo(t, entries)
			remembering := New(Options{Memo: memo})
			r := rand.New(rand.NewPCG(7, uint64(entries)))
			models := []Model{plain.Model("gpt-4o"), plain.Model("gpt-4"), plain.Model("gpt-5"), plain.Model("claude-9")}
			for range 10 {
				var messages []json.RawMessage
				m := models[r.IntN(len(models))]
				tools := ""
				if r.IntN(2) == 0 {
					tools = fmt.Sprintf(`[{"type":"function","function":{"description":%q}}]`, prose(r, size(r)))
				}
				for range 12 {
					switch {
					case len(messages) > 0 && r.IntN(5) == 0: // edit
						messages[r.IntN(len(messages))] = chatMessage(r, "user", size(r))
					case len(messages) > 0 && r.IntN(8) == 0: // go back
						messages = messages[:r.IntN(len(messages))]
					case len(messages) > 1 && r.IntN(8) == 0: // forget the beginning
						messages = messages[1:]
					}
					for range 1 + r.IntN(3) {
						messages = append(messages, chatMessage(r, "assistant", size(r)))
					}
					request := chatRequest(t, messages, tools)
					if r.IntN(10) == 0 {
						m = models[r.IntN(len(models))]
					}
					if got, want := remembering.Prompt(m, request), plain.Prompt(m, request); got != want {
						t.Fatalf("%d messages: %d tokens, want %d", len(messages), got, want)
					}
					if r.IntN(4) > 0 { // ristretto shows new entries late
						memo.entries.Wait()
					}
				}
			}
			seen, counted := memo.Bytes()
			if entries == DefaultMemo && counted > seen*2/3 {
				t.Errorf("%d of %d bytes were counted: it does not remember", counted, seen)
			}
			if counted <= 0 || counted > seen {
				t.Errorf("%d of %d bytes were counted", counted, seen)
			}
		})
	}
}

// Of a next turn only what is new is counted, and less than a step before it.
func TestMemoRemembers(t *testing.T) {
	memo := newMemo(t, DefaultMemo)
	c := New(Options{Memo: memo})
	m := c.Model("gpt-4o")
	r := rand.New(rand.NewPCG(8, 9))
	var messages []json.RawMessage
	for range 100 {
		messages = append(messages, chatMessage(r, "user", 700))
	}
	c.Prompt(m, chatRequest(t, messages, ""))
	memo.entries.Wait() // ristretto shows new entries late
	_, first := memo.Bytes()
	news := 0
	for range 2 {
		messages = append(messages, chatMessage(r, "user", 3000))
		news += len(messages[len(messages)-1])
	}
	c.Prompt(m, chatRequest(t, messages, ""))
	_, second := memo.Bytes()
	if got := int(second - first); got < news || got >= news+memoStep {
		t.Errorf("%d bytes of the next turn were counted, want %d and less than %d", got, news, memoStep)
	}

	// Another model is another conversation, though the encoding is the same.
	memo.entries.Wait()
	c.Prompt(c.Model("gpt-5"), chatRequest(t, messages, ""))
	_, third := memo.Bytes()
	if int(third-second) < 70_000 {
		t.Errorf("for another model %d bytes were counted", third-second)
	}

	// One long message is enough, and is the only entry there is.
	_, before := memo.Bytes()
	long := chatMessage(r, "user", 50_000)
	for range 2 {
		c.Prompt(m, chatRequest(t, []json.RawMessage{long, []byte(`"and"`)}, ""))
		memo.entries.Wait()
	}
	seen, now := memo.Bytes()
	if got := int(now - before); got != len(long)+2*len(`"and"`) {
		t.Errorf("%d bytes of two turns after one long message were counted", got)
	}

	// Short conversations do not bother it.
	c.Prompt(m, chatRequest(t, messages[:2], ""))
	if now, _ := memo.Bytes(); now != seen {
		t.Errorf("a conversation of less than %d bytes went through the memo", memoLeast)
	}
}

// Long texts beside the messages are remembered as well.
func TestMemoText(t *testing.T) {
	memo := newMemo(t, 100)
	m := New(Options{}).Model("gpt-4o")
	r := rand.New(rand.NewPCG(10, 11))
	long, short := []byte(prose(r, 5000)), []byte("a few words")
	for range 2 {
		for _, text := range [][]byte{long, short} {
			if got, want := memo.text(m, text), int64(m.Encoding.Count(text)); got != want {
				t.Errorf("%d tokens, want %d", got, want)
			}
		}
		memo.entries.Wait()
	}
	w := walk{memo: memo}
	w.start('t', "", "")
	w.add(long)
	if n, ok := memo.get(w.input, m.Encoding); !ok || n != int64(m.Encoding.Count(long)) {
		t.Errorf("remembered %d, %v", n, ok)
	}
	if _, ok := memo.get(w.input, New(Options{}).Model("gpt-4").Encoding); ok {
		t.Error("what another encoding counts is taken for this one's")
	}
	memo.put(w.input, m.Encoding, 12345) // which nobody would count
	memo.entries.Wait()
	if got := memo.text(m, long); got != 12345 {
		t.Errorf("a text that is remembered was counted: %d tokens", got)
	}
}

// What is hashed says where each message begins and ends, and under which model:
// no two different beginnings share an entry.
func TestMemoKeys(t *testing.T) {
	memo := newMemo(t, 1)
	a, b := strings.Repeat("a", 2*memoStep), strings.Repeat("b", memoStep/2)
	known := map[string]string{}
	for _, tt := range []struct {
		purpose       byte
		format, model string
		messages      []string
	}{
		{'m', "f", "x", []string{a}},
		{'m', "fx", "", []string{a}},
		{'m', "", "x", []string{a}},
		{'t', "", "x", []string{a}},
		{'m', "", "y", []string{a}},
		{'m', "", "xa", []string{a[1:]}},
		{'m', "", "x", []string{a, b, b}},
		{'m', "", "x", []string{a + b, b}},
		{'m', "", "x", []string{a, b + b}},
		{'m', "", "x", []string{a + b + b}},
		{'m', "", "x", []string{a, b + "b", b[1:]}},
		{'m', "", "x", []string{a, b[1:], b + "b"}},
		{'m', "", "x", []string{a, "", b, b}},
		{'m', "", "x", []string{b, b, a}},
	} {
		w := walk{memo: memo}
		w.start(tt.purpose, tt.format, tt.model)
		marked := false
		for _, m := range tt.messages {
			marked = w.add([]byte(m))
		}
		name := fmt.Sprintf("%c %q %q %d", tt.purpose, tt.format, tt.model, len(tt.messages))
		if !marked || len(w.input) != digest {
			t.Errorf("%s: no entry at its end", name)
		}
		if other, ok := known[string(w.input)]; ok {
			t.Errorf("%s has the hash of %s", name, other)
		}
		known[string(w.input)] = name

		again := walk{memo: memo}
		again.start(tt.purpose, tt.format, tt.model)
		for _, m := range tt.messages {
			again.add([]byte(m))
		}
		if string(again.input) != string(w.input) {
			t.Errorf("%s has another hash the second time", name)
		}
		foreign := walk{memo: newMemo(t, 1)}
		foreign.start(tt.purpose, tt.format, tt.model)
		for _, m := range tt.messages {
			foreign.add([]byte(m))
		}
		if string(foreign.input) == string(w.input) {
			t.Errorf("%s: the key makes no difference", name)
		}
	}
}

// A message is read in another way by another API.
func TestMemoFormats(t *testing.T) {
	c := New(Options{Memo: newMemo(t, 64)})
	m := c.Model("gpt-4o")
	ids := "[" + strings.Repeat("1000,", 2000) + "1000]"
	chat := chatRequest(t, []json.RawMessage{json.RawMessage(ids)}, "")
	plain, err := dialect.OpenAICompletions{}.ParseRequest([]byte(`{"prompt":[` + ids + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n := c.Prompt(m, plain); n != 2001 {
			t.Errorf("the ids count as %d tokens", n)
		}
		c.memo.entries.Wait()
		if n := c.Prompt(m, chat); n < 4000 {
			t.Errorf("as a message of a chat they count as %d tokens", n)
		}
		c.memo.entries.Wait()
	}
}

func TestMemoConcurrently(t *testing.T) {
	memo, plain := newMemo(t, 64), New(Options{})
	c := New(Options{Memo: memo})
	m := c.Model("gpt-4o")
	r := rand.New(rand.NewPCG(12, 13))
	var messages []json.RawMessage
	for range 20 {
		messages = append(messages, chatMessage(r, "user", 1500))
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 20 {
				request := chatRequest(t, messages[(g+i)%5:10+i%10], "")
				if got, want := c.Prompt(m, request), plain.Prompt(m, request); got != want {
					t.Errorf("%d tokens, want %d", got, want)
				}
			}
		})
	}
	all.Wait()
	memo.Close()
	request := chatRequest(t, messages, "")
	if got, want := c.Prompt(m, request), plain.Prompt(m, request); got != want {
		t.Errorf("after Close: %d tokens, want %d", got, want)
	}
}

// BenchmarkTurn is a turn of a conversation of 256 KB, from its bytes to its tokens:
// without a memo; with one that has seen all but the last question and answer; and
// parsing alone.
func BenchmarkTurn(b *testing.B) {
	r := rand.New(rand.NewPCG(14, 15))
	var messages []json.RawMessage
	for total := 0; total < 256<<10; {
		messages = append(messages, chatMessage(r, "user", 2000))
		total += len(messages[len(messages)-1])
	}
	turn := func() []byte { // says something new
		n := len(messages) - 2
		body, err := json.Marshal(map[string]any{"model": "gpt-4o", "messages": append(slices.Clone(messages[:n]), chatMessage(r, "assistant", 2000), chatMessage(r, "user", 2000))})
		if err != nil {
			b.Fatal(err)
		}
		return body
	}
	parse := func(body []byte) *dialect.Request {
		request, err := dialect.OpenAIChat{}.ParseRequest(body)
		if err != nil {
			b.Fatal(err)
		}
		return request
	}
	run := func(b *testing.B, f func(body []byte)) {
		b.SetBytes(int64(len(turn())))
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			body := turn()
			b.StartTimer()
			f(body)
		}
	}
	m := New(Options{}).Model("gpt-4o")
	b.Run("cold", func(b *testing.B) {
		c := New(Options{})
		run(b, func(body []byte) { c.Prompt(m, parse(body)) })
	})
	b.Run("seen", func(b *testing.B) {
		memo := newMemo(b, DefaultMemo)
		c := New(Options{Memo: memo})
		c.Prompt(m, parse(turn()))
		memo.entries.Wait()
		run(b, func(body []byte) { c.Prompt(m, parse(body)) })
	})
	b.Run("parse", func(b *testing.B) { run(b, func(body []byte) { parse(body) }) })
}

// A message by itself costs what it adds to the whole, whether it is remembered or
// not; and the whole is the sum.
func TestMemoOfMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	plain, memo := New(Options{}), newMemo(t, 1000)
	counter := New(Options{Memo: memo})
	for range 50 {
		messages := []json.RawMessage{}
		for range r.IntN(6) {
			messages = append(messages, chatMessage(r, "tool", size(r)))
		}
		q := chatRequest(t, messages, `[{"type":"function","function":{"name":"f"}}]`)
		for _, name := range []string{"gpt-4o", "gpt-4", "gpt-5", "gpt-4o"} {
			m := counter.Model(name)
			sum := counter.Rest(m, q)
			for i := range messages {
				n := counter.Message(m, q, i)
				if want := plain.Message(m, q, i); n != want {
					t.Fatalf("%s: message %d has %d tokens, want %d", name, i, n, want)
				}
				sum += n
			}
			if want := plain.Prompt(m, q); sum != want {
				t.Fatalf("%s: %d tokens in all, want %d", name, sum, want)
			}
			memo.entries.Wait()
		}
	}
}
