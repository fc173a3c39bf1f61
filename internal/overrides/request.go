package overrides

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

// MaxRequest bounds what [ParseRequest] takes, in bytes.
const MaxRequest = 16 << 10

// maxReason bounds the reason, in bytes.
const maxReason = 500

// ErrUnknown means that the configuration has no such budget.
var ErrUnknown = errors.New("the configuration has no budget of this name")

// Request is the body of PUT and DELETE.
type Request struct {
	Subject map[string]string `json:"subject"` // nil for the whole budget
	Limit   jsontext.Value    `json:"limit"`   // "3M tokens", or {"input": "3M tokens", "output": …}
	Reason  string            `json:"reason"`
}

// ParseRequest reads a body strictly: members that are unknown, occur twice or are spelled
// in other letters, and whatever follows the object, are errors. put says that it must have a limit;
// else it must not. Errors say what to do and are for the client.
func ParseRequest(data []byte, put bool) (Request, error) {
	var r Request
	switch {
	case len(data) > MaxRequest:
		return r, fmt.Errorf("the body has more than %d bytes", MaxRequest)
	case len(data) == 0 && !put:
		return r, nil
	}
	if jsontext.Value(data).Kind() != jsontext.KindBeginObject {
		return r, errors.New(`the body must be a JSON object, such as {"subject": {"team": "search"}, "limit": "3M tokens", "reason": "…"}`)
	}
	if err := json.Unmarshal(data, &r, json.RejectUnknownMembers(true)); err != nil {
		return r, fmt.Errorf(`the body cannot be read (known are "subject", "limit" and "reason", each once): %w`, err)
	}
	switch {
	case put && r.Limit == nil:
		return r, errors.New(`the body needs a limit, such as "limit": "3M tokens"`)
	case !put && r.Limit != nil:
		return r, errors.New("remove the limit: to return to the configuration file's value, name the subject only")
	case len(r.Reason) > maxReason:
		return r, fmt.Errorf("the reason has more than %d bytes", maxReason)
	case !utf8.ValidString(r.Reason) || strings.ContainsFunc(r.Reason, unicode.IsControl):
		return r, errors.New("the reason must be text without control characters")
	}
	return r, nil
}

// NormalSubject returns the subject as the budget's counters have it: models in lower
// case. It fails if it is not one.
func (r Request) NormalSubject() (map[string]string, error) {
	out := make(map[string]string, len(r.Subject))
	for name, value := range r.Subject {
		v, err := config.ParseSubject(name, value)
		if err != nil {
			return nil, fmt.Errorf("subject %.70q: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

// Resolve returns the override that the request asks for, of the budget called name
// among limits. It fails with [ErrUnknown], or says what does not fit.
func (r Request) Resolve(name string, limits []budget.Limit) (o Override, err error) {
	limits = slices.DeleteFunc(slices.Clone(limits), func(l budget.Limit) bool { return l.Name != name })
	if len(limits) == 0 {
		return o, fmt.Errorf("%w; the names are those of GET /v1/budgets and of the file", ErrUnknown)
	}
	o = Override{Budget: name, Reason: r.Reason}
	if o.Subject, err = r.NormalSubject(); err != nil {
		return o, err
	}
	switch per := limits[0].Per; {
	case fits(limits[0], o.Subject):
	case len(per) == 0:
		return o, errors.New("the budget is counted for all together: leave the subject out")
	default:
		return o, fmt.Errorf("the subject must have a value for each of %q and no other, because the budget is counted per them", per)
	}
	if o.Amounts, err = r.amounts(); err != nil {
		return o, err
	}
	for unit := range o.Amounts {
		if !slices.ContainsFunc(limits, func(l budget.Limit) bool { return l.Unit.String() == unit }) {
			var units []string
			for _, l := range limits {
				units = append(units, spell(l.Unit.String()))
			}
			return o, fmt.Errorf("the limit is in %s, and the budget counts %s: write it in the same unit", spell(unit), strings.Join(units, " and "))
		}
	}
	return o, nil
}

func spell(unit string) string { return strings.ReplaceAll(unit, "_", " ") }

// amounts reads the limit.
func (r Request) amounts() (map[string]int64, error) {
	const form = `write "limit": "3M tokens", or "limit": {"input": "8k tokens", "output": "2k tokens"}`
	switch r.Limit.Kind() {
	case jsontext.KindString:
		var s string
		if err := json.Unmarshal(r.Limit, &s); err != nil {
			return nil, fmt.Errorf("the limit cannot be read: %w", err)
		}
		n, unit, err := config.ParseAmount(s)
		if err != nil {
			return nil, fmt.Errorf("limit: %w", err)
		}
		return map[string]int64{unit.String(): n}, nil
	case jsontext.KindBeginObject:
		var parts struct {
			Input  string `json:"input"`
			Output string `json:"output"`
		}
		if err := json.Unmarshal(r.Limit, &parts, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("the limit cannot be read (%s): %w", form, err)
		}
		amounts := make(map[string]int64)
		for unit, s := range map[budget.Unit]string{budget.InputTokens: parts.Input, budget.OutputTokens: parts.Output} {
			if s == "" {
				continue
			}
			n, got, err := config.ParseAmount(s)
			if err == nil && got != budget.Tokens {
				err = fmt.Errorf("it is counted in tokens, not %s", got)
			}
			if err != nil {
				return nil, fmt.Errorf("limit, %s: %w", spell(unit.String()), err)
			}
			amounts[unit.String()] = n
		}
		if len(amounts) == 0 {
			return nil, fmt.Errorf("the limit has neither input nor output: %s", form)
		}
		return amounts, nil
	}
	return nil, fmt.Errorf("the limit is neither text nor an object: %s", form)
}
