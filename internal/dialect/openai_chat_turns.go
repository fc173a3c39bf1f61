package dialect

import "strings"

// A turn of a chat is a message of the user with all that follows it, up to the next
// one of the user. So what is left begins with a user, too, which the templates of
// many models demand. Behind the user's last message, where an agent calls tools on
// its own, a turn is a message of the assistant with the answers of its tools.
//
// An answer of a tool belongs to the call whose id it names: all turns between the
// two are one. Ids may come again, since some models count them anew for each
// message; the last call with an id is meant. An answer without an id, or whose id no
// call has, belongs to the last call of its kind, or else of any.
//
// Messages of the system or the developer stay, and so do those of unknown roles,
// the user's last message, and the last turn.

// The keys of a message, and of a call in it, that turns depend on besides
// messageKeys. Spelled in another way they are nothing to refuse, but such a
// conversation is not shortened.
var (
	turnKeys = []string{"tool_calls", "function_call"}
	callKeys = []string{"id"}
)

// chatRole is who speaks, as far as it matters for turns.
type chatRole uint8

const (
	roleOther chatRole = iota // the system, the developer, and who is unknown
	roleUser
	roleAssistant
	roleAnswer // of a tool or function
)

// turnsReader reads which messages belong together.
type turnsReader struct {
	ids      map[string]int32 // of calls, with the last message that makes one; no more than the body has
	calls    int32            // the last message that calls tools, -1 if none
	function int32            // the last message with a function_call, -1 if none
	scratch  []byte
}

// turns implements [prompt].
func (p *chatPrompt) turns(body []byte, messages []message) []int32 {
	t := turnsReader{ids: make(map[string]int32), calls: -1, function: -1}
	roles := make([]chatRole, len(messages))
	needs := make([]int32, len(messages)) // the message without which it must not stand; itself if there is none
	user := -1
	for i, m := range messages {
		role, need, ok := t.message(body[m.start:m.end], int32(i))
		if !ok {
			return nil
		}
		roles[i], needs[i] = role, need
		if role == roleUser {
			user = i
		}
	}

	return numberTurns(roles, needs, func(i int) bool {
		return roles[i] == roleUser || roles[i] == roleAssistant && i > user
	})
}

// numberTurns numbers the turns of messages, by who speaks and by the message without
// which each must not stand; begins says that one may begin a turn.
func numberTurns(roles []chatRole, needs []int32, begins func(i int) bool) []int32 {
	turns := make([]int32, len(roles)) // first 1 where a turn begins, then its number
	reach := int32(len(roles))         // the earliest message that one from here on needs
	user := -1
	for i := len(roles) - 1; i >= 0; i-- {
		if roles[i] == roleUser {
			user = max(user, i)
		}
		reach = min(reach, needs[i])
		if reach >= int32(i) && begins(i) {
			turns[i] = 1
		}
	}
	turn := int32(0)
	for i := range turns {
		turn += turns[i]
		turns[i] = turn
	}
	for i := range turns {
		if turns[i] == turn || roles[i] == roleOther || i == user {
			turns[i] = Kept
		}
	}
	return turns
}

// message reads message i: who speaks, and the message that must not be dropped
// without it. It is not ok if servers may read it in several ways, or if somebody
// calls tools or answers calls whose part that is not.
func (t *turnsReader) message(raw []byte, i int32) (role chatRole, need int32, ok bool) {
	var id []byte
	function, calls := false, false
	for name, value := range members(raw, span{0, len(raw)}) {
		v := value.of(raw)
		switch string(name.of(raw)) {
		case `"role"`:
			switch strings.ToLower(string(t.text(v))) {
			case "user":
				role = roleUser
			case "assistant":
				role = roleAssistant
			case "tool":
				role = roleAnswer
			case "function":
				role, function = roleAnswer, true
			}
		case `"tool_call_id"`:
			if v[0] != 'n' {
				id = v
			}
		case `"function_call"`:
			if v[0] != 'n' {
				calls, t.function = true, i
			}
		case `"tool_calls"`:
			if v[0] != '[' && v[0] != 'n' {
				return role, i, false
			}
			for call := range elements(raw, value) {
				calls, t.calls = true, i
				if !t.call(raw, call, i) {
					return role, i, false
				}
			}
		default:
			if _, err := decisionKey(name.of(raw), turnKeys); err != nil {
				return role, i, false
			}
		}
	}
	if calls && role != roleAssistant || id != nil && role != roleAnswer {
		return role, i, false
	}
	if role != roleAnswer {
		return role, i, true
	}
	need = t.calls
	if function {
		need = t.function
	}
	if id != nil {
		if at, known := t.ids[string(t.text(id))]; known {
			need = at
		}
	}
	if need < 0 {
		need = max(t.calls, t.function)
	}
	if need < 0 { // there is no call at all
		need = i
	}
	return role, need, true
}

// call reads one call of a tool in message i.
func (t *turnsReader) call(raw []byte, at span, i int32) (ok bool) {
	for name, value := range members(raw, at) {
		key, err := decisionKey(name.of(raw), callKeys)
		if err != nil {
			return false
		}
		if key == "id" {
			t.ids[string(t.text(value.of(raw)))] = i
		}
	}
	return true
}

// text is a string unquoted, valid until the next call, or another value as it stands.
func (t *turnsReader) text(v []byte) []byte {
	if len(v) == 0 || v[0] != '"' {
		return v
	}
	t.scratch = t.scratch[:0]
	return unquote(v, &t.scratch)
}
