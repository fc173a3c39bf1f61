package dialect

// Kept is the turn of a message that must stay; see [Request.Turns].
const Kept int32 = -1

// Turns says how the conversation can be shortened: for each message the number of
// the turn with which it may be dropped, or [Kept]. Numbers rise from the oldest turn
// to the newest, and some may be left out. Who drops the oldest turns, as many as
// they like, leaves a conversation that the API takes like the whole one: no answer
// of a tool is without its call or comes before it, what the model was told to be and
// what it is asked are there.
//
// It is nil if that cannot be told apart safely. It is to be called before
// [Request.Drop]; it is linear in the messages.
func (r *Request) Turns() []int32 {
	if r.prompt == nil {
		return nil
	}
	return r.prompt.turns(r.body, r.messages)
}

// Drop takes the messages for which gone is true out of the request, and returns how
// many they were. From then on they are no messages of it, and [Request.Body] is
// without them; every other byte stays, but the comma and the white space behind
// each, or before it at the end. [Request.Opaque] still speaks of the whole. It is to
// be called once at most.
func (r *Request) Drop(gone func(i int) bool) (dropped int) {
	all := r.messages
	kept := all[:0]
	for i := 0; i < len(all); {
		if !gone(i) {
			kept = append(kept, all[i])
			i++
			continue
		}
		start, end := all[i].start, all[i].end
		for ; i < len(all) && gone(i); i++ {
			end = all[i].end
			dropped++
		}
		switch {
		case i < len(all):
			end = all[i].start
		case len(kept) > 0:
			start = kept[len(kept)-1].end
		}
		r.edits = append(r.edits, edit{int(start), int(end), ""})
	}
	r.messages = kept
	return dropped
}

// numberTurns numbers the turns of messages: who says each, and the message without
// which it must not stand, itself if there is none.
func numberTurns(roles []chatRole, needs []int32) []int32 {
	user := -1 // the last message of one
	for i, role := range roles {
		if role == roleUser {
			user = i
		}
	}
	turns := make([]int32, len(roles)) // first 1 where a turn begins, then its number
	reach := int32(len(roles))         // the earliest message that one from here on needs
	for i := len(roles) - 1; i >= 0; i-- {
		reach = min(reach, needs[i])
		begins := roles[i] == roleUser || roles[i] == roleAssistant && i > user
		if begins && reach >= int32(i) {
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
