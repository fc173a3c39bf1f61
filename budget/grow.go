package budget

// grow raises what is held of the output from level from to the greatest level between
// least and want which every limit can give that cuts; where less than least is to be
// had, the hold stays as it is, and the layer is returned which the client has to wait
// for. The other limits give whatever that comes to, beyond what they have. Whatever a
// layer holds beyond from since admission is used first.
func (ls layers) grow(t when, from, least, want int64) (level int64, refused *layer, undone bool) {
	for range takeAttempts {
		level, refused = ls.fitGrowth(t, from, least, want)
		if refused != nil {
			return 0, refused, undone
		}
		level, refused = ls.holdGrowth(t, from, least, level)
		if refused == nil {
			return level, nil, false
		}
		undone = true
	}
	return 0, refused, undone
}

// cuts reports whether the layer can refuse a growth.
func (w *layer) cuts() bool { return w.rule.Action == ActionCut && countsOutput(w.rule.Unit) }

// fitGrowth is what fit is at admission.
func (ls layers) fitGrowth(t when, from, least, want int64) (level int64, refused *layer) {
	level = want
	longest := int64(0)
	for i := range ls {
		w := &ls[i]
		if !w.cuts() {
			continue
		}
		has := w.output(from)
		most := has + max(0, w.left(t))
		level = min(level, most)
		if most < least {
			if at := w.resets(least - has); refused == nil || at > longest {
				refused, longest = w, at
			}
		}
	}
	return level, refused
}

// holdGrowth is what hold is at admission.
func (ls layers) holdGrowth(t when, from, least, want int64) (level int64, refused *layer) {
	level = want
	free := false
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if !w.cuts() {
			free = free || countsOutput(w.rule.Unit)
			continue
		}
		has := w.output(from)
		if level <= has {
			continue
		}
		got, ok := w.take(t, 0, max(0, least-has), level-has)
		switch {
		case !ok && least > has:
			ls[i+1:].shrink(t, level, from)
			return 0, w
		case !ok:
			got = 0
		}
		if has+got < level {
			ls[i+1:].shrink(t, level, has+got)
			level = has + got
		}
	}
	if free {
		ls.force(t, from, least, level)
	}
	return level, nil
}

// shrink gives back on layers that cut what they hold beyond level to.
func (ls layers) shrink(t when, from, to int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if n := w.output(from) - w.output(to); n > 0 && w.cuts() {
			w.release(t, n)
		}
	}
}

// force raises the layers which never cut to level. Those that only watch note it if they
// would have cut an answer of least.
func (ls layers) force(t when, from, least, level int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		has := w.output(from)
		if !countsOutput(w.rule.Unit) || w.rule.Action == ActionCut || level <= has {
			continue
		}
		if !w.rule.enforces() && least > has && w.left(t) < least-has {
			w.noted.note(ShadowCut)
		}
		w.force(t, level-has)
	}
}

// cuttable is how much output the limits that cut would still let the answer have, in
// all, if nobody else took from them; maxTokens if there are none.
func (ls layers) cuttable(level int64) int64 {
	most := int64(maxTokens)
	for i := range ls {
		if w := &ls[i]; w.cuts() {
			most = min(most, w.output(level)+w.remaining())
		}
	}
	return most
}
