package dialect

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// usualChunks are chunks as servers send them, and read without the decoder.
var usualChunks = []string{
	`{"id":"chatcmpl-C4HqHBe4xca0k0EzsCnf1t6V3YFXp","object":"chat.completion.chunk","created":1755137933,"model":"gpt-5-nano-2025-08-07","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":" there"},"finish_reason":null}],"obfuscation":"LcdzdJdMMgDHt6"}`,
	`{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"y"}`,
	`{"id":"x","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}`,
	`{"choices":[{"delta":{"content":"caf\u00e9 \"\\\/\b\f\n\r\t 😀 \ud83d\ude00 \ud800 \udc00\u0041"},"index":0}]}`,
	`{"choices":[{"index":1,"delta":{"content":"你好"},"logprobs":{"content":[{"token":"你","logprob":-0.5e-3,"bytes":[228,189,160],"top_logprobs":[]}],"refusal":null},"finish_reason":null}]}`,
	`{"id": "x", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "r", "content": null, "tool_calls": null}, "finish_reason": null, "stop_reason": null, "token_ids": null}]}`,
	`{"choices":[{"delta":{"reasoning":"r","refusal":"","audio":null,"function_call":null},"index":12,"native_finish_reason":"x","x":null}],"provider":{"a":[true,false,{}]}}`,
	`{"choices":[{"index":2,"delta":{"refusal":"no"},"finish_reason":"content_filter","content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}],"error":null}`,
	" { \"choices\" : [ { \"delta\" : { \"content\" : \"a\" } , \"index\" : 0 } ] , \"x\" : [ 1 , { } , [ ] ] } \r\n\t",
	"{\"choices\":[{\"delta\":{\"content\":\"\xff\xc0\x80\x7f\"}}]}",
	`{"choices":[{"index":127,"delta":{"content":""},"finish_reason":"stop"}],"created":[1],"id":` + `"` + strings.Repeat("x", 300) + `"}`,
	`{"choices":[{"index":999,"delta":{},"finish_reason":"stop"}]}`,
	`{"choices":[{}]}`,
	`{"id":"x","object":"text_completion","created":1,"choices":[{"text":" a","index":0,"logprobs":null,"finish_reason":null}],"model":"m"}`,
	`{"choices":[{"text":"a","delta":{"content":""},"index":1}]}`,
	`{"choices":[{"delta":{"content":"a"},"text":"","index":1}]}`,
	`{"choices":[{"text":"","delta":{"content":"a"}}]}`,
	`{"choices":[{"text":"a","text":"","index":1}]}`,
}

