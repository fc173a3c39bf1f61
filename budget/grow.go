package budget

// grow raises what is held of the output from level from to the greatest level between
// least and want which every limit can give that cuts; where less than least is to be
// had, the hold stays as it is, and the layer is returned which the client has to wait
// for. The other limits give whatever that comes to, beyond what they have. Whatever a
// layer holds beyond from since admission is used first.
func (ls layers) grow(from, least, want int64) (level int64, refused *row, undone bool) {
	for range takeAttempts {
		level, refused = ls.fitGrowth(from, least, want)
		if refused != nil {
			return 0, refused, undone
		}
		level, refused = ls.holdGrowth(from, least, level)
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
func (ls layers) fitGrowth(from, least, want int64) (level int64, refused *row) {
	level = want
	for i := range ls {
		w := &ls[i]
		if !w.cuts() {
			continue
		}
		most := w.output(from) + max(0, w.room(w.used.Load()))
		level = min(level, most)
		if most < least && (refused == nil || w.outlasts(refused)) {
			refused = w.row
		}
	}
	return level, refused
}

// holdGrowth is what hold is at admission.
func (ls layers) holdGrowth(from, least, want int64) (level int64, refused *row) {
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
		got, ok := w.take(0, max(0, least-has), level-has)
		switch {
		case !ok && least > has:
			ls[i+1:].shrink(level, from)
			return 0, w.row
		case !ok:
			got = 0
		}
		if has+got < level {
			ls[i+1:].shrink(level, has+got)
			level = has + got
		}
	}
	if free {
		ls.force(from, level)
	}
	return level, nil
}

// shrink gives back on layers that cut what they hold beyond level to.
func (ls layers) shrink(from, to int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		if n := w.output(from) - w.output(to); n > 0 && w.cuts() {
			w.release(n)
		}
	}
}

// force raises the layers which never cut to level.
func (ls layers) force(from, level int64) {
	for i := len(ls) - 1; i >= 0; i-- {
		w := &ls[i]
		has := w.output(from)
		if !countsOutput(w.rule.Unit) || w.rule.Action == ActionCut || level <= has {
			continue
		}
		w.force(level - has)
	}
}

// cuttable is how much output the limits that cut would still let the answer have, in
// all, if nobody else took from them; maxTokens if there are none.
func (ls layers) cuttable(level int64) int64 {
	most := int64(maxTokens)
	for i := range ls {
		if w := &ls[i]; w.cuts() {
			most = min(most, w.output(level)+max(0, w.room(w.used.Load())))
		}
	}
	return most
}
