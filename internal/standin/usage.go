package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// asked is what a request says about its answer.
type asked struct {
	stream bool
	usage  bool // stream_options.include_usage
}

// readAsked reads a JSON request; anything else asks for nothing.
func readAsked(body []byte) asked {
	var req struct {
		Stream        bool `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return asked{}
	}
	return asked{stream: req.Stream, usage: req.StreamOptions.IncludeUsage}
}

// chunk is what matters here of an event of OpenAI's chat or completions stream.
type chunk struct {
	Object  string   `json:"object"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage"`
}

type choice struct {
	Delta struct {
		Content string `json:"content"`
	} `json:"delta"`
	Text         string  `json:"text"`
	FinishReason *string `json:"finish_reason"`
}

// usage is OpenAI's usage object, as far as it is computed here.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// readChunk returns the JSON of an event, and false for [DONE].
func readChunk(event []byte) (c chunk, raw []byte, ok bool) {
	raw, ok = bytes.CutPrefix(bytes.TrimSpace(event), []byte("data: "))
	if !ok || json.Unmarshal(raw, &c) != nil {
		return chunk{}, nil, false
	}
	return c, raw, true
}

// text returns what the event adds to the answer.
func (c chunk) text() string {
	var b strings.Builder
	for _, choice := range c.Choices {
		b.WriteString(choice.Delta.Content)
		b.WriteString(choice.Text)
	}
	return b.String()
}

// repeatable reports whether the event is nothing but text: the end of a choice
// must come only once.
func (c chunk) repeatable() bool {
	ends := func(ch choice) bool { return ch.FinishReason != nil }
	return c.text() != "" && !slices.ContainsFunc(c.Choices, ends)
}

// shape returns the events of a recorded stream as the request wants them: those
// with text repeated, and usage reported only if asked for. Streams other than
// OpenAI's chat and completions always carry their usage and stay as they are.
func (o Options) shape(rec Recording, repeat int, wantUsage bool, body []byte) ([][]byte, error) {
	first, _, ok := readChunk(rec.Events[0])
	if !ok || first.Object != "chat.completion.chunk" && first.Object != "text_completion" {
		if repeat > 1 {
			return nil, fmt.Errorf("%s: not known for the format of %s", headerRepeat, rec.Name)
		}
		return rec.Events, nil
	}

	var (
		events   [][]byte // without the usage chunk
		recorded *usage
		text     strings.Builder
		from, to int // the events to repeat
	)
	for _, ev := range rec.Events {
		c, _, _ := readChunk(ev)
		if c.Usage != nil {
			recorded = c.Usage
			continue
		}
		events = append(events, ev)
		if c.repeatable() {
			if to == 0 {
				from = len(events) - 1
			}
			to = len(events)
		}
		text.WriteString(c.text())
	}
	switch {
	case repeat > 1 && to == 0:
		return nil, fmt.Errorf("%s: no event of %s has text", headerRepeat, rec.Name)
	case wantUsage && repeat == 1 && recorded != nil:
		return rec.Events, nil
	}

	var final *usage
	if wantUsage && o.CountOutput != nil {
		final = o.count(events[from:to], repeat, text.String(), recorded, body)
	}
	// Mark first and repeat then: the repeated events share their bytes.
	for i, ev := range events {
		events[i] = markUsage(ev, final != nil)
	}
	middle := slices.Repeat(events[from:to], repeat)
	shaped := slices.Concat(events[:from], middle, events[to:])
	if final != nil {
		shaped = slices.Insert(shaped, len(shaped)-1, usageEvent(shaped[0], *final)) // before [DONE]
	}
	return shaped, nil
}

// count computes the usage of an answer whose middle events come repeat times.
// text is the answer with all events once; what was recorded beyond its tokens
// (reasoning and framing) was spent once and stays.
func (o Options) count(middle [][]byte, repeat int, text string, recorded *usage, body []byte) *usage {
	hidden, prompt := 0, (len(body)+3)/4
	if recorded != nil {
		hidden, prompt = max(recorded.Completion-o.CountOutput(text), 0), recorded.Prompt
	}
	if o.CountInput != nil {
		prompt = o.CountInput(body)
	}
	var part strings.Builder
	for _, ev := range middle {
		c, _, _ := readChunk(ev)
		part.WriteString(c.text())
	}
	// All text outside the middle comes after it: the first event has none.
	long := strings.Repeat(part.String(), repeat-1) + text
	completion := o.CountOutput(long) + hidden
	return &usage{Prompt: prompt, Completion: completion, Total: prompt + completion}
}

var usageNull = []byte(`"usage":null,`)

// markUsage adds or removes "usage": null, which every chunk but the one with
// the numbers has if and only if usage was asked for. The bytes looked for cannot
// occur inside a JSON string, where quotes are escaped.
func markUsage(event []byte, want bool) []byte {
	has := bytes.Contains(event, usageNull)
	switch {
	case has && !want:
		return bytes.Replace(event, usageNull, nil, 1)
	case want && !has:
		if _, _, ok := readChunk(event); !ok {
			return event // [DONE]
		}
		at := bytes.IndexByte(event, '{') + 1
		return slices.Concat(event[:at], usageNull, event[at:])
	}
	return event
}

// usageEvent makes the chunk with the numbers; another chunk of the same answer
// supplies id, model and the like.
func usageEvent(like []byte, u usage) []byte {
	_, raw, _ := readChunk(like)
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		panic(err) // readChunk has parsed it
	}
	numbers, err := json.Marshal(u)
	if err != nil {
		panic(err) // a struct of integers always marshals
	}
	fields["choices"], fields["usage"] = json.RawMessage("[]"), numbers
	delete(fields, "obfuscation")
	made, err := json.Marshal(fields)
	if err != nil {
		panic(err) // raw messages that came out of Unmarshal
	}
	return slices.Concat([]byte("data: "), made, []byte("\n\n"))
}
