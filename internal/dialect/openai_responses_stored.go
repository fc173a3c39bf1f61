package dialect

import (
	"bytes"
	"strconv"
	"strings"
)

// OpenAI's Responses API keeps responses, unless the request says "store": false. Their ids
// are named later: to fetch one that goes on in the background (GET …/responses/ID), to cancel
// it (POST …/responses/ID/cancel), and to go on from it ("previous_response_id").

// Stored is what an answer, or an event of a stream, says of a response that is kept.
type Stored struct {
	ID     string // "" if there is none, or none of the usual form
	Status StoredStatus
	Body   []byte // the response itself, JSON; a part of what was read
}

// StoredStatus is how a response stands.
type StoredStatus string

// What is known of a response's status; any other is "".
const (
	StoredQueued     StoredStatus = "queued"
	StoredInProgress StoredStatus = "in_progress"
	StoredCompleted  StoredStatus = "completed"
	StoredIncomplete StoredStatus = "incomplete"
	StoredFailed     StoredStatus = "failed"
	StoredCancelled  StoredStatus = "cancelled"
)

// storedStatuses are those by their raw strings.
var storedStatuses = func() map[string]StoredStatus {
	all := make(map[string]StoredStatus)
	for _, s := range []StoredStatus{StoredQueued, StoredInProgress, StoredCompleted, StoredIncomplete, StoredFailed, StoredCancelled} {
		all[strconv.Quote(string(s))] = s
	}
	return all
}()

// GoesOn says that more will be added to the response.
func (s StoredStatus) GoesOn() bool { return s == StoredQueued || s == StoredInProgress }

// Ended says that nothing more will.
func (s StoredStatus) Ended() bool {
	return s == StoredCompleted || s == StoredIncomplete || s == StoredFailed || s == StoredCancelled
}

// maxStoredID is the longest id that is read, in bytes. OpenAI's have some 55; proxies hide
// more in theirs.
const maxStoredID = 512

// ReadStored reads an answer, or the data of an event. What is not understood says nothing.
func ReadStored(data []byte) Stored {
	if wellFormed(data) != nil {
		return Stored{}
	}
	return StoredAnswer(data)
}

// StoredAnswer is ReadStored of JSON that [API.ParseAnswer] has taken.
func StoredAnswer(data []byte) (s Stored) {
	r := responseReader{data: data}
	at := span{skipFiller(data, 0), len(data)}
	if at.start == at.end || data[at.start] != '{' {
		return s
	}
	if response := r.member(at, `"response"`); response.end > 0 && data[response.start] == '{' {
		at = response
	}
	s.Body = at.of(data)
	found := 0
	for name, value := range members(data, at) {
		switch string(name.of(data)) {
		case `"id"`:
			s.ID = storedID(value.of(data))
		case `"status"`:
			s.Status = storedStatuses[string(value.of(data))]
		default:
			continue
		}
		if found++; found == 2 {
			break // both stand in front of a long output
		}
	}
	return s
}

// StoredSequence is the number of an event among those of its response; 0 if it says none, or an
// absurd one.
func StoredSequence(data []byte) int64 {
	if wellFormed(data) != nil {
		return 0
	}
	r := responseReader{data: data}
	n, _ := r.number(r.member(span{skipFiller(data, 0), len(data)}, `"sequence_number"`))
	if n < 0 || n > maxSequence {
		return 0
	}
	return n
}

// maxSequence is the highest number of an event that is believed: of the longest answers.
const maxSequence = 1 << 20

// storedTexts are the members of an item of the output that have text of the model's.
var storedTexts = map[string]bool{
	"text": true, "refusal": true, "arguments": true, "input": true, "code": true, "transcript": true,
}

// StoredText is about how many bytes of text the output of a response has, of which perhaps only
// the beginning is there.
func StoredText(data []byte) (n int64) {
	_, output, _ := bytes.Cut(data, []byte(`"output"`))
	named := false // the string before is the name of a text
	for {
		i := bytes.IndexByte(output, '"')
		if i < 0 {
			return n
		}
		output = output[i+1:]
		end, length := 0, int64(0)
		for ; end < len(output) && output[end] != '"'; end, length = end+1, length+1 {
			switch {
			case output[end] != '\\':
			case end+1 < len(output) && output[end+1] == 'u':
				end, length = end+5, length+2 // three bytes, as most letters that are escaped so
			default:
				end++
			}
		}
		text := output[:min(end, len(output))]
		output = output[min(end+1, len(output)):]
		if at := bytes.TrimLeft(output, " \t\r\n"); len(at) > 0 && at[0] == ':' {
			named = storedTexts[string(text)]
			continue
		}
		if named {
			n += length
		}
		named = false
	}
}

