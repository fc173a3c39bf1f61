package dialect

import (
	"math"
	"slices"
	"strconv"
)

// Request is what a request asks for, as far as it is decided on.
type Request struct {
	Model      string
	Stream     bool
	WantsUsage bool  // the client itself asked for the usage of a stream
	Choices    int64 // answers asked for; ≥ 1
	MaxOutput  int64 // the cap on each answer in tokens; 0 if the request has none
	Overhead   int64 // tokens which the format adds to the prompt's texts

	body   []byte
	prompt []span  // raw values of the body which the prompt consists of
	capKey string  // name of the cap's key if one is to be added
	caps   []capAt // the caps that are there
	edits  []edit  // changes that are made in any case
	insert int     // where the top-level object ends and a member can be added
}

// capAt is one cap of a request: where its value stands, and what it is; 0 for null.
type capAt struct {
	span
	value int64
}

type span struct{ start, end int }

// Prompt calls count for each text of the prompt, unquoted. What it is given is
// valid during the call only.
func (r *Request) Prompt(count func(text []byte)) {
	var scratch []byte
	for _, s := range r.prompt {
		v := r.body[s.start:s.end]
		if v[0] == '"' {
			scratch = scratch[:0]
			v = unquote(v, &scratch)
		}
		count(v)
	}
}

// Output is the most output the request allows over all its choices, or 0 if it
// has no cap.
func (r *Request) Output() int64 {
	if r.MaxOutput > math.MaxInt64/r.Choices {
		return math.MaxInt64
	}
	return r.MaxOutput * r.Choices
}

// Body returns the body to forward, and whether it differs from the client's.
// With limit > 0 no choice may get more than that many tokens.
func (r *Request) Body(limit int64) (body []byte, changed bool) {
	edits := r.edits
	if limit > 0 && (r.MaxOutput == 0 || limit < r.MaxOutput) {
		n := strconv.FormatInt(limit, 10)
		edits = slices.Clone(edits)
		for _, c := range r.caps {
			if c.value <= 0 || c.value > limit {
				edits = append(edits, edit{c.start, c.end, n})
			}
		}
		if len(r.caps) == 0 {
			edits = append(edits, r.addMember(strconv.Quote(r.capKey)+":"+n))
		}
	}
	if len(edits) == 0 {
		return r.body, false
	}
	return applyEdits(r.body, edits), true
}

// Release drops the body and what refers to it, once it has been forwarded: a
// stream outlives its request by minutes.
func (r *Request) Release() { r.body, r.prompt, r.caps, r.edits = nil, nil, nil, nil }

// addMember is the edit that adds a member to the top-level object, which is
// known to have members.
func (r *Request) addMember(member string) edit {
	return edit{r.insert, r.insert, "," + member}
}
