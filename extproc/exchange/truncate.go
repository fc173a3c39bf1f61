package exchange

import (
	"slices"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// truncate drops the oldest turns of a prompt that a limit per request would refuse,
// if that limit, the narrowest one, says so: as many as it takes for the prompt to
// fit beside the output that is asked for, but no more than leave it half of the
// room. From then on q and the exchange speak of the shortened request. If it does
// not fit without all that may be dropped, it stays whole, and will be refused.
//
// What stays is counted from the newest turn on, so that the work depends on the
// limit rather than on how long the conversation has become.
func (x *Exchange) truncate(q *budget.Request) {
	if len(x.policy.Truncate) == 0 {
		return
	}
	room, limit := x.policy.Sizes.Room(q, q.MinOutput)
	if q.Input <= room || !slices.Contains(x.policy.Truncate, limit) {
		return
	}
	aim, _ := x.policy.Sizes.Room(q, max(x.wanted, x.request.Output()))
	aim = max(aim, room/2)

	turns := x.request.Turns()
	tokens := func(i int) int64 { return x.policy.Count.Message(x.model, x.request, i) }
	n := x.policy.Count.Rest(x.model, x.request)
	for i, turn := range turns {
		if turn == dialect.Kept {
			n += tokens(i)
		}
	}
	if x.model.Input.Of(n) > room || turns == nil {
		return
	}
	first := int32(len(turns)) // the oldest turn that stays
	for i := len(turns) - 1; i >= 0; {
		turn, with := turns[i], n
		if turn == dialect.Kept {
			i--
			continue
		}
		for ; i >= 0 && (turns[i] == turn || turns[i] == dialect.Kept); i-- {
			if turns[i] == turn && x.model.Input.Of(with) <= aim {
				with += tokens(i)
			}
		}
		if x.model.Input.Of(with) > aim {
			break
		}
		first, n = turn, with
	}
	x.record.Truncated = int64(x.request.Drop(func(i int) bool { return turns[i] != dialect.Kept && turns[i] < first }))
	x.prompt = n
	x.input = x.model.Input.Of(n)
	x.record.Input, q.Input = x.input, x.input
}
