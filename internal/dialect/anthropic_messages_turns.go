package dialect

import "strings"

// Turns of a conversation with Anthropic's API are those of a chat: a message of the
// user with all that follows it, up to the next one. A message of the user that has
// results of tools is no question but part of the answer to the one before; the API
// demands each result in the message behind its call, which begins no turn either. So
// what is left begins with a user, as the API demands, too.
//
// Behind the user's last question a turn is a message of the assistant with the
// results of its tools. A summary of what was before (compaction), and what the system
// says in between, stay.

// turns implements [prompt].
func (p *messagesPrompt) turns(body []byte, messages []message) []int32 {
	t := turnsReader{ids: make(map[string]int32), calls: -1}
	roles := make([]chatRole, len(messages))
	needs := make([]int32, len(messages))
	user := -1 // the last question
	for i, m := range messages {
		role, need, ok := t.anthropic(body[m.start:m.end], int32(i))
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

// anthropic reads message i: who speaks, and the message that must not be dropped
// without it. It is not ok if somebody calls tools or answers calls whose part that is
// not.
func (t *turnsReader) anthropic(raw []byte, i int32) (role chatRole, need int32, ok bool) {
	var content span
	for name, value := range members(raw, span{0, len(raw)}) {
		switch string(name.of(raw)) {
		case `"role"`:
			switch strings.ToLower(string(t.text(value.of(raw)))) {
			case "user":
				role = roleUser
			case "assistant":
				role = roleAssistant
			}
		case `"content"`:
			content = value
		}
	}
	need, ok = i, true
	calls := t.calls // before this message
	for block := range elements(raw, content) {
		var kind, id, call string
		for name, value := range members(raw, block) {
			v := value.of(raw)
			switch string(name.of(raw)) {
			case `"type"`:
				kind = string(t.text(v))
			case `"id"`:
				id = string(t.text(v))
			case `"tool_use_id"`:
				call = string(t.text(v))
			}
		}
		switch kind {
		case "tool_use":
			ok = ok && role == roleAssistant
			t.ids[id], t.calls = i, i
		case "tool_result":
			ok = ok && (role == roleUser || role == roleAnswer)
			role = roleAnswer
			of, known := t.ids[call]
			if !known {
				of = calls
			}
			if of >= 0 {
				need = min(need, of)
			}
		case "compaction":
			return roleOther, i, true
		}
	}
	return role, need, ok
}
