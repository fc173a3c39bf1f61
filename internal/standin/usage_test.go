package standin

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// words counts as a stand-in for a tokenizer: every space begins a token.
func words(text string) int { return strings.Count(text, " ") }

// answer collects what a client would see of a stream.
type answer struct {
	text   string
	usages []usage
	nulls  int
	events int
	done   bool
}

func read(t *testing.T, events [][]byte) (a answer) {
	t.Helper()
	for i, ev := range events {
		if !bytes.HasPrefix(ev, []byte("data: ")) || !bytes.HasSuffix(ev, []byte("\n\n")) {
			t.Fatalf("event %d is not whole: %q", i, ev)
		}
		c, raw, ok := readChunk(ev)
		if !ok {
			a.done = string(bytes.TrimSpace(ev)) == "data: [DONE]" && i == len(events)-1
			continue
		}
		a.events++
		a.text += c.text()
		if c.Usage != nil {
			if len(c.Choices) > 0 {
				t.Errorf("the usage chunk has choices: %s", raw)
			}
			a.usages = append(a.usages, *c.Usage)
		}
		if bytes.Contains(raw, []byte(`"usage":null`)) {
			a.nulls++
		}
	}
	return a
}

// TestUsage: the usage chunk comes if and only if it was asked for and is known,
// and its numbers are those of the text that is sent.
func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		recording string
		repeat    int
		want      bool
		count     func(string) int
		usage     string // {prompt completion total}, or empty for none
	}{
		{"openai/chat-streaming", 1, false, words, ""},
		{"openai/chat-streaming", 1, true, nil, ""},
		{"openai/chat-streaming", 1, true, words, "{5 36 41}"},
		{"openai/chat-streaming", 3, true, words, "{5 108 113}"},
		{"openai/completion-streaming", 1, true, words, "{5 23 28}"},
		{"openai-compatible/stream", 1, false, words, ""},
		{"openai-compatible/stream", 1, true, nil, "{18 286 304}"},
		{"openai-compatible/stream", 3, true, nil, ""},
		{"openai-compatible/stream", 3, true, words, ""}, // filled in below
		{"openai/chat-streaming-detailed-usage", 1, true, nil, "{12 100 112}"},
		{"openai/chat-streaming-detailed-usage", 1, false, nil, ""},
	} {
		rec, err := Load(tt.recording)
		if err != nil {
			t.Fatal(err)
		}
		original := bytes.Clone(rec.Body)
		events, err := Options{CountOutput: tt.count}.shape(rec, tt.repeat, tt.want, make([]byte, 20))
		if err != nil {
			t.Fatal(err)
		}
		once, got := read(t, rec.Events), read(t, events)
		if tt.repeat == 3 && tt.recording == "openai-compatible/stream" && tt.count != nil {
			// what was billed beyond the text stays billed once
			completion := 286 + 2*words(once.text)
			tt.usage = fmt.Sprint(usage{18, completion, 18 + completion})
		}
		usages := strings.Trim(fmt.Sprint(got.usages), "[]")
		if usages != tt.usage {
			t.Errorf("%+v: usage %s", tt, usages)
		}
		if want := strings.Repeat(once.text, tt.repeat); got.text != want || !got.done {
			t.Errorf("%+v: text %q, [DONE] %v", tt, got.text, got.done)
		}
		nulls := 0
		if tt.usage != "" {
			nulls = got.events - 1
		}
		if got.nulls != nulls {
			t.Errorf("%+v: %d of %d events have usage null, want %d", tt, got.nulls, got.events, nulls)
		}
		if !bytes.Equal(original, rec.Body) {
			t.Fatalf("%+v: the recording itself was changed", tt)
		}
	}
}

func TestCountInput(t *testing.T) {
	rec, err := Load("openai/chat-streaming")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{CountOutput: words, CountInput: func(b []byte) int { return len(b) }}
	events, err := o.shape(rec, 1, true, make([]byte, 20))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, events); len(got.usages) != 1 || got.usages[0].Prompt != 20 {
		t.Errorf("usage %v", got.usages)
	}
}
