package budget

// LeaveStreams gives back what r holds on limits in [Streams]: its request is not under way any
// more, though what it costs is not known yet. Nothing else of r may be called at the same
// time. After settlement it does nothing.
func (r *Reservation) LeaveStreams() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.output.Load() == settled {
		return
	}
	rest := r.layers[:0]
	for i := range r.layers {
		w := &r.layers[i]
		if w.rule.Unit != Streams {
			rest = append(rest, *w)
			continue
		}
		w.settle(r.charge.when, r.charge.of(Streams), 0)
		w.unpin()
	}
	clear(r.layers[len(rest):])
	r.layers = rest
}
