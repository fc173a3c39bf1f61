package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// maxStored bounds the responses that a stand-in keeps; the oldest one makes room.
const maxStored = 256

// stored are the responses that go on in the background, as OpenAI's Responses API has them.
type stored struct {
	mu     sync.Mutex
	serial int
	ids    []string // oldest first
	asked  map[string]*storedResponse
}

// storedResponse is one that goes on: the first who asks for it is told so, and after that it
// has ended.
type storedResponse struct {
	fetched, cancelled bool
}

// background answers what is about a response in the background. ok is false for other requests,
// and for those that name a recording.
func (s *Server) background(r *http.Request, body []byte) (sc script, ok bool, err error) {
	if r.Header.Get(headerRecording) != "" {
		return sc, false, nil
	}
	var req struct{ Background, Stream bool }
	front, id, asked := strings.Cut(r.URL.Path, "/responses/")
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/responses"):
		if json.Unmarshal(body, &req) != nil || !req.Background {
			return sc, false, nil
		}
		id = s.stored.begin()
	case asked && front != "" && r.Method == http.MethodGet:
		req.Stream = r.URL.Query().Get("stream") == "true"
	case asked && front != "" && r.Method == http.MethodPost && strings.HasSuffix(id, "/cancel"):
		id = strings.TrimSuffix(id, "/cancel")
	default:
		return sc, false, nil
	}
	status, err := s.stored.status(id, r.Method == http.MethodPost && !req.Background, r.Method == http.MethodGet)
	if err != nil {
		return refusal(http.StatusNotFound, err.Error()), true, nil
	}
	recording := "openai-responses/basic"
	if req.Stream {
		recording = "openai-responses/made-text"
	}
	copied := r.Clone(r.Context())
	copied.Header.Set(headerRecording, recording)
	if sc, err = s.opts.write(copied, body); err != nil {
		return sc, true, err
	}
	if req.Stream {
		sc.events, err = storedEvents(sc.events, id, r.URL.Query().Get("starting_after"))
		sc.play = len(sc.events)
		return sc, true, err
	}
	answer, err := storedBody(sc.events[0], id, status)
	sc.events = [][]byte{answer} // the recording's own are shared
	return sc, true, err
}

// begin keeps a response that is new, and returns its id.
func (s *stored) begin() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ids) >= maxStored {
		delete(s.asked, s.ids[0])
		s.ids = s.ids[1:]
	}
	s.serial++
	id := "resp_standin_" + strconv.Itoa(s.serial)
	if s.asked == nil {
		s.asked = make(map[string]*storedResponse)
	}
	s.ids, s.asked[id] = append(s.ids, id), new(storedResponse)
	return id
}

// status is how a response stands; cancel ends it, fetch asks for it.
func (s *stored) status(id string, cancel, fetch bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.asked[id]
	if r == nil {
		return "", fmt.Errorf("the stand-in has no response %q; begin one with \"background\": true", id)
	}
	defer func() { r.fetched = r.fetched || fetch }()
	switch {
	case r.cancelled, cancel && !r.fetched:
		r.cancelled = true
		return "cancelled", nil
	case r.fetched:
		return "completed", nil
	case fetch:
		return "in_progress", nil
	}
	return "queued", nil
}

// storedBody is a recorded response under another id, as it stands with a status: without output
// and usage while it goes on.
func storedBody(recorded []byte, id, status string) ([]byte, error) {
	var response map[string]any
	if err := json.Unmarshal(recorded, &response); err != nil {
		return nil, err
	}
	response["id"], response["status"], response["background"] = id, status, true
	if status == "queued" || status == "in_progress" {
		response["output"], response["usage"] = []any{}, nil
	}
	return json.Marshal(response)
}

// storedEvents are a recorded stream's events under another id, behind the one with a sequence number.
func storedEvents(recorded [][]byte, id, after string) (events [][]byte, err error) {
	from := -1
	if after != "" {
		if from, err = strconv.Atoi(after); err != nil {
			return nil, fmt.Errorf("starting_after: %q is not a number", after)
		}
	}
	for i, e := range recorded {
		if i > from {
			events = append(events, bytes.ReplaceAll(e, []byte(`"resp_made"`), []byte(strconv.Quote(id))))
		}
	}
	return events, nil
}
