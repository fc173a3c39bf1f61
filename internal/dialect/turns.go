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
