package exchange

import extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

// In observability mode Envoy sends copies of an exchange's messages and takes no answer.
// Nothing is sent, and nothing can be refused or cut: all limits watch
// ([budget.Request.Watch]), and what the exchange costs is charged. Envoy does not say its
// modes then. Bodies come in pieces, or do not come at all, since it sends them with the
// mode STREAMED only.

// observe begins an exchange in observability mode.
func (x *Exchange) observe() {
	x.observed, x.out.muted = true, true
	x.can = abilities{requestModes[modeStreamed], answerModes[modeStreamed]}
	x.record.Reason = "observability mode"
}

// observedRefusal ends an exchange that would have been refused: what it would have been
// told is in the record.
func (x *Exchange) observedRefusal(o Outcome) Ready {
	if o == Denied {
		o, x.record.Input, x.record.InputSource = Bypassed, 0, ""
		if x.record.Limit != LimitOverload {
			x.record.Limit = ""
		}
	}
	x.record.Reason = "observability mode: " + x.record.Reason
	r := x.finish(o)
	r.End = true
	return r
}

// observedBody takes a piece of the request's body.
func (x *Exchange) observedBody(m *extprocv3.HttpBody) Ready {
	if x.shed != ShedNone {
		return x.overloaded()
	}
	x.bodyBytes += int64(len(m.GetBody()))
	if x.bodyBytes <= x.policy.MaxRequest {
		x.collected = append(x.collected, m.GetBody()...)
	} else {
		x.collected = nil
	}
	if !m.GetEndOfStream() {
		return Ready{}
	}
	body := x.collected
	x.collected = nil
	if x.bodyBytes > x.policy.MaxRequest {
		return x.askUnseen(x.bodyBytes)
	}
	return x.decide(body)
}

// observedEarly takes the headers of an answer to a request whose body has not come, or
// not whole. They are kept until the ledger has answered.
func (x *Exchange) observedEarly(m *extprocv3.HttpHeaders) Ready {
	x.early, x.collected = m, nil
	return x.askUnseen(x.length)
}

// observedOn goes on when the ledger has answered.
func (x *Exchange) observedOn() Ready {
	x.request.Release()
	m := x.early
	if m == nil {
		return Ready{}
	}
	x.early = nil
	return x.responseHeaders(m)
}

// observedUnread goes on after an event that is too large to be read or kept: the rest of
// the stream is estimated.
func (x *Exchange) observedUnread(eos bool) Ready {
	x.guess(x.parser.Pending())
	x.parser.Reset(x.policy.MaxEvent)
	x.state, x.record.Outcome = statePassing, Completed
	if eos {
		r := x.finish(Completed)
		r.End = true
		return r
	}
	return Ready{}
}
