package exchange

import "github.com/tokenbudget/tokenbudget/internal/dialect"

// openStream begins to read a streamed answer.
func (x *Exchange) openStream() {
	x.stream = x.api.NewStream(x.request)
	x.tools, _ = x.stream.(dialect.ToolStream)
	if s, ok := x.stream.(dialect.CompletedStream); ok && x.policy.CutCompleted {
		s.CloseCompleted()
	}
}

// toolAhead is how many tokens are to be held beyond total, which the event read last
// brings the output to, because a call of a tool begins with it. Half a call is of no use
// to the client, so none begins without room for a short one: the answer is cut before it
// instead. Nothing is exceeded by that. A longer call is cut like any other text. Calls of
// several choices at the same time have the room for each.
func (x *Exchange) toolAhead(total int64) int64 {
	if x.tools == nil || x.inTool && x.event.Calls == 0 || !x.tools.InTool() {
		return 0
	}
	grace := x.policy.ToolGrace * int64(max(1, x.event.Calls))
	if x.most > 0 {
		grace = min(grace, max(0, x.most-total)) // no more will come
	}
	x.inTool, x.toolEnd = true, total+grace
	return grace
}

// leaveTool notes that no call is under way any more, so that the next one gets its room.
func (x *Exchange) leaveTool() { x.inTool = x.inTool && x.tools.InTool() }
