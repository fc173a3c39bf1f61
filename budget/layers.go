package budget

// layers are the rows that a request takes from, in the order of the limits. They
// are taken from the last to the first, the narrowest first, so that a flood from
// one user is refused before it touches what all share.
type layers []layer

// layer is a row with what one request has on it.
type layer struct {
	*row
	rule  *rule  // as it was when the request was admitted; the row may have been made for an earlier one
	first int64  // output that was held at admission; growth takes only what goes beyond it
	noted shadow // what the limit would have done, if it only watches
	would int64  // output that it would hold, if it did more than watch
}

// add is append. It writes into place what a large struct would be copied for.
func (ls layers) add(w *row, r *rule) layers {
	n := len(ls)
	if n == cap(ls) {
		return append(ls, layer{row: w, rule: r})
	}
	ls = ls[:n+1]
	l := &ls[n]
	l.row, l.rule = w, r
	l.first, l.noted, l.would = 0, shadow{}, 0
	return ls
}

// output is how much output is held on the layer, once a hold has grown to level.
func (w *layer) output(level int64) int64 {
	if !countsOutput(w.rule.Unit) {
		return 0
	}
	return max(w.first, level)
}

// charge is the part of a hold that is taken whole or not at all. Output is taken
// as far as there is any.
type charge struct {
	input, requests int64
	when            when
}

// of returns the part of c that a limit in unit u counts.
func (c charge) of(u Unit) int64 {
	switch u {
	case Tokens, InputTokens:
		return c.input
	case Requests, Streams:
		return c.requests
	}
	return 0
}

// countsOutput reports whether a limit in unit u counts output.
func countsOutput(u Unit) bool { return u == Tokens || u == OutputTokens }

// takeAttempts is how often take starts again after others took what it had seen.
const takeAttempts = 4

// take admits a request: it holds c, and of d what each limit says, on all layers. It
// returns the greatest output between d.least and d.want which every limit can give
// that bounds it. If a layer has not enough it holds nothing and returns the layer
// which the client has to wait for; undone then says that something was held for a
// moment.
func (ls layers) take(c charge, d demand) (output int64, refused *layer, undone bool) {
	for range takeAttempts {
		output, refused = ls.fit(c, d)
		if refused != nil {
			return 0, refused, undone
		}
		output, refused = ls.hold(c, d, output)
		if refused == nil {
			return output, nil, false
		}
		undone = true
	}
	return 0, refused, undone
}

// fit looks, without holding anything, for the greatest output which every layer can
// give. Of the layers that refuse, it returns the one that decides.
func (ls layers) fit(c charge, d demand) (output int64, refused *layer) {
	output = d.want
	longest := int64(0)
	never := false // refused never has so much room
	for i := range ls {
		w := &ls[i]
		fixed, counts := c.of(w.rule.Unit), countsOutput(w.rule.Unit)
		if fixed == 0 && (!counts || d.none()) || !w.rule.enforces() {
			continue
		}
		room, need := w.left(c.when)-fixed, int64(0)
		if counts {
			if w.rule.bounds() {
				output = min(output, room)
			}
			need, _ = d.of(w.rule)
		}
		if room >= need {
			continue
		}
		at, large := w.resets(fixed+need), fixed+need > w.ceiling.Load()
		if refused == nil || large && !never || large == never && w.decides(at, refused, longest) {
			refused, never, longest = w, large, at
		}
	}
	return output, refused
}

// hold takes c and up to want of output from each layer. A layer that bounds the output
// and can give only a part, because others took from it meanwhile, lowers what is held
// on those before it; one that has not what it needs has all undone, and is returned.
// Limits that only watch come last, since they refuse nothing.
func (ls layers) hold(c charge, d demand, want int64) (output int64, refused *layer) {
	d.want = want
	watched := false
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		fixed, counts := c.of(w.rule.Unit), countsOutput(w.rule.Unit)
		switch {
		case !w.rule.enforces():
			watched = true
		case counts && (fixed > 0 || !d.none()):
			need, hold := d.of(w.rule)
			got, ok := w.take(c.when, fixed, need, hold)
			if !ok {
				ls[i+1:].undo(c)
				return 0, w
			}
			w.first = got
			if got < d.want && w.rule.bounds() {
				d.want = got
				ls[i+1:].lowerFirst(c.when, got)
			}
		case fixed > 0:
			if _, ok := w.take(c.when, fixed, 0, 0); !ok {
				ls[i+1:].undo(c)
				return 0, w
			}
		}
	}
	if watched {
		ls.watch(c, d)
	}
	return d.want, nil
}

