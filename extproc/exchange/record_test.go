package exchange

import (
	"maps"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenbudget/tokenbudget/budget"
)

// TestRecordIsBounded: a client cannot fill the log with what it sends.
func TestRecordIsBounded(t *testing.T) {
	for _, path := range []string{"/v1/files", "/v1/unknown"} {
		c := newConversation()
		c.policy.Pass = []string{"/v1/files*"}
		c.start(t)
		h := []*corev3.HeaderValue{
			{Key: ":method", RawValue: []byte("POST")}, {Key: ":path", RawValue: []byte(path + strings.Repeat("x", 50_000))},
			{Key: "x-request-id", RawValue: []byte(strings.Repeat("r", 50_000))},
		}
		c.perform(c.x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
			RequestHeaders: &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: h}},
		}}))
		c.perform(c.x.End())
		c.check(t)
		r := c.record
		if n := len(r.RequestID) + len(r.Path) + len(r.Reason); n > 2000 || !strings.HasPrefix(r.RequestID, "rrr") || !strings.HasPrefix(r.Path, path) {
			t.Errorf("%s: %d bytes are recorded: id %.20s, path %.20s", path, n, r.RequestID, r.Path)
		}
	}
}

// TestAnnouncement: Envoy hears whose request it forwards, and what is held for it; all later
// metadata has the same names, so that it replaces them.
func TestAnnouncement(t *testing.T) {
	r := &Record{
		API: "openai.chat", Model: "m", Stream: true, Input: 3, Outcome: Completed,
		Identities: []budget.Identity{{Name: "user", Value: "u"}, {Name: "api", Value: "an identity hides nothing"}},
	}
	fields := func(s *structpb.Struct) map[string]any {
		return s.GetFields()[Namespace].GetStructValue().AsMap()
	}
	early, late := fields(r.announcement(budget.Amount{Input: 3, Output: 4})), fields(r.metadata())
	want := map[string]any{"user": "u", "api": "openai.chat", "model": "m", "stream": true, "input_tokens": 3.0, "held": 7.0}
	if !maps.Equal(early, want) {
		t.Errorf("%v, want %v", early, want)
	}
	for name := range early {
		if _, again := late[name]; !again {
			t.Errorf("%s is not in %v", name, late)
		}
	}
}

// TestAnnouncementHidesNothing: an identity cannot look like what is said at the end, which may not come.
func TestAnnouncementHidesNothing(t *testing.T) {
	r := &Record{API: "openai.chat", Model: "m", Outcome: Completed}
	for name := range r.metadata().GetFields()[Namespace].GetStructValue().GetFields() {
		r.Identities = append(r.Identities, budget.Identity{Name: name, Value: "the client's"})
	}
	for when, s := range map[string]*structpb.Struct{"at first": r.announcement(budget.Amount{}), "at the end": r.metadata()} {
		for name, v := range s.GetFields()[Namespace].GetStructValue().GetFields() {
			if v.GetStringValue() == "the client's" {
				t.Errorf("%s, %s is what the client says", when, name)
			}
		}
	}
}
