package budget

import "math"

// Limits with [ActionShadow] only watch, and so do all limits of a request with
// [Request.Watch]: they hold and charge like others, and note what they would have done.

// ShadowOutcome is what a limit would have done that only watches.
type ShadowOutcome uint8

// The outcomes, with the names they have in logs and metrics.
const (
	ShadowDenied ShadowOutcome = iota + 1 // denied: it would have refused the request, or let it wait
	ShadowCut                             // cut: it would have ended the answer before its end
)

// String returns the outcome's name: denied or cut.
func (o ShadowOutcome) String() string {
	switch o {
	case ShadowDenied:
		return "denied"
	case ShadowCut:
		return "cut"
	}
	return ""
}

// Shadow is a limit that only watches, and what it would have done to one request.
type Shadow struct {
	Limit   string
	Outcome ShadowOutcome
}

// shadow is what a layer has noted. What comes first stands: a request that would have
// been refused would not have been cut.
type shadow struct{ outcome ShadowOutcome }

func (s *shadow) note(o ShadowOutcome) {
	if s.outcome == 0 {
		s.outcome = o
	}
}

// watch takes from the layers that only watch what they would hold: the fixed part, and
// of the output as much as they have, so that one giant request is no giant hold.
func (ls layers) watch(c charge, d demand) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if w.rule.enforces() {
			continue
		}
		fixed, need := c.of(w.rule.Unit), int64(0)
		room := w.left(c.when) - fixed
		if countsOutput(w.rule.Unit) {
			var hold int64
			need, hold = d.on(w.rule.Admission)
			w.first = max(0, min(hold, room))
			w.would = w.first
		} else if fixed == 0 {
			continue
		}
		if room < need {
			w.noted.note(ShadowDenied)
		}
		w.force(c.when, fixed+w.first)
	}
}

// watchGrowth notes which of the layers that only watch would have cut an answer of output,
// of which they all hold level. They hold that whether they have room for it or not; what
// they would hold is what they have room for when output exceeds what they would hold so
// far. It returns how long the answer can become before that is so again, at most level.
func (ls layers) watchGrowth(t when, output, level int64) int64 {
	next := level
	for i := range ls {
		w := &ls[i]
		if w.rule.enforces() || !countsOutput(w.rule.Unit) || w.noted.outcome != 0 {
			continue
		}
		if output > w.would {
			w.would = max(w.would, w.output(level)-w.over(t))
		}
		if output > w.would {
			w.noted.note(ShadowCut)
			continue
		}
		next = min(next, w.would)
	}
	return next
}

// force holds n, whether there is room or not. At the end of the number range used
// stays there.
func (w *row) force(t when, n int64) {
	if w.history != nil {
		w.forceRolling(t, n)
		return
	}
	w.held.Add(n)
	for {
		used := w.used.Load()
		if w.used.CompareAndSwap(used, min(used, math.MaxInt64-n)+n) {
			return
		}
	}
}

// watching is the rule as one that only watches, for requests which nothing can be done
// about ([Request.Watch]).
func (r *rule) watching() *rule {
	w := *r
	w.Action = ActionShadow
	return &w
}

// watchedSize is a limit per request that only watches.
type watchedSize struct {
	rule   *rule
	most   int64 // tokens of output that it allows
	denied bool
}

// Shadows returns what the limits that only watch would have done to this request, whose
// answer has so many tokens of output: each limit at most once, in the order of the
// configuration, those per request last. It is to be called before the settlement.
func (r *Reservation) Shadows(output int64) []Shadow {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Shadow
	add := func(name string, o ShadowOutcome) {
		for i := range all {
			if all[i].Limit == name { // in input and output tokens
				if all[i].Outcome > o {
					all[i].Outcome = o
				}
				return
			}
		}
		all = append(all, Shadow{name, o})
	}
	for i := range r.layers {
		if w := &r.layers[i]; w.noted.outcome != 0 {
			add(w.rule.Name, w.noted.outcome)
		}
	}
	for i := range r.sizes {
		switch s := &r.sizes[i]; {
		case s.denied:
			add(s.rule.Name, ShadowDenied)
		case output > s.most:
			add(s.rule.Name, ShadowCut)
		}
	}
	return all
}