// undo gives back what hold has taken from layers that enforce.
func (ls layers) undo(c charge) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if n := c.of(w.rule.Unit) + w.first; n > 0 && w.rule.enforces() {
			w.release(c.when, n)
			w.first = 0
		}
	}
}

// lowerFirst gives back what layers hold beyond output which was to be the same on all.
func (ls layers) lowerFirst(t when, output int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if w.rule.Admission == AdmitPredict && w.rule.enforces() && w.first > output {
			w.release(t, w.first-output)
			w.first = output
		}
	}
}

// covered is how much output every layer holds after admission; where none counts
// output, it is what was granted.
func (ls layers) covered(granted int64) int64 {
	least := int64(-1)
	for i := range ls {
		if w := &ls[i]; countsOutput(w.rule.Unit) && (least < 0 || w.first < least) {
			least = w.first
		}
	}
	if least < 0 {
		return granted
	}
	return least
}

// release gives back a hold that has grown to level.
func (ls layers) release(c charge, level int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if n := c.of(w.rule.Unit) + w.output(level); n > 0 {
			w.release(c.when, n)
		}
	}
}

// settle charges a for a hold of c that has grown to level.
func (ls layers) settle(c charge, level int64, a Amount) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		w.settle(c.when, c.of(w.rule.Unit)+w.output(level), a.In(w.rule.Unit))
	}
}

// settleHold charges what is held on each layer; where that is less than was granted,
// since the limit holds nothing at first, so much.
func (ls layers) settleHold(c charge, level, granted int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		held := c.of(w.rule.Unit) + w.output(level)
		w.settle(c.when, held, Amount{Input: c.input, Output: max(w.output(level), granted)}.In(w.rule.Unit))
	}
}

// markGranted makes the counters exist for reports and the store.
func (ls layers) markGranted(t when) {
	for i := range ls {
		w := ls[i].row
		if w.history != nil {
			w.grantRolling(t)
		}
		if !w.granted.Load() { // spares the shared cache line a write
			w.granted.Store(true)
		}
	}
}

// look moves the windows of rolling rows to the time now, in Unix seconds.
func (ls layers) look(now int64) {
	for i := range ls {
		if w := ls[i].row; w.history != nil {
			w.look(now)
		}
	}
}

// leave ends what the rolling rows' enter has begun.
func (ls layers) leave(t when) {
	for i := range ls {
		if w := ls[i].row; w.history != nil {
			w.leave(t.admitted)
		}
	}
}

func (ls layers) unpin() {
	for i := range ls {
		ls[i].unpin()
	}
}

// strictest returns, of the layers that count tokens, the one with the least
// remaining; without such, of those that count requests, then streams. Of equals it is
// the one that resets last. Limits that only watch do not count. It is nil if there is
// none.
func (ls layers) strictest() *layer {
	var best *layer
	var least int64
	for i := range ls {
		w := &ls[i]
		if !w.rule.enforces() {
			continue
		}
		if n := w.remaining(); best == nil || nearer(w, n, best, least) {
			best, least = w, n
		}
	}
	return best
}

// kind tells units apart that cannot be compared: tokens, requests, streams.
func kind(u Unit) Unit { return max(u, OutputTokens) }

// nearer reports whether a, with n left, is stricter than b with m left.
func nearer(a *layer, n int64, b *layer, m int64) bool {
	switch {
	case kind(a.rule.Unit) != kind(b.rule.Unit):
		return kind(a.rule.Unit) < kind(b.rule.Unit)
	case n != m:
		return n < m
	}
	return a.resets(0) > b.resets(0)
}
