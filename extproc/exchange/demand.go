package exchange

// demand sets how much output the ledger is asked for: what is wanted for a start, and
// the least without which the request is refused. It returns all that the answer may
// get, which limits hold that admit with the full hold: the request's cap for all of its
// choices, or what stands in for a cap.
func (x *Exchange) demand() (full int64) {
	req := x.request
	if req.NoOutput {
		return 0
	}
	full = x.policy.UnaryHold * req.Choices
	if req.MaxOutput > 0 {
		full = req.Output()
	}
	if !x.uncut() {
		x.hidden = x.expectHidden(full)
		x.wanted, x.least = min(x.predicted(full)+x.hidden, full), 1
		return full
	}
	// It cannot be cut, so all of it is held, and each choice needs something.
	x.wanted, x.least = full, min(max(req.LeastCap, 1)*req.Choices, full)
	return full
}

// uncut says that to cut the answer would not end it: it is no stream, or none that is
// metered as it passes, or goes on at the provider without its client.
func (x *Exchange) uncut() bool { return !x.streams() || x.request.Background }

// predicted is how much text a stream is expected to have, at most full. There is no
// predictor yet; any stream begins with one step of growth.
func (x *Exchange) predicted(full int64) int64 {
	if x.request.MaxOutput == 0 {
		return x.policy.Growth
	}
	return min(x.policy.Growth, full)
}

// capped is how much output the answer can have, of all choices: no more than its own
// cap, that of each choice which the upstream is told, and limits per request allow.
// 0 stands for no bound.
func (x *Exchange) capped(each int64) (most int64) {
	for _, n := range []int64{x.request.Output(), each * x.request.Choices, x.reservation.OutputCap()} {
		if n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	return most
}

// outputCap is what each choice's output is to be capped at, in tokens; 0: not at all.
// Only limits that cut lower a cap, and those per request. A limit that holds nothing of
// the output at first does not lower that of an unary answer, and one that holds all of
// it need not.
func (x *Exchange) outputCap() int64 {
	if x.policy.OutputCap == CapNever {
		return 0
	}
	most := x.reservation.OutputCap() // of all choices; 0: as many as they like
	lower := func(n int64) {
		if n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	switch granted := x.reservation.Held().Output; {
	case x.uncut() && granted < x.wanted:
		lower(granted)
	case !x.uncut() && (x.policy.OutputCap == CapAlways || x.runsOn()):
		lower(x.reservation.Cuttable())
	}
	if most == 0 {
		return 0
	}
	return max(1, most/x.request.Choices)
}
