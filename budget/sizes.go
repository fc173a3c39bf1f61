package budget

import "fmt"

// Sizes are limits per request apart from a ledger. They tell how long a prompt may
// be before a reservation is asked for, so that one that is too long can be
// shortened. They are not changed, and may be shared.
type Sizes struct{ rules []*rule }

// NewSizes returns the limits per request among limits, but for those that only watch.
// The error names every
// mistake in any of them, as that of [New] does.
func NewSizes(limits []Limit) (*Sizes, error) {
	rules, err := newRules(limits)
	if err != nil {
		return nil, fmt.Errorf("budget: %w", err)
	}
	s := &Sizes{}
	for _, r := range rules {
		if r.PerRequest && r.Unit != OutputTokens && r.enforces() {
			s.rules = append(s.rules, r)
		}
	}
	return s, nil
}

// Room returns how many tokens the prompt of q may have, so that it and so many
// tokens of output fit into every limit per request that concerns q, and the name of
// the limit that says so: of equal ones the first. It is below 0 if not even the
// output fits. If no limit concerns the prompt, the name is empty. What [Request.Input]
// is does not matter.
func (s *Sizes) Room(q *Request, output int64) (room int64, limit string) {
	room = maxTokens
	for _, r := range s.rules {
		if !r.concerns(q) {
			continue
		}
		n := r.Amount
		if countsOutput(r.Unit) {
			n -= output
		}
		if limit == "" || n < room {
			room, limit = n, r.Name
		}
	}
	return room, limit
}
