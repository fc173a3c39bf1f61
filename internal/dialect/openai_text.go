package dialect

import "github.com/go-json-experiment/json/jsontext"

// bytesPerSealedToken is how many bytes of base64 stand for one token of reasoning that is
// encrypted. A guess; it is used only where no text of it comes along.
const bytesPerSealedToken = 5

// add adds the text that comes next: a string, or a list of parts, as Mistral sends its
// content while it thinks, and OpenRouter the details of reasoning. An object in its
// place counts as the JSON it is.
func (s *chatStream) add(ev *Event, c channel) error {
	if s.json.dec.PeekKind() == jsontext.KindBeginArray {
		return s.json.array(func() error { return s.part(ev, c) })
	}
	v, err := s.json.dec.ReadValue()
	if err != nil || !holdsText(v) && v.Kind() != jsontext.KindNumber { // digits are text, too
		return err
	}
	text := []byte(v)
	if v.Kind() == jsontext.KindString {
		text = unquote(v, &ev.scratch)
	}
	ev.Reasoning = ev.Reasoning || c == channelReasoning
	ev.Texts = append(ev.Texts, Text{provisional(c, 0), text})
	return nil
}

// part reads an element of such a list.
func (s *chatStream) part(ev *Event, c channel) error {
	if s.json.dec.PeekKind() != jsontext.KindBeginObject {
		return s.add(ev, c)
	}
	return s.json.object(func(name []byte) error {
		switch string(name) {
		case `"text"`, `"summary"`:
			return s.add(ev, c)
		case `"thinking"`:
			return s.add(ev, channelReasoning)
		case `"data"`:
			v, err := s.json.dec.ReadValue()
			ev.Extra += int64(len(v)-len(`""`)+bytesPerSealedToken-1) / bytesPerSealedToken
			return err
		case `"type"`, `"index"`, `"id"`, `"format"`, `"signature"`, `"closed"`:
			return s.json.dec.SkipValue()
		}
		return s.remember() // it counts if the event has nothing else
	})
}
