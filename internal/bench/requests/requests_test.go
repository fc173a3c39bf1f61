package requests

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// messages reads a body as an API would, and fails if that cannot.
func messages(t *testing.T, body []byte) []string {
	t.Helper()
	var r struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	var contents []string
	for _, m := range r.Messages {
		if m.Role == "" || m.Content == "" {
			t.Fatalf("a message lacks its role or content: %+v", m)
		}
		contents = append(contents, m.Content)
	}
	if r.Model == "" || len(contents) < 2 {
		t.Fatalf("model %q, %d messages", r.Model, len(contents))
	}
	return contents
}

// What is measured as cold has not been seen: no text of a request comes in another
// one. The sizes are what the rows say.
func TestColdPrompts(t *testing.T) {
	lib := NewLibrary(1)
	for _, size := range []int{2 << 10, 16 << 10, 256 << 10} {
		seen := make(map[string]bool)
		for stream := range uint64(3) {
			p := NewCold(lib.NewSource(stream), size)
			if stream == 2 {
				p = NewStreamed(lib.NewSource(stream), size)
			}
			for range 4 {
				body := p.Next()
				if n := len(body); n > size+64 || n < size*9/10 {
					t.Errorf("%d: a body of %d bytes", size, n)
				}
				contents := messages(t, body)
				for _, c := range contents[1:] {
					for paragraph := range strings.SplitSeq(c, "\n\n") {
						if len(paragraph) > 40 && seen[paragraph] {
							t.Errorf("%d: this comes twice: %.60q", size, paragraph)
						}
						seen[paragraph] = true
					}
				}
			}
		}
	}
}

// A turn of a conversation is what a turn before it had, and a little more.
func TestConversations(t *testing.T) {
	const size = 64 << 10
	p := NewConversations(NewLibrary(1).NewSource(1), size)
	before := make([][]byte, Parallelism)
	begin := 0
	for turn := range 40 * Parallelism {
		body := bytes.Clone(p.Next())
		messages(t, body)
		if len(body) > size || len(body) < size-headroom-userTurn-modelTurn {
			t.Fatalf("turn %d has %d bytes", turn, len(body))
		}
		said := bytes.TrimSuffix(body, []byte(bodyTail))
		old := before[turn%Parallelism]
		before[turn%Parallelism] = said
		switch {
		case old == nil:
		case bytes.HasPrefix(said, old):
			if n := len(said) - len(old); n == 0 || n > 2*(newMessage+reply) {
				t.Errorf("turn %d adds %d bytes", turn, n)
			}
		case bytes.HasPrefix(said, old[:size-headroom-userTurn-modelTurn]):
			begin++ // back to the beginning
		default:
			t.Errorf("turn %d is not of its conversation", turn)
		}
	}
	if begin < Parallelism {
		t.Errorf("conversations began anew %d times; the test should see that of each", begin)
	}
}

// The same seed makes the same texts, and another stream others.
func TestPromptsAreDeterministic(t *testing.T) {
	first := func(stream uint64) string {
		return string(NewCold(NewLibrary(7).NewSource(stream), 4<<10).Next())
	}
	one, again, two := first(1), first(1), first(2)
	if one != again || one == two {
		t.Error("streams are not what their seeds say")
	}
}
