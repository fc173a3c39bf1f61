package exchange

import (
	"bytes"

	"github.com/tokenbudget/tokenbudget/internal/dialect"
	"github.com/tokenbudget/tokenbudget/internal/sse"
	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// streamed takes the next bytes of a stream, forwards the whole events in them
// and ends the stream if the upstream has, or if a limit is reached.
func (x *Exchange) streamed(body []byte, eos bool) Ready {
	x.parser.Feed(body)
	var run run
	before := x.output()
	for {
		block, ok := x.nextBlock(eos && x.undecoded == "")
		if !ok {
			break
		}
		keep, ok := x.meter(block)
		if !ok {
			return x.cut(x.refusedBy.Limit, run.bytes(x), eos)
		}
		if keep {
			run.add(x, block)
		}
	}
	if x.parser.Err() != nil || x.undecoded != "" {
		out := run.bytes(x)
		if x.observed {
			return x.observedUnread(eos)
		}
		if x.parser.Err() == nil {
			return x.cutUnreadable(out, eos)
		}
		x.guess(x.parser.Pending())
		return x.cut(LimitEvent, out, eos)
	}
	out := run.bytes(x)
	if x.tooMuch() {
		if x.observed {
			return x.observedUnread(eos)
		}
		return x.cutLean(out)
	}
	if eos {
		return x.last(x.out.responseBody(x.mode.response, out, true))
	}
	if !x.lookAhead(x.output() - before) {
		return x.cut(x.refusedBy.Limit, out, false)
	}
	if len(out) == 0 && x.can.answer.ends {
		return Ready{} // messages need not be answered one by one
	}
	return x.send(x.out.responseBody(x.mode.response, out, false))
}

// lookAhead asks the ledger for what the next message may bring, after one that brought
// n tokens. Where that is refused the stream is cut now rather than when the next message
// has come, which would be charged: a model takes longer for it than the cut takes to
// reach the upstream. So nobody's budget is exceeded, however many streams are cut at once.
func (x *Exchange) lookAhead(n int64) bool {
	x.burst = max(x.burst, min(n, x.policy.Growth))
	if n <= 0 || x.done || x.stream.Ended() {
		return true // perhaps the end of the answer, which a cut would only hide
	}
	ahead := x.burst
	if x.most > 0 {
		ahead = min(ahead, x.most-x.delivered) // no more will come
	}
	if x.inTool && x.delivered < x.toolEnd {
		ahead = min(ahead, x.toolEnd-x.delivered) // which is held
	}
	if ahead <= 0 {
		return true
	}
	d, ok := x.reservation.Spend(x.withHidden(x.delivered + ahead))
	x.refusedBy = d
	return ok
}

// nextBlock returns the next whole event, and at the end of the stream also one
// which lacks its final blank line.
func (x *Exchange) nextBlock(eos bool) (sse.Block, bool) {
	if block, ok := x.parser.Next(); ok || !eos {
		return block, ok
	}
	return x.parser.Flush()
}

// meter reads one event and asks the ledger for what it costs. keep is false for
// an event that must not reach the client; ok is false if a limit refuses it.
func (x *Exchange) meter(b sse.Block) (keep, ok bool) {
	beside := false
	if !b.HasData {
		// Comments keep a connection alive. Longer ones may carry something, and so may
		// what is no line of an event stream.
		n := b.End - b.Start
		if n <= freeBlock && quiet(x.parser.Bytes(b.Start, b.End)) {
			return true, true
		}
		x.event = dialect.Event{Extra: max(n/bytesPerToken, 1)}
		x.take(&x.event)
	} else {
		beside = x.readBlock(b)
	}
	// An event without text gives the client nothing that could be withheld to any
	// use. It is often the end of the answer, which a cut would only hide.
	if len(x.event.Texts) > 0 || x.event.Extra > 0 || beside {
		total := max(x.output(), x.reported.Output)
		if d, ok := x.reservation.Spend(x.withHidden(total + x.toolAhead(total))); !ok {
			x.refusedBy = d
			return false, false
		}
		x.delivered = total
	}
	x.stream.Forwarded()
	x.leaveTool()
	x.done = x.done || x.event.Done
	return !x.event.UsageOnly || x.request.WantsUsage || x.unseen, true
}

// readBlock reads a block that has data. beside says that its other lines cost something.
func (x *Exchange) readBlock(b sse.Block) (beside bool) {
	if b.End-b.Start-int64(len(b.Data)) > freeBlock {
		// It may be many short lines of data, too.
		if n := besideData(x.parser.Bytes(b.Start, b.End)); n > freeBlock {
			x.guess(n) // before a report in the data, which then is the last word
			beside = true
		}
	}
	x.read(b.Data)
	return beside
}

// besideData is how many bytes of a block are in other lines than those of data.
func besideData(block []byte) (n int) {
	for len(block) > 0 {
		end := bytes.IndexAny(block, "\r\n") + 1
		if end == 0 {
			end = len(block)
		}
		if line := bytes.TrimRight(block[:end], "\r\n"); string(line) != "data" && !bytes.HasPrefix(line, []byte("data:")) {
			n += end
		}
		block = block[end:]
	}
	return n
}

// read reads one event: its texts are counted, its usage kept.
func (x *Exchange) read(data []byte) {
	x.stream.Event(data, &x.event)
	x.take(&x.event)
}

// take counts what an event says.
func (x *Exchange) take(ev *dialect.Event) {
	if ev.Failed {
		x.record.Outcome = UpstreamError
	}
	if ev.Extra > 0 {
		x.counted += ev.Extra
		x.estimates += ev.Extra
		x.guessed = true
	}
	x.reasoned = x.reasoned || ev.Reasoning
	x.summed = x.summed || ev.Summary
	if len(ev.Texts) > 0 && x.record.TTFT == 0 {
		x.record.TTFT = x.policy.Now().Sub(x.start)
	}
	for _, t := range ev.Texts {
		for t.Slot >= len(x.counters) {
			x.counters = append(x.counters, nil)
			x.counts = append(x.counts, 0)
		}
		c := x.counters[t.Slot]
		if c == nil {
			c = new(tokens.Counter)
			c.Reset(x.model.Encoding)
			x.counters[t.Slot] = c
		}
		n := int64(c.Add(t.Bytes))
		x.counted += n - x.counts[t.Slot]
		x.counts[t.Slot] = n
	}
	// Nothing, after something was reported, is no report.
	if u := ev.Usage; u.Known && plausible(u) && (u.Output > 0 || x.reported.Output == 0) {
		if before := &x.reported; u.Input() == 0 {
			u.UncachedInput, u.CacheRead, u.CacheWrite = before.UncachedInput, before.CacheRead, before.CacheWrite
		}
		x.reported, x.atReport = u, x.counted
	}
}

// quiet says that a block without data has only what event streams have besides data: comments,
// blank lines, and the fields event, id and retry (WHATWG HTML, section 9.2.6).
func quiet(block []byte) bool {
	for len(block) > 0 {
		end := bytes.IndexAny(block, "\r\n")
		if end < 0 {
			end = len(block)
		}
		name, _, _ := bytes.Cut(block[:end], []byte(":"))
		switch string(name) {
		case "", "event", "id", "retry", "\ufeff":
		default:
			return false
		}
		block = block[min(end+1, len(block)):]
	}
	return true
}

// maxReported bounds what is believed of a report about one exchange, in tokens: eight times what
// 128 choices of a million tokens are. A larger figure is a fault, and would use up any budget
// for good; it is taken for no report.
const maxReported = 1 << 30

// plausible says whether a provider's report can be true. Sums may have overflowed.
func plausible(u dialect.Usage) bool {
	return uint64(u.Output) <= maxReported && uint64(u.Input()) <= maxReported
}

// What is not read is estimated: a token has about four bytes.
const (
	bytesPerToken = 4
	freeBlock     = 512 // bytes of a block without data that cost nothing
)

// passesUnread says that an answer which passes is one of a metered request, and of a kind that is
// not read.
func (x *Exchange) passesUnread() bool { return x.reservation != nil && x.record.Outcome == Completed }

// passUnread passes a piece of an answer of a kind that is not read. It is never
// free: it costs an estimate, and ends when a limit refuses that.
func (x *Exchange) passUnread(body []byte, eos bool) Ready {
	x.guess(len(body))
	if d, ok := x.reservation.Spend(x.output()); !ok {
		return x.cut(d.Limit, nil, eos)
	}
	msg := x.out.responseBody(x.mode.response, body, eos)
	if eos {
		return x.last(msg)
	}
	return x.send(msg)
}

// guess counts n bytes that are not read.
func (x *Exchange) guess(n int) {
	before := x.unread / bytesPerToken
	x.unread += int64(n)
	added := x.unread/bytesPerToken - before
	x.counted += added
	x.estimates += added
	x.guessed = true
}

// countRest counts the events which are at hand behind a cut.
func (x *Exchange) countRest(eos bool) {
	for {
		block, ok := x.nextBlock(eos)
		if !ok {
			return
		}
		if block.HasData {
			x.readBlock(block)
		}
	}
}

// cut ends the client's answer: permitted are the bytes at hand that may still
// leave; the closing events follow. eos says that the upstream has ended, too.
func (x *Exchange) cut(limit string, permitted []byte, eos bool) Ready {
	x.record.Limit = limit
	out := x.closing[:0]
	out = append(out, permitted...)
	if x.stream != nil {
		if !x.policy.SilentCut {
			out = append(out, ": tokenbudget: cut, limit "...)
			out = append(out, limit...)
			out = append(out, '\n')
		}
		out = x.stream.Close(out, dialect.Usage{Known: true, UncachedInput: x.input, Output: x.delivered})
		x.countRest(eos)
	}
	x.closing = out
	msg := x.out.responseBody(x.mode.response, out, true)
	if eos {
		x.record.Outcome = CutOff
		return x.last(msg)
	}
	x.state = stateCut
	rec := x.record
	rec.Outcome = CutOff
	rec.Held = x.reservation.Held()
	rec.Duration = x.policy.Now().Sub(x.start)
	rec.Output, rec.OutputSource = x.output(), x.countedSource()
	rec.Shadow = x.reservation.Shadows(rec.Output)
	msg.DynamicMetadata = rec.metadata()
	if !x.can.answer.ends {
		return x.cutRunning(msg)
	}
	r := x.send(msg)
	r.Linger = true
	return r
}

// afterCut counts what the upstream had sent before it was cancelled.
func (x *Exchange) afterCut(body []byte, eos bool) Ready {
	if x.stream == nil || x.parser.Err() != nil || x.undecoded != "" || x.record.Limit == LimitOverload {
		x.guess(len(body))
	} else {
		x.parser.Feed(body)
		x.countRest(eos)
	}
	if x.swallowing {
		return x.swallow(eos)
	}
	if !eos {
		return Ready{}
	}
	r := x.finish(CutOff)
	r.End = true
	return r
}

// run collects the bytes of blocks that leave: as one range of what was fed as
// long as nothing is left out between them, so that nothing is copied.
type run struct {
	start, end int64
	spliced    bool // some of it is in Exchange.spliced already
}

func (r *run) add(x *Exchange, b sse.Block) {
	if r.end != b.Start && r.end > r.start {
		r.flush(x)
	}
	if r.end != b.Start {
		r.start = b.Start
	}
	r.end = b.End
}

func (r *run) flush(x *Exchange) {
	if !r.spliced {
		x.spliced = x.spliced[:0]
		r.spliced = true
	}
	x.spliced = append(x.spliced, x.parser.Bytes(r.start, r.end)...)
}

// bytes is what the run has collected.
func (r *run) bytes(x *Exchange) []byte {
	switch {
	case r.spliced:
		r.flush(x)
		return x.spliced
	case r.end > r.start:
		return x.parser.Bytes(r.start, r.end)
	}
	return nil
}
