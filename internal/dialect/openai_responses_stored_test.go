package dialect

import (
	"strings"
	"testing"
)

func TestStoredPath(t *testing.T) {
	long := strings.Repeat("a", maxStoredID)
	for _, tt := range []struct {
		method, path, front, id string
	}{
		{"GET", "/v1/responses/resp_1", "/v1", "resp_1"},
		{"GET", "/responses/resp_1", "", "resp_1"},
		{"POST", "/v1/responses/resp_1/cancel", "/v1", "resp_1"},
		{"POST", "/v1/responses/resp%5F1/cancel/", "/v1", "resp_1"},
		{"GET", "/openai/v1/responses/resp_A-b.c=~", "/openai/v1", "resp_A-b.c=~"},
		{"GET", "/openai/responses/resp_1", "/openai", "resp_1"},
		{"GET", "/openai/deployments/eu/responses/resp_1", "/openai", "resp_1"},
		{"GET", "/v1/responses/" + long, "/v1", long},

		{"POST", "/v1/responses/resp_1", "", ""},
		{"GET", "/v1/responses/resp_1/cancel", "", ""},
		{"GET", "/v1/responses/resp_1/input_items", "", ""},
		{"DELETE", "/v1/responses/resp_1", "", ""},
		{"HEAD", "/v1/responses/resp_1", "", ""},
		{"POST", "/v1/responses", "", ""},
		{"GET", "/v1/responses/", "", ""},
		{"GET", "/v1/responses/..", "", ""},
		{"GET", "/v1/responses/a%62/", "/v1", "ab"},
		{"GET", "/v1/responses/a%2562", "/v1", "ab"},
		{"GET", "/v1//responses/resp_A//", "/v1", "resp_A"},
		{"GET", "/V1/Responses/resp_A", "/V1", "resp_A"},
		{"POST", "/v1/responses/resp_A/Cancel", "/v1", "resp_A"},
		{"GET", "/v1/responses/./resp_A", "/v1", "resp_A"},
		{"GET", "/v1/responses/x/../resp_A", "/v1", "resp_A"},
		{"GET", "/v1/responses;v=1/resp_A;v=2", "/v1", "resp_A"},
		{"GET", `/v1\responses\resp_A`, "/v1", "resp_A"},
		{"GET", "/v1/responses%2Fresp_A", "/v1", "resp_A"},
		{"GET", "/v1/responses/a%2fb", "", ""},
		{"GET", "/v1/responses/a%", "", ""},
		{"GET", "/v1/responses/a;b", "/v1", "a"},
		{"GET", "/v1/responses/resp_A/Cancel", "", ""},
		{"GET", "/v1/responses/" + long + "a", "", ""},
		{"GET", "/v1/models/responses", "", ""},
		{"GET", "", "", ""},
	} {
		front, id, ok := StoredPath(tt.method, tt.path)
		if front != tt.front || id != tt.id || ok != (tt.id != "") {
			t.Errorf("StoredPath(%s %s) = %q, %q, %v, want %q, %q", tt.method, clipped(tt.path), front, clipped(id), ok, tt.front, clipped(tt.id))
		}
	}
	for path, want := range map[string]string{
		"/v1/responses": "/v1", "/openai/deployments/eu/responses": "/openai", "/deployments/eu/responses": "/deployments/eu",
		"/x/openai/deployments/eu/responses": "/x/openai", "/responses": "", "": "",
	} {
		if got := StoredFront(path); got != want {
			t.Errorf("StoredFront(%q) = %q, want %q", path, got, want)
		}
	}
}

func clipped(s string) string { return s[:min(len(s), 60)] }

func TestReadStored(t *testing.T) {
	for _, tt := range []struct {
		data, id string
		status   StoredStatus
	}{
		{`{"id":"resp_1","object":"response","status":"queued"}`, "resp_1", StoredQueued},
		{`{"id":"resp_1","status":"in_progress","output":[{"id":"msg_1","status":"completed"}]}`, "resp_1", StoredInProgress},
		{`{"status":"completed","output":[],"id":"resp_1"}`, "resp_1", StoredCompleted},
		{`{"id":"resp_1","status":"incomplete"}`, "resp_1", StoredIncomplete},
		{`{"id":"resp_1","status":"failed"}`, "resp_1", StoredFailed},
		{`{"id":"resp_1","status":"cancelled"}`, "resp_1", StoredCancelled},
		{` {"type":"response.completed","response":{"id":"resp_1","status":"completed"}}`, "resp_1", StoredCompleted},
		{`{"type":"response.output_item.done","item":{"id":"msg_1","status":"completed"}}`, "", ""},
		{`{"id":"resp_1","status":"requires_action"}`, "resp_1", ""},
		{`{"id":"a/../b","status":"completed"}`, "", StoredCompleted},
		{`{"id":"a\u0062","status":"completed"}`, "", StoredCompleted},
		{`{"id":7,"status":7}`, "", ""},
		{`{"id":"resp_1","status":"completed"`, "", ""},
		{`["id"]`, "", ""},
		{`{"response":null,"id":"resp_1"}`, "resp_1", ""},
		{``, "", ""},
		{` `, "", ""},
	} {
		if s := ReadStored([]byte(tt.data)); s.ID != tt.id || s.Status != tt.status {
			t.Errorf("ReadStored(%s) = %q, %q, want %q, %q", tt.data, s.ID, s.Status, tt.id, tt.status)
		}
	}
	for status, want := range map[StoredStatus][2]bool{
		"": {}, StoredQueued: {true, false}, StoredInProgress: {true, false}, StoredCompleted: {false, true},
		StoredIncomplete: {false, true}, StoredFailed: {false, true}, StoredCancelled: {false, true},
	} {
		if got := [2]bool{status.GoesOn(), status.Ended()}; got != want {
			t.Errorf("a response that is %q goes on, has ended: %v, want %v", status, got, want)
		}
	}
	s := ReadStored([]byte(`{"type":"response.completed","response":{"id":"resp_1","status":"completed"} }`))
	if got, want := string(s.Body), `{"id":"resp_1","status":"completed"}`; got != want {
		t.Errorf("the response in an event is %s, want %s", got, want)
	}
}

