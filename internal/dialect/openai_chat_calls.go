package dialect

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// chatCall is the call of a tool that a choice is in. The API sends the calls of a choice one after
// the other and does not say where one ends: it does where the next one begins, or with the choice.
type chatCall struct{ choice, tool int64 }

var _ ToolStream = new(chatStream)

// InTool implements [ToolStream].
func (s *chatStream) InTool() bool { return len(s.calls) > 0 }

// follow notes which calls go on or begin with the texts that an event adds to a choice, whose slots
// are provisional. A call that comes whole, as Gemini and Ollama send theirs, is none that goes on:
// it needs no room.
func (s *chatStream) follow(ev *Event, choice int64, texts []Text) {
	begun := false // the choice's last call
	for _, t := range texts {
		of, tool := channel(t.Slot&0xff), int64(t.Slot>>8)
		if of != channelName && of != channelArguments {
			continue
		}
		if s.enter(chatCall{choice, tool}) {
			begun = true
		}
		if begun && of == channelArguments && wholeArguments(t.Bytes) {
			s.leave(choice)
			begun = false
		}
	}
	if begun {
		ev.Calls = len(s.calls)
	}
}

// enter makes a call the one that its choice is in, and says whether it has not been that.
func (s *chatStream) enter(c chatCall) bool {
	for i := range s.calls {
		if s.calls[i].choice == c.choice {
			begins := s.calls[i] != c
			s.calls[i] = c
			return begins
		}
	}
	if c.choice >= max(maxChoices, s.expected()) {
		return false // as in finishes: such a choice never ends
	}
	s.calls = append(s.calls, c)
	return true
}

// leave notes that a choice is in no call any more.
func (s *chatStream) leave(choice int64) {
	s.calls = slices.DeleteFunc(s.calls, func(c chatCall) bool { return c.choice == choice })
}

// wholeArguments says that arguments are not the beginning of longer ones: they are an object of
// JSON, which nothing can follow.
func wholeArguments(text []byte) bool {
	v := jsontext.Value(text)
	return v.Kind() == jsontext.KindBeginObject && v.IsValid()
}
