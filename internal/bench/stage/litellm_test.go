package stage

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// A stream that was written anew passes with the same text and stamps only.
func TestLooseStream(t *testing.T) {
	const chunks = 5
	script := newScript(chunks)
	for _, at := range script.stamps {
		putNumber(script.body[at:at+stampWidth], 1000, '0')
	}
	var events []string
	for event := range strings.SplitSeq(strings.TrimSuffix(string(script.body), "\n\n"), "\n\n") {
		data := strings.TrimPrefix(event, "data: ")
		var anew map[string]any
		if json.Unmarshal([]byte(data), &anew) == nil {
			b, err := json.Marshal(anew) // sorted, so another order
			if err != nil {
				t.Fatal(err)
			}
			data = string(b)
		}
		events = append(events, "data: "+data+"\n\n")
	}
	feed := func(events []string) (*Stream, error) {
		s := NewLooseStream(chunks)
		s.Start(0)
		body := []byte(strings.Join(events, ""))
		for end := 0; end < len(body); { // in pieces
			end = min(end+97, len(body))
			if err := s.Feed(body[:end], 3000); err != nil {
				return s, err
			}
		}
		return s, s.End(len(body))
	}
	s, err := feed(events)
	if err != nil || !slices.Equal(s.Took, []int64{2000, 2000, 2000, 2000, 2000}) || s.First != 3000 || s.Chunks() != chunks {
		t.Errorf("error %v, times %v, first %d, %d chunks", err, s.Took, s.First, s.Chunks())
	}
	swapped := slices.Clone(events)
	swapped[1], swapped[2] = swapped[2], swapped[1]
	stampless := slices.Clone(events)
	stampless[3] = strings.Replace(stampless[3], "chatcmpl-000", "chatcmpl-abc", 1)
	for name, bad := range map[string][]string{
		"a chunk less": slices.Delete(slices.Clone(events), 1, 2), "a chunk more": slices.Insert(slices.Clone(events), 5, events[0]),
		"other order": swapped, "no stamp": stampless, "no end": events[:len(events)-1], "half an event": append(slices.Clone(events), "data: "), "nothing": nil,
	} {
		if _, err := feed(bad); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestSaysWhole(t *testing.T) {
	if err := SaysWhole([]byte(whole)); err != nil {
		t.Error(err)
	}
	if SaysWhole([]byte(`{"error":{}}`)) == nil {
		t.Error("an error passes for an answer")
	}
}