func TestEarlier(t *testing.T) {
	for body, want := range map[string]Earlier{
		`{"previous_response_id":"resp_1"}`:                         {Response: "resp_1"},
		`{"conversation":"conv_1"}`:                                 {Conversation: "conv_1"},
		`{"conversation":{"id":"conv_1"}}`:                          {Conversation: "conv_1"},
		`{"conversation":{"name":"conv_1"}}`:                        {},
		`{"conversation":7}`:                                        {},
		`{"previous_response_id":"a b"}`:                            {},
		`{"previous_response_id":null,"input":"a"}`:                 {},
		`{"previous_response_id":"resp_1","conversation":"conv"}`:   {"resp_1", "conv"},
		`{"input":[{"type":"message","previous_response_id":"a"}]}`: {},
	} {
		r, err := OpenAIResponses{}.ParseRequest([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if r.Earlier != want {
			t.Errorf("%s goes on from %+v, want %+v", body, r.Earlier, want)
		}
		if want.Response == "" {
			continue
		}
		before := r.Rest("gpt-4o", func([]byte) {})
		r.KnowEarlier()
		if after := r.Rest("gpt-4o", func([]byte) {}); before-after != heldConversation {
			t.Errorf("%s holds %d and, once the earlier response is known, %d", body, before, after)
		}
	}
}

// What is shown of a response's output is its text alone, wherever it ends.
func TestStoredText(t *testing.T) {
	whole := `{"id":"resp_1","instructions":[{"text":"not this"}],"output":[{"type":"reasoning","summary":[{"type":"summary_text","text" : "12345"}]},` +
		`{"type":"message","content":[{"type":"output_text","annotations":[],"text":"a\"b\u00e9\n","logprobs":null}]},` +
		`{"type":"function_call","name":"f","arguments":"{\"a\":1}"},{"type":"image_generation_call","result":"AAAAAAAA"}],"text":{"format":{"type":"text"}}}`
	if n := StoredText([]byte(whole)); n != 5+7+7 {
		t.Errorf("the output has %d bytes of text, want 19", n)
	}
	last := int64(0)
	for i := range whole {
		n := StoredText([]byte(whole[:i]))
		if n < last || n > 19+6 { // "format" is not known for a name while it is being said
			t.Fatalf("%d bytes of text up to %s", n, whole[:i])
		}
		last = min(n, 19)
	}
	for data, want := range map[string]int64{
		"": 0, "{": 0, `{"text":"a"}`: 0, `{"output":[{"text":"abc`: 3, `{"output":[{"text":"ab\`: 3, `{"output":[{"text":"ab\u0`: 5, `"output""text":`: 0,
	} {
		if n := StoredText([]byte(data)); n != want {
			t.Errorf("StoredText(%s) = %d, want %d", data, n, want)
		}
	}
}

func TestStoredSequence(t *testing.T) {
	for data, want := range map[string]int64{
		`{"type":"a","sequence_number":7}`: 7, `{"sequence_number":-1}`: 0, `{"sequence_number":1e30}`: 0, `{"sequence_number":"7"}`: 0,
		`[DONE]`: 0, `7`: 0, `{"sequence_number":1048577}`: 0, `{"type":"a"}`: 0,
	} {
		if n := StoredSequence([]byte(data)); n != want {
			t.Errorf("StoredSequence(%s) = %d, want %d", data, n, want)
		}
	}
}

// FuzzStored: what is read of an answer is a part of it, and its id can stand in a path.
func FuzzStored(f *testing.F) {
	f.Add([]byte(`{"id":"resp_1","status":"completed"}`))
	f.Add([]byte(`{"type":"response.completed","response":{"id":"resp_1","status":"failed","output":[]}}`))
	f.Add([]byte(`{"response":[{}],"id":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := StoredText(data); n < 0 || n > int64(len(data)) {
			t.Errorf("%d of %d bytes are text", n, len(data))
		}
		if n := StoredSequence(data); n < 0 || n > maxSequence {
			t.Errorf("an event has the number %d", n)
		}
		s := ReadStored(data)
		if s.Status.Ended() && wellFormed(s.Body) != nil {
			t.Errorf("a response that is no JSON has ended: %q", s.Body)
		}
		if s.ID == "" {
			return
		}
		if _, id, ok := StoredPath("GET", "/v1/responses/"+s.ID); !ok || id != s.ID {
			t.Errorf("the id %q is not found in a path", s.ID)
		}
	})
}
