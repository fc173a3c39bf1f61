package stage

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// benchHeader is the header of a request that says what to answer, as Answer.String
// writes it.
const benchHeader = "x-bench"

// maxChunks bounds the chunks of a stream.
const maxChunks = 100_000

// Answer is what an upstream is to answer.
type Answer struct {
	Chunks int           // of the stream; 0: the answer is whole
	Pause  time.Duration // between two chunks
	Stay   bool          // the stream does not end: after its chunks it is silent, until the client leaves
}

func (a Answer) String() string {
	if a.Chunks == 0 {
		return "whole"
	}
	return fmt.Sprintf("%d %v %t", a.Chunks, a.Pause, a.Stay)
}

// parseAnswer reads what String has written; nothing at all is a whole answer.
func parseAnswer(s string) (a Answer, err error) {
	if s == "" || s == "whole" {
		return a, nil
	}
	fields := strings.Fields(s)
	if len(fields) != 3 {
		return a, fmt.Errorf("%s: %d words, want 3", benchHeader, len(fields))
	}
	if a.Chunks, err = strconv.Atoi(fields[0]); err == nil && (a.Chunks < 1 || a.Chunks > maxChunks) {
		err = fmt.Errorf("%s: %d chunks, want 1 to %d", benchHeader, a.Chunks, maxChunks)
	}
	if err == nil {
		a.Pause, err = time.ParseDuration(fields[1])
	}
	if err == nil {
		a.Stay, err = strconv.ParseBool(fields[2])
	}
	return a, err
}

// Figures that differ between answers have places of a fixed width, filled with
// spaces, which JSON allows before a number.
const (
	stampWidth = 19 // digits of the greatest int64
	tokenWidth = 7
)

var (
	noStamp  = strings.Repeat("0", stampWidth)
	noTokens = strings.Repeat(" ", tokenWidth-1) + "0"
)

// Whole checks whole answers. The zero value is valid; it is not safe for concurrent use.
type Whole struct{ want []byte }

// Check reports whether an answer to a request of some bytes is the upstream's.
func (w *Whole) Check(answer []byte, request int) error {
	if w.want == nil {
		w.want = []byte(whole)
	}
	setUsage(w.want, wholeUsage, request, WholeOutput)
	if !bytes.Equal(answer, w.want) {
		return fmt.Errorf("the answer, %d bytes long, is not the upstream's, %d bytes long", len(answer), len(w.want))
	}
	return nil
}

// WholeOutput is the output of a whole answer in tokens.
const WholeOutput = 36

var whole = `{"id":"chatcmpl-9xT2kq7Lr0","object":"chat.completion","created":1764000000,"model":"gpt-4o-2024-08-06",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"The retry loop never resets its counter, so the second outage ` +
	`starts with the delay of the first. Set it to zero after a success, and add a test with two outages.","refusal":null,"annotations":[]},` +
	`"logprobs":null,"finish_reason":"stop"}],` + usage(WholeOutput) + `,"service_tier":"default","system_fingerprint":"fp_07871e2ad8"}`

var wholeUsage = findUsage([]byte(whole))

func usage(output int) string {
	return fmt.Sprintf(`"usage":{"prompt_tokens":%s,"completion_tokens":%d,"total_tokens":%s,`+
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,`+
		`"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`, noTokens, output, noTokens)
}

// usagePlaces are where the figures of a usage stand.
type usagePlaces struct{ prompt, total int }

func findUsage(body []byte) usagePlaces {
	find := func(name string) int {
		i := bytes.Index(body, []byte(name))
		if i < 0 {
			panic("no usage in the answer") // it is a constant
		}
		return i + len(name)
	}
	return usagePlaces{find(`"prompt_tokens":`), find(`"total_tokens":`)}
}

// Prompt is what the upstream takes for the tokens of a request of some bytes.
func Prompt(request int) int { return request / 4 }

func setUsage(body []byte, at usagePlaces, request, output int) {
	putNumber(body[at.prompt:at.prompt+tokenWidth], int64(Prompt(request)), ' ')
	putNumber(body[at.total:at.total+tokenWidth], int64(Prompt(request)+output), ' ')
}

// putNumber writes a number into a place, from its end, and fills the rest.
func putNumber(place []byte, n int64, fill byte) {
	i := len(place)
	for ; i > 0 && (n > 0 || i == len(place)); n /= 10 {
		i--
		place[i] = byte('0' + n%10)
	}
	for i--; i >= 0; i-- {
		place[i] = fill
	}
}

// words are what streams say, a word to a chunk. Each is one token of o200k_base, as most chunks of real streams are.
var words = strings.Fields("the retry loop never sets its count back so a second call starts with the delay of the first one " +
	"and then waits for much longer than it should which is what you see in the log after each outage of the server to mend " +
	"this set it to zero when a call has gone well and add a test with two of them in a row")

// script is a stream of a number of chunks.
type script struct {
	chunks int
	body   []byte // all events, with stamps and tokens of zero
	ends   []int  // of each event; the last three are the finish, the usage and [DONE]
	stamps []int  // of each event but [DONE], the place of its stamp
	usage  usagePlaces
}

// newScript writes a stream as OpenAI's API does for a client that asks for usage.
func newScript(chunks int) *script {
	s := &script{chunks: chunks}
	event := func(rest string) {
		s.body = append(s.body, `data: {"id":"chatcmpl-`...)
		s.stamps = append(s.stamps, len(s.body))
		s.body = append(s.body, noStamp+`","object":"chat.completion.chunk","created":1764000000,"model":"gpt-4o-2024-08-06",`+
			`"service_tier":"default","system_fingerprint":"fp_07871e2ad8",`+rest+"}\n\n"...)
		s.ends = append(s.ends, len(s.body))
	}
	for i := range chunks {
		delta := `"content":" ` + words[i%len(words)] + `"`
		if i == 0 {
			delta = `"role":"assistant","content":"` + words[0] + `","refusal":null`
		}
		event(`"choices":[{"index":0,"delta":{` + delta + `},"logprobs":null,"finish_reason":null}],"usage":null,` +
			`"obfuscation":"` + "aVn4Qk0TzR8"[:1+i*7%10] + `"`)
	}
	event(`"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null,"obfuscation":"Uw"`)
	event(`"choices":[],` + usage(chunks) + `,"obfuscation":"p"`)
	s.body = append(s.body, "data: [DONE]\n\n"...)
	s.ends = append(s.ends, len(s.body))
	s.usage = findUsage(s.body)
	return s
}