// storedID is an id, given as a raw string, if it has nothing that a path would have to
// escape. Others are not read, so that an id has one spelling everywhere.
func storedID(raw []byte) string {
	if len(raw) < 3 || raw[0] != '"' || len(raw)-2 > maxStoredID {
		return ""
	}
	id := string(raw[1 : len(raw)-1])
	if !plainID(id) {
		return ""
	}
	return id
}

func plainID(id string) bool {
	if id == "" || len(id) > maxStoredID || id == "." || id == ".." {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-_.=~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// responsesEnd is how the path of the Responses API ends.
const responsesEnd = "/responses"

// StoredPath takes a path apart that names a response: …/responses/ID, and for a POST
// …/responses/ID/cancel. front is what [StoredFront] says of the path by which it was asked
// for. ok is false for all other paths and methods. The path is read as lenient servers might, too
// ([Readings]): a client is not to have an answer by a spelling that is not known here.
func StoredPath(method, path string) (front, id string, ok bool) {
	if method != "GET" && method != "POST" {
		return "", "", false
	}
	if front, id, ok = storedPath(method, path); ok || plainLower(path) {
		return front, id, ok
	}
	for _, reading := range readings(unescaped(path)) {
		if front, id, ok = storedPath(method, reading); ok {
			break
		}
	}
	return front, id, ok
}

func storedPath(method, path string) (front, id string, ok bool) {
	if method == "POST" {
		if path, ok = cutEnd(path, "/cancel"); !ok {
			return "", "", false
		}
	}
	i := max(0, strings.LastIndexByte(path, '/'))
	front, ok = cutEnd(path[:i], responsesEnd)
	if !ok || !plainID(path[i+1:]) {
		return "", "", false
	}
	return StoredFront(front + responsesEnd), path[i+1:], true
}

// cutEnd takes an end away whose letter case does not matter.
func cutEnd(path, end string) (front string, ok bool) {
	i := len(path) - len(end)
	if i < 0 || !strings.EqualFold(path[i:], end) {
		return "", false
	}
	return path[:i], true
}

// StoredFront is what stands in a path in front of …/responses: two paths with the same front,
// and the same host, lead to the same responses. Azure's deployments are left out, since what
// is asked of one of them is fetched without it.
func StoredFront(path string) string {
	front := strings.TrimSuffix(path, responsesEnd)
	i := strings.LastIndexByte(front, '/')
	if before, ok := strings.CutSuffix(front[:max(i, 0)], "/deployments"); ok && strings.HasSuffix(before, "/openai") {
		return before
	}
	return front
}

// Earlier are the ids of what a prompt goes on from that is kept at the provider; "" for what
// it does not name, or not in the usual form.
type Earlier struct{ Response, Conversation string }

// earlier holds a stated number of tokens for what the prompt goes on from.
func (p *responsesRequest) earlier(key string, value span) {
	p.prompt.hidden = true
	p.prompt.held += heldConversation
	switch {
	case key == "previous_response_id":
		p.r.Earlier.Response = storedID(value.of(p.body))
	case p.body[value.start] == '{':
		r := responseReader{data: p.body}
		p.r.Earlier.Conversation = storedID(r.member(value, `"id"`).of(p.body))
	default:
		p.r.Earlier.Conversation = storedID(value.of(p.body))
	}
}

// KnowEarlier says that the caller knows what one of Earlier costs, and adds it: [Request.Rest]
// has the number no more that stands in for it.
func (r *Request) KnowEarlier() {
	if p, ok := r.prompt.(*responsesPrompt); ok {
		p.held -= heldConversation
	}
}

// StoredStream is a [Stream] of an API that keeps its answers.
type StoredStream interface {
	Stream
	// StoredID is the id of the answer, "" until an event has said it.
	StoredID() string
}

// StoredID implements [StoredStream].
func (s *responsesStream) StoredID() string { return s.id }
