package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

const (
	// Secret is the word in prompts that nothing may quote.
	Secret = "s3cret"
	// Limit is what the budget allows that the rows spend from, in tokens.
	Limit = 10_000_000
)

// Outcome is what a row got.
type Outcome struct {
	Row                       *Case
	Outcome, Limit, Reason    string // of the log's line
	Status                    int
	Input, Output             int64 // tokens
	Held, Spent               int64 // tokens, before and after the end
	InputSource, OutputSource string
	Refused                   bool   // the client got an error of ours
	Message                   string // in it
	Forwarded                 bool   // the request reached the upstream
	Body                      []byte // that reached it, if it is not the client's
	Sent, Client              []byte // bytes of the answer, as they came and as they left
	Trouble                   string // the error with which the gRPC stream ended
}

// String is the outcome as the corpus has it: what the other side sees in the first line, what the
// log and the ledger say in the second.
func (o *Outcome) String() string { return o.Seen() + "\n" + o.Told() + "\n" }

// Seen is what client and upstream see.
func (o *Outcome) Seen() string {
	switch {
	case o.Refused:
		return fmt.Sprintf("refused with %d: %s", o.Status, o.Message)
	case o.Trouble != "":
		return "broken off: " + o.Trouble
	case o.Row.Kind == "request" && !o.Forwarded:
		return "passes unmetered"
	case o.Row.Kind == "request" && o.Body == nil:
		return "forwarded as it is"
	case o.Row.Kind == "request":
		return "forwarded with another body: " + clip(o.Body, 400)
	case len(o.Sent) == 0 && len(o.Client) == 0:
		return "the client gets no body"
	case bytes.Equal(o.Sent, o.Client):
		return "the client gets all of it"
	}
	head := commonPrefix(o.Sent, o.Client)
	added := o.Client[head:]
	tail := commonSuffix(o.Sent[head:], added)
	if len(added) == 0 && !bytes.HasPrefix(o.Sent[head:], []byte(`data: {"choices":[],"usage"`)) {
		return fmt.Sprintf("the client gets the first %d of %d bytes", head, len(o.Sent))
	}
	if end := len(o.Sent) - tail; tail == len(added) {
		// What is left out may begin like what follows it: whole events are meant.
		for head > 0 && o.Sent[head-1] == o.Sent[end-1] && !bytes.HasPrefix(o.Sent[head:], []byte("data: ")) {
			head, end = head-1, end-1
		}
		return fmt.Sprintf("the client gets all but %s", clip(o.Sent[head:end], 200))
	}
	return fmt.Sprintf("the client gets the first %d of %d bytes, then %s", head, len(o.Sent), clip(added, 300))
}

// Told is what the log and the ledger say.
func (o *Outcome) Told() string {
	s := o.Outcome
	if o.Limit != "" {
		s += " by " + o.Limit
	}
	if o.Status != 0 && !o.Refused {
		s += fmt.Sprintf(" with status %d", o.Status)
	}
	if o.Reason != "" && !o.Refused {
		s += ", " + o.Reason
	}
	if o.InputSource != "" && o.Row.Kind != "request" { // whose upstream answers with an error
		s += fmt.Sprintf("; prompt %d (%s), answer %d (%s)", o.Input, o.InputSource, o.Output, o.OutputSource)
	}
	if o.Held != 0 && o.Row.Kind == "request" {
		s += fmt.Sprintf("; held %d", o.Held)
	}
	return s + fmt.Sprintf("; charged %d", o.Spent)
}

// Message is the message of an error answer in the shape that OpenAI's and Anthropic's APIs share.
func Message(body []byte) string {
	var e struct{ Error struct{ Message string } }
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Error.Message
}

// clip quotes bytes, the middle of which is left out if they are many.
func clip(b []byte, n int) string {
	if len(b) <= n {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%q … %q (%d bytes)", b[:n/2], b[len(b)-n/2:], len(b))
}

func commonPrefix(a, b []byte) (n int) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func commonSuffix(a, b []byte) (n int) {
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
