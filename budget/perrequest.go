package budget

// A limit per request has no counter: it bounds each request by itself. Its part of
// a reservation is the most output that the request may ever hold.

// outputCap is the narrowest of the limits per request on a request's output.
type outputCap struct {
	most int64 // tokens of output; maxTokens if rule is nil
	rule *rule // that says so
}

// perRequest returns what the limits per request leave for the output, or the first
// one that the request does not fit into. Those that only watch are added to watched.
func (s *ruleset) perRequest(q *Request, watched []watchedSize) (c outputCap, sizes []watchedSize, refused *rule) {
	c.most = maxTokens
	for _, r := range s.singles {
		if !r.concerns(q) {
			continue
		}
		if q.Watch {
			r = r.watching()
		}
		room := r.Amount - charge{input: q.Input}.of(r.Unit)
		if !r.enforces() {
			w := watchedSize{rule: r, most: maxTokens, denied: room < 0}
			if countsOutput(r.Unit) {
				w.most, w.denied = room, room < q.leastSize()
			}
			watched = append(watched, w)
			continue
		}
		if room < 0 {
			return c, watched, r
		}
		if !countsOutput(r.Unit) {
			continue
		}
		if room < q.leastSize() {
			return c, watched, r
		}
		if room < c.most {
			c = outputCap{room, r}
		}
	}
	return c, watched, nil
}

// leastSize is the output that a limit per request must have room for.
func (q *Request) leastSize() int64 { return max(q.MinOutput, q.LeastSize) }

// refusal tells of a limit per request that refuses q, or more output if q is nil. What other requests use does
// not matter to it, so all of it remains.
func (r *rule) refusal(q *Request) Decision {
	d := Decision{Limit: r.Name, PerRequest: true, Unit: r.Unit, Amount: r.Amount, Remaining: r.Amount}
	if q != nil {
		d.Needed = Amount{Input: q.Input, Output: q.leastSize()}.In(r.Unit)
	}
	return d
}

// OutputCap is the most output, in tokens, that the limits per request allow this
// request over all its choices; 0 if none of them limits it.
func (r *Reservation) OutputCap() int64 {
	if r.cap.rule == nil {
		return 0
	}
	return r.cap.most
}
