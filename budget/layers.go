package budget

// layers are the rows that a request takes from, in the order of the limits. They
// are taken from the last to the first, the narrowest first, so that a flood from
// one user is refused before it touches what all share.
type layers []*row

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

// needs is what a limit in unit u needs, at least, for c and so much output.
func (c charge) needs(u Unit, output int64) int64 {
	n := c.of(u)
	if countsOutput(u) {
		n += output
	}
	return n
}

// takeAttempts is how often take starts again after others took what it had seen.
const takeAttempts = 4

// take holds c and the greatest output between least and want which every layer can
// give, on all layers, and returns that output. If a layer has not enough it holds
// nothing and returns the layer which the client has to wait for; undone then says
// that something was held for a moment.
func (ls layers) take(c charge, least, want int64) (output int64, refused *row, undone bool) {
	for range takeAttempts {
		output, refused = ls.fit(c, least, want)
		if refused != nil {
			return 0, refused, undone
		}
		output, refused = ls.hold(c, least, output)
		if refused == nil {
			return output, nil, false
		}
		undone = true
	}
	return 0, refused, undone
}

// fit looks, without holding anything, for the greatest output which every layer can
// give. Of the layers that refuse, it returns the one that resets last.
func (ls layers) fit(c charge, least, want int64) (output int64, refused *row) {
	output = want
	longest := int64(0)
	for _, w := range ls {
		fixed, counts := c.of(w.rule.Unit), countsOutput(w.rule.Unit)
		if fixed == 0 && !counts {
			continue
		}
		room := w.left(c.when) - fixed
		if counts {
			output = min(output, room)
			room -= least
		}
		if room < 0 {
			if at := w.resets(c.needs(w.rule.Unit, least)); refused == nil || at > longest {
				refused, longest = w, at
			}
		}
	}
	return output, refused
}

// hold takes c and up to want of output from each layer. A layer that can give only
// a part, because others took from it meanwhile, lowers what is held on those before
// it; one that cannot give least has all undone, and is returned.
func (ls layers) hold(c charge, least, want int64) (output int64, refused *row) {
	output = want
	for i := len(ls) - 1; i >= 0; i-- {
		w := ls[i]
		fixed, counts := c.of(w.rule.Unit), countsOutput(w.rule.Unit)
		switch {
		case counts:
			got, ok := w.take(c.when, fixed, least, output)
			if !ok {
				ls[i+1:].release(c, output)
				return 0, w
			}
			if got < output {
				ls[i+1:].release(charge{when: c.when}, output-got)
				output = got
			}
		case fixed > 0:
			if _, ok := w.take(c.when, fixed, 0, 0); !ok {
				ls[i+1:].release(c, output)
				return 0, w
			}
		}
	}
	return output, nil
}

// release gives back a hold, or a part of it.
func (ls layers) release(c charge, output int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		if n := c.needs(ls[i].rule.Unit, output); n > 0 {
			ls[i].release(c.when, n)
		}
	}
}

// settle charges a for a hold of c and output.
func (ls layers) settle(c charge, output int64, a Amount) {
	for i := len(ls) - 1; i >= 0; i-- {
		u := ls[i].rule.Unit
		ls[i].settle(c.when, c.needs(u, output), a.In(u))
	}
}

// markGranted makes the counters exist for reports and the store.
func (ls layers) markGranted(t when) {
	for _, w := range ls {
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
	for _, w := range ls {
		if w.history != nil {
			w.look(now)
		}
	}
}

// leave ends what the rolling rows' enter has begun.
func (ls layers) leave(t when) {
	for _, w := range ls {
		if w.history != nil {
			w.leave(t.admitted)
		}
	}
}

func (ls layers) unpin() {
	for _, w := range ls {
		w.unpin()
	}
}

// strictest returns, of the layers that count tokens, the one with the least
// remaining; without such, of those that count requests, then streams. Of equals it is
// the one that resets last. It is nil if there are no layers.
func (ls layers) strictest() *row {
	var best *row
	var least int64
	for _, w := range ls {
		if n := w.remaining(); best == nil || nearer(w, n, best, least) {
			best, least = w, n
		}
	}
	return best
}

// kind tells units apart that cannot be compared: tokens, requests, streams.
func kind(u Unit) Unit { return max(u, OutputTokens) }

// nearer reports whether a, with n left, is stricter than b with m left.
func nearer(a *row, n int64, b *row, m int64) bool {
	switch {
	case kind(a.rule.Unit) != kind(b.rule.Unit):
		return kind(a.rule.Unit) < kind(b.rule.Unit)
	case n != m:
		return n < m
	}
	return a.resets(0) > b.resets(0)
}
