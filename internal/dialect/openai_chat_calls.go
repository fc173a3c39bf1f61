package dialect

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// chatCall is the call of a tool that a choice is in. The API sends the calls of a choice one after
// the other and does not say where one ends: it does where the next one begins, or with the choice.
type chatCall struct {
	choice, tool int64
	arguments    bool // some of them have come
}

var _ ToolStream = new(chatStream)

// InTool implements [ToolStream].
func (s *chatStream) InTool() bool { return len(s.calls) > 0 }

// follow notes which calls go on or begin with the texts that an event adds to a choice, whose slots
// are provisional. A call that comes whole, as Gemini and Ollama send theirs, is none that goes on:
// it needs no room.
func (s *chatStream) follow(ev *Event, choice int64, texts []Text) {
	begun := false // the choice's last call
	for len(texts) > 0 {
		tool, n := texts[0].Slot>>8, 0
		var named bool
		var arguments []byte
		for ; n < len(texts) && texts[n].Slot>>8 == tool; n++ {
			switch channel(texts[n].Slot & 0xff) {
			case channelName:
				named = true
			case channelArguments:
				arguments = texts[n].Bytes
			}
		}
		texts = texts[n:]
		if !named && arguments == nil || !s.enter(chatCall{choice, int64(tool), arguments != nil}, named) {
			continue
		}
		if begun = !wholeArguments(arguments); !begun {
			s.leave(choice)
		}
	}
	if begun {
		ev.Calls = len(s.calls)
	}
}

// enter makes a call the one that its choice is in, and says whether it begins by that. Some servers
// number all calls alike: a name behind arguments is the next one's.
func (s *chatStream) enter(c chatCall, named bool) (begins bool) {
	for i := range s.calls {
		if now := &s.calls[i]; now.choice == c.choice {
			begins = now.tool != c.tool || named && now.arguments
			*now = c
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
