package budget

import "time"

// rollingLine is the balance of a rolling counter, of which memory has some cells and the
// store others.
type rollingLine struct {
	line   line
	rule   *rule
	exists bool  // something was granted in the window, or is held
	leaves int64 // when the first of what counts leaves; 0 if nothing does
}

// addCell adds what was used in one cell of a counter, if it was not seen before.
func (c *collector) addCell(r *rule, encoded string, subject []Identity, e Entry) {
	if c.seen[e.Key] {
		return
	}
	c.seen[e.Key] = true
	key := e.Key
	key.Subject = encoded
	l := c.rollingOf(r, subject, key, r.amountOf(encoded))
	l.exists = true
	l.count(e.Key.End, e.Used, 0)
}

// addRolling adds a row of the limit. Its window may be one of a time ago: only its cells matter.
func (c *collector) addRolling(r *rule, w *row) {
	h := w.history
	at := h.cell(c.now.Unix())
	h.mu.Lock()
	defer h.mu.Unlock()
	l := c.rollingOf(r, w.subject, w.storeKey(), w.amount.Load())
	for i := range h.cells {
		switch s := &h.cells[i]; {
		case h.near(s.n, at):
			l.exists = l.exists || s.granted
			l.count(h.leaves(s.n), s.used-s.held, s.held)
		default:
			l.exists = l.exists || s.held > 0
			l.count(0, 0, s.held)
		}
		c.seen[h.cellKey(h.cells[i].n)] = true
	}
}

// rollingOf returns the line of a counter.
func (c *collector) rollingOf(r *rule, subject []Identity, key Key, amount int64) *rollingLine {
	key.Start, key.End = 0, 0
	l := c.rolling[key]
	if l == nil {
		w := r.Period.Window(c.now.Truncate(time.Second), r.Location)
		l = &rollingLine{rule: r, line: line{r.order, key, Balance{
			Limit: r.Name, Unit: r.Unit, Subject: subject, WindowStart: w.Start, Amount: amount, Parent: r.Parent,
		}}}
		if c.rolling == nil {
			c.rolling = make(map[Key]*rollingLine)
		}
		c.rolling[key] = l
	}
	return l
}

func (l *rollingLine) count(leaves, spent, held int64) {
	b := &l.line.balance
	b.Spent, b.Held = saturated(b.Spent, spent), saturated(b.Held, held)
	if (spent > 0 || held > 0) && leaves > 0 && (l.leaves == 0 || leaves < l.leaves) {
		l.leaves = leaves
	}
}

// finishRolling adds the lines of rolling counters to the others.
func (c *collector) finishRolling() {
	for _, l := range c.rolling {
		if !l.exists {
			continue
		}
		end := c.now.Truncate(time.Second)
		if l.leaves > 0 {
			end = time.Unix(l.leaves, 0)
		}
		l.line.balance.WindowEnd = end.In(l.rule.Location)
		c.lines = append(c.lines, l.line)
	}
}
