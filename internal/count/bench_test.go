package count_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// conversation is a request of about size bytes: a system message, a tool, and
// turns of prose and code, with the escapes which they have in JSON.
func conversation(size int) []byte {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	type body struct {
		Model    string          `json:"model"`
		Stream   bool            `json:"stream"`
		Messages []message       `json:"messages"`
		Tools    json.RawMessage `json:"tools"`
	}
	b := body{Model: "gpt-4o", Stream: true, Messages: []message{{"system", "You answer questions about a program."}},
		Tools: json.RawMessage(`[{"type":"function","function":{"name":"read_file","description":"Read a file","parameters":{"type":"object","properties":{"path":{"type":"string","description":"Where it is"},"lines":{"type":"integer"}},"required":["path"]}}}]`)}
	for n := 0; n < size; {
		role := []string{"user", "assistant"}[len(b.Messages)%2]
		text := strings.Repeat(fmt.Sprintf("The function below is called with %d arguments, and returns \"nothing\":\n\n\tif err != nil {\n\t\treturn fmt.Errorf(\"reading %%s: %%w\", name, err)\n\t}\n\nWhy does that happen?\n", len(b.Messages)), 7)
		b.Messages = append(b.Messages, message{role, text})
		n += len(text) * 11 / 10
	}
	out, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return out
}

// BenchmarkRequest is what a request costs before it is forwarded: parse is
// ParseRequest and handing out the texts, without a token counted; prompt is all of it.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{1 << 10, 14 << 10, 255 << 10} {
		body := conversation(size)
		name := fmt.Sprintf("%dKB", (len(body)+512)>>10)
		b.Run("parse/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := dialect.OpenAIChat{}.ParseRequest(body)
				if err != nil {
					b.Fatal(err)
				}
				for i := range r.Messages() {
					r.Message(i, "gpt-4o", func([]byte) {})
				}
				r.Rest("gpt-4o", func([]byte) {})
			}
		})
		b.Run("prompt/"+name, func(b *testing.B) {
			c := count.New(count.Options{})
			model := c.Model("gpt-4o")
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				r, err := dialect.OpenAIChat{}.ParseRequest(body)
				if err != nil {
					b.Fatal(err)
				}
				c.Prompt(model, r)
			}
		})
	}
}