// unusualChunks are left to the decoder. Many differ from a usual one in one thing only.
var unusualChunks = []string{
	``, ` `, `[DONE`, `{`, `{}`, `null`, `[]`, `"choices"`, `{"choices":[]}`, `{"choices":null}`, `{"choices":[null]}`, `{"choices":["t"]}`, `{"choices":{}}`, `{"output_text":"t"}`,
	`{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}`,
	`{"choices":[{"delta":{"content":"a"}}],"choices":[{"delta":{"content":"b"}}]}`,
	`{"choices":[{"delta":{"content":"a"},"delta":{"content":"b"}}]}`,
	`{"choices":[{"delta":{"content":"a","content":"b"}}]}`,
	`{"choices":[{"index":0,"delta":{"content":"a"},"index":1}]}`,
	`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop","finish_reason":null}]}`,
	`{"id":"a","id":"b","choices":[{"delta":{"content":"a"}}]}`,
	`{"choices":[{"delta":{"content":"a"}}]} t`, `{"choices":[{"delta":{"content":"a"}}]}{}`, `{"choices":[{"delta":{"content":"a"}}]}}`, `{"choices":[{"delta":{"content":"a"}}]`, `{"choices":[{"delta":{"content":"a"}}],}`,
	`{"choices":[{"delta":{"content":"a"}},]}`, `{"choices":[{"delta":{"content":"a"},}]}`, `{"choices":[{"delta":{"content":"a",}}]}`, `{"choices":[{"delta":{"content":"a"}}]"x":1}`, `{"choices"[{"delta":{"content":"a"}}]}`,
	`{"choices":[{"delta":{"content":"\x"}}]}`, `{"choices":[{"delta":{"content":"\u12g4"}}]}`, `{"choices":[{"delta":{"content":"\u12"}}]}`, "{\"choices\":[{\"delta\":{\"content\":\"a\nb\"}}]}", `{"choices":[{"delta":{"content":"a}}]}`,
	`{"choic\u0065s":[{"delta":{"content":"a"}}]}`, `{"choices":[{"delta":{"cont\u0065nt":"a"}}]}`, `{"choices":[{"delta":{"content":"a"}}],"\u0069d":1}`,
	`{"choices":[{"delta":{"content":["a"]}}]}`, `{"choices":[{"delta":{"content":{"a":1}}}]}`, `{"choices":[{"delta":{"content":1}}]}`, `{"choices":[{"delta":"t"}]}`, `{"choices":[{"delta":null}]}`,
	`{"choices":[{"delta":{"content":"c","monologue":"m"}}]}`, `{"choices":[{"delta":{"monologue":"m"}}]}`, `{"choices":[{"delta":{"monologue":{}}}]}`, `{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}}]}`, `{"choices":[{"delta":{"tool_calls":[]}}]}`,
	`{"choices":[{"delta":{"reasoning":"r","content":"c"}}]}`, `{"choices":[{"delta":{"reasoning":"r","reasoning_content":"r"}}]}`, `{"choices":[{"delta":{"reasoning_details":[{"text":"r"}]}}]}`, `{"choices":[{"delta":{"audio":{"data":"AAAA"}}}]}`, `{"choices":[{"delta":{"images":[{}]}}]}`,
	`{"choices":[{"text":"t","delta":{"content":"t"}}]}`, `{"choices":[{"delta":{"content":"t"},"text":"t"}]}`, `{"choices":[{"usage":{"prompt_tokens":1,"completion_tokens":2}}]}`, `{"choices":[{"message":{"content":"so far"},"delta":{"content":" far"}}]}`, `{"choices":[{"message":null,"delta":{"content":" far"}}]}`, `{"choices":[{"x":"t"}]}`, `{"choices":[{"x":1}]}`,
	`{"choices":[{"index":1000}]}`, `{"choices":[{"index":-1}]}`, `{"choices":[{"index":1.5}]}`, `{"choices":[{"index":1e1}]}`, `{"choices":[{"index":01}]}`, `{"choices":[{"index":00}]}`, `{"choices":[{"index":null}]}`, `{"choices":[{"index":"1"}]}`, `{"choices":[{"index":}]}`,
	`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, `{"choices":[{"delta":{"content":"a"}}],"usage":{}}`, `{"choices":[{"delta":{"content":"a"}}],"error":{}}`, `{"choices":[{"delta":{"content":"a"}}],"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}`,
	`{"choices":[{"delta":{"content":"a"}}],"x":01}`, `{"choices":[{"delta":{"content":"a"}}],"x":+1}`, `{"choices":[{"delta":{"content":"a"}}],"x":1.}`, `{"choices":[{"delta":{"content":"a"}}],"x":tru}`, `{"choices":[{"delta":{"content":"a"}}],"x":[1,]}`, `{"choices":[{"delta":{"content":"a"}}],"x":{"a"}}`, `{"choices":[{"delta":{"content":"a"}}],"x":nul}`, `{"choices":[{"delta":{"content":"a"}}],"x":nulll}`,
	`{"choices":[{"delta":{"content":"a"}}],"x":` + strings.Repeat("[", plainDepth+1) + strings.Repeat("]", plainDepth+1) + `}`,
	`{"choices":[{"delta":{"content":"a"}}],"x":` + strings.Repeat(`{"a":`, plainDepth+1) + `1` + strings.Repeat("}", plainDepth+1) + `}`,
	"\ufeff" + `{"choices":[{"delta":{"content":"a"}}]}`, "\v" + `{"choices":[{"delta":{"content":"a"}}]}`,
}

// twins are two streams that must say the same of the same events.
type twins struct {
	plain, decoded chatStream
	a, b           Event
}

func newTwins() *twins {
	w := new(twins)
	w.plain.init(&Request{Choices: 3})
	w.decoded.init(&Request{Choices: 3})
	return w
}

// read gives data to both, the second of which does not read plain chunks, and compares what
// comes out and what stays. It says whether the first has read a plain chunk.
func (w *twins) read(t *testing.T, data []byte) (plain bool) {
	t.Helper()
	plain = new(plainChunk).read(data)
	w.plain.Event(data, &w.a)
	w.decoded.eventDecoded(data, &w.b)
	fail := func(what string, a, b any) { t.Fatalf("%q: %s is\n%v, and\n%v by the decoder", data, what, a, b) }

	same := func(a, b Text) bool { return a.Slot == b.Slot && bytes.Equal(a.Bytes, b.Bytes) }
	if !slices.EqualFunc(w.a.Texts, w.b.Texts, same) {
		fail("text", w.a.Texts, w.b.Texts)
	}
	a, b := w.a, w.b
	a.Texts, b.Texts, a.scratch, b.scratch = nil, nil, nil, nil
	if !reflect.DeepEqual(a, b) {
		fail("the event", a, b)
	}
	if !maps.Equal(w.plain.slots, w.decoded.slots) {
		fail("the slots", w.plain.slots, w.decoded.slots)
	}
	if !slices.Equal(w.plain.finishing, w.decoded.finishing) {
		fail("what ends", w.plain.finishing, w.decoded.finishing)
	}
	if !slices.Equal(w.plain.calls, w.decoded.calls) {
		fail("what is called", w.plain.calls, w.decoded.calls)
	}
	w.plain.Forwarded()
	w.decoded.Forwarded()
	if w.plain.Ended() != w.decoded.Ended() {
		fail("the end", w.plain.Ended(), w.decoded.Ended())
	}
	usage := Usage{Known: true, Output: 7}
	if x, y := w.plain.Close(nil, usage), w.decoded.Close(nil, usage); !bytes.Equal(x, y) {
		fail("the closing", string(x), string(y))
	}
	return plain
}

func TestPlainChunk(t *testing.T) {
	w := newTwins()
	for _, c := range usualChunks {
		if !newTwins().read(t, []byte(c)) {
			t.Errorf("%s is not plain", c)
		}
		w.read(t, []byte(c))
	}
	for _, c := range unusualChunks {
		if newTwins().read(t, []byte(c)) {
			t.Errorf("%s is plain", c)
		}
		w.read(t, []byte(c))
	}
}

// TestPlainChunkHead: a chunk that begins as the one before is read from its text on, and has nothing
// of what stood behind the other's text.
func TestPlainChunkHead(t *testing.T) {
	for _, tt := range []struct{ first, second string }{
		{usualChunks[0], strings.Replace(usualChunks[0], " there", `\u00e9`, 1)},
		{usualChunks[0], strings.Replace(usualChunks[0], "C4HqH", "D5IrI", 1)},
		{`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`, `{"choices":[{"delta":{"content":"b"}}]}`},
		{`{"choices":[{"delta":{"content":"a"},"index":2}]}`, `{"choices":[{"delta":{"content":"b"}}]}`},
		{`{"choices":[{"delta":{"content":"a"},"index":2}]}`, `{"choices":[{"delta":{"content":"b"},"index":1}]}`},
		{`{"choices":[{"delta":{"content":"a"}}],"id":"x","model":"` + strings.Repeat("m", 300) + `","created":1,"system_fingerprint":2}`, `{"choices":[{"delta":{"content":"b"}}],"id":"y","model":"m","created":1,"system_fingerprint":2}`},
		{`{"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}`, `{"choices":[{"index":0,"delta":{"role":"assistant","content":"b","refusal":null},"finish_reason":"stop"}]} `},
		{`{"id":1,"choices":[{"text":"a","index":0}]}`, `{"id":1,"choices":[{"text":"b","index":1}]}`},
		{`{"choices":[{"delta":{},"text":"a"}]}`, `{"choices":[{"delta":{},"text":"b"}]}`},
	} {
		w := newTwins()
		w.read(t, []byte(tt.first))
		head := w.plain.before
		if c := head.chunk; !head.begins([]byte(tt.second)) || !c.readOn([]byte(tt.second)) {
			t.Errorf("%s is not read from its text on, behind\n%s", tt.second, tt.first)
		}
		w.read(t, []byte(tt.second))
	}
}

// TestPlainChunkChanged: nothing goes wrong where a usual chunk differs by a byte, ends early, or
// has something more.
func TestPlainChunkChanged(t *testing.T) {
	plain, all := 0, 0
	for _, c := range usualChunks {
		w := newTwins()
		read := func(data []byte) {
			all++
			w.read(t, []byte(c)) // so that its head is known
			if w.read(t, data) {
				plain++
			}
		}
		for i := range len(c) {
			read([]byte(c[:i]))
			read([]byte(c[:i] + c[i+1:]))
			for k, b := range []byte("\"\\{}[],:nt0-. \n\x00\xff") {
				if (i+k)%4 > 0 {
					continue // the others come at the next bytes
				}
				changed := []byte(c)
				changed[i] = b
				read(changed)
				read(slices.Insert([]byte(c), i, b))
			}
			for _, p := range []string{`"x":1,`, `,"id":2`, `"content":"b",`, `"choices":[],`, `null`, `\u`, `\ud83d`} {
				read([]byte(c[:i] + p + c[i:]))
			}
		}
	}
	t.Logf("%d of %d are plain", plain, all)
	if plain < 1000 || all-plain < 1000 {
		t.Error("these are not enough to compare")
	}
}

// TestPlainChunkRecorded: the events of all recordings mean the same, changed or not, and those
// of plain streams are plain but for their last ones.
func TestPlainChunkRecorded(t *testing.T) {
	usual := []string{"openai/chat-streaming", "openai/completion-streaming", "openai-compatible/stream"}
	dir := os.DirFS("../standin/recordings")
	files, err := fs.Glob(dir, "*/*/response.sse")
	if err != nil || len(files) < len(usual) {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(path.Dir(file), func(t *testing.T) {
			body, err := fs.ReadFile(dir, file)
			if err != nil {
				t.Fatal(err)
			}
			w, changed := newTwins(), newTwins()
			plain, all := 0, 0
			for line := range bytes.Lines(body) {
				data, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data: "))
				if !ok {
					continue
				}
				if all++; w.read(t, data) {
					plain++
				}
				for i := all % 7; i < min(len(data), 2000); i += 7 {
					c := bytes.Clone(data)
					c[i] = "\"\\{}[],:n0-. x\n\xff"[(i+all)%16]
					changed.read(t, c)
					changed.read(t, data)
				}
			}
			if slices.Contains(usual, path.Dir(file)) && (all < 3 || plain < all-3) {
				t.Errorf("%d of %d events are plain", plain, all)
			}
		})
	}
}

// FuzzPlainEvent: any data, three times over and between usual chunks, is the same to both ways
// of reading.
func FuzzPlainEvent(f *testing.F) {
	for _, c := range usualChunks {
		f.Add([]byte(c), []byte(usualChunks[0]))
	}
	f.Add([]byte(usualChunks[0]), []byte(strings.Replace(usualChunks[0], "C4HqH", `\"4H\"`, 1)))
	for i, c := range unusualChunks {
		f.Add([]byte(c), []byte(usualChunks[i%len(usualChunks)]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		w := newTwins()
		for _, data := range [][]byte{first, second, first} {
			w.read(t, data)
		}
	})
}

// BenchmarkPlainEvent is a usual event by both ways, to be compared within one run.
func BenchmarkPlainEvent(b *testing.B) {
	data := []byte(usualChunks[0])
	for _, by := range []string{"plain", "decoder"} {
		b.Run(by, func(b *testing.B) {
			w := newTwins()
			b.ReportAllocs()
			for b.Loop() {
				if by == "plain" {
					w.plain.Event(data, &w.a)
				} else {
					w.plain.eventDecoded(data, &w.a)
				}
			}
		})
	}
}
