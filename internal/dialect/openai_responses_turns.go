package dialect

import "strings"

// An item of the input belongs to a turn as a message of chat does, with these differences:
//
//   - Behind the user's last message, a turn is what the model made in one go, reasoning
//     and calls of tools, with the answers of these: the API refuses reasoning without
//     what follows it, and a call without its reasoning.
//   - A call and its answer have the same call_id; to approve one of MCP names it.
//   - Items which are named by their id, earlier responses and conversations may hold
//     the other half of an exchange. With them nothing can be told apart.
//   - Items of kinds that are not known make it impossible, too.

// turns implements [prompt].
func (p *responsesPrompt) turns(body []byte, messages []message) []int32 {
	if p.hidden {
		return nil
	}
	t := itemsReader{turnsReader{ids: make(map[string]int32), calls: -1, function: -1}}
	roles := make([]chatRole, len(messages))
	needs := make([]int32, len(messages))
	user := -1
	for i, m := range messages {
		role, need, ok := t.item(body[m.start:m.end], int32(i))
		if !ok {
			return nil
		}
		roles[i], needs[i] = role, need
		if role == roleUser {
			user = i
		}
	}
	return numberTurns(roles, needs, func(i int) bool {
		// The model goes on from its own items: only the first of them begins a turn.
		return roles[i] == roleUser || roles[i] == roleAssistant && i > user && (i == 0 || roles[i-1] != roleAssistant)
	})
}

// itemsReader reads which items belong together.
type itemsReader struct{ turnsReader }

// item reads item i: who speaks, and the item that must not be dropped without it; i
// itself if there is none. It is not ok if that cannot be told.
func (t *itemsReader) item(raw []byte, i int32) (role chatRole, need int32, ok bool) {
	var kind, speaker, id, call, approval string
	for name, value := range members(raw, span{0, len(raw)}) {
		v := value.of(raw)
		switch string(name.of(raw)) {
		case `"type"`:
			kind = string(t.text(v))
		case `"role"`:
			speaker = strings.ToLower(string(t.text(v)))
		case `"id"`:
			id = string(t.text(v))
		case `"call_id"`:
			call = string(t.text(v))
		case `"approval_request_id"`:
			approval = string(t.text(v))
		}
	}
	switch {
	case kind == "" || kind == "message":
		switch speaker {
		case "user":
			return roleUser, i, true
		case "assistant":
			return roleAssistant, i, true
		}
		return roleOther, i, true
	case kind == "reasoning":
		return roleAssistant, i, true
	case kind == "compaction", kind == "mcp_list_tools", kind == "additional_tools":
		return roleOther, i, true
	case kind == "mcp_approval_request":
		t.ids[id], t.calls = i, i
		return roleAssistant, i, true
	case kind == "mcp_approval_response":
		return t.answer(approval, i)
	case strings.HasSuffix(kind, "_call") || kind == "program":
		t.calls = i
		if call != "" {
			t.ids[call] = i
		}
		if approval != "" && approval != "null" { // it was approved before
			_, need, ok = t.answer(approval, i)
			return roleAssistant, need, ok
		}
		return roleAssistant, i, true
	case strings.HasSuffix(kind, "_output"):
		return t.answer(call, i)
	}
	return roleOther, i, false
}

// answer is an item that answers the one with an id.
func (t *itemsReader) answer(id string, i int32) (role chatRole, need int32, ok bool) {
	if at, known := t.ids[id]; known {
		return roleAnswer, at, true
	}
	if t.calls < 0 {
		return roleAnswer, i, true // there is no call at all
	}
	return roleAnswer, t.calls, true
}
