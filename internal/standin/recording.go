package standin

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed recordings
var recordingFiles embed.FS

// Recording is a recorded answer. Its fields are shared: do not change them.
type Recording struct {
	Name    string      // such as openai/chat-streaming
	Method  string      // of the recorded request
	Path    string      // of the recorded request, such as /v1/chat/completions
	Status  int         //
	Header  http.Header // of the answer
	Request []byte      // body of the recorded request; nil if unknown
	Body    []byte      // of the answer, byte for byte
	Events  [][]byte    // Body in pieces: one for each server-sent event, or just one
}

// Stream reports whether the answer is a stream of server-sent events.
func (r Recording) Stream() bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream")
}

// Recordings returns the names of all recordings, sorted.
func Recordings() []string {
	all := library()
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Name
	}
	return names
}

// Load returns a recording by name. The error for an unknown name lists those
// there are.
func Load(name string) (Recording, error) {
	all := library()
	i, found := slices.BinarySearchFunc(all, name, func(r Recording, name string) int { return strings.Compare(r.Name, name) })
	if !found {
		return Recording{}, fmt.Errorf("standin: no recording %q; there are: %s", name, strings.Join(Recordings(), ", "))
	}
	return all[i], nil
}

// library reads the embedded files once, sorted by name. They are part of the
// program, so that an error in them is a programmer's and panics.
var library = sync.OnceValue(func() []Recording {
	var all []Recording
	err := fs.WalkDir(recordingFiles, "recordings", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(d.Name(), "response.") {
			return err
		}
		r, err := readRecording(p)
		all = append(all, r)
		return err
	})
	if err != nil {
		panic(err)
	}
	slices.SortFunc(all, func(a, b Recording) int { return strings.Compare(a.Name, b.Name) })
	return all
})

// readRecording reads the folder of a file response.sse or response.json.
func readRecording(response string) (Recording, error) {
	dir := path.Dir(response)
	r := Recording{
		Name:   strings.TrimPrefix(dir, "recordings/"),
		Method: http.MethodPost,
		Path:   "/v1/chat/completions",
		Status: http.StatusOK,
		Header: http.Header{},
	}
	body, err := recordingFiles.ReadFile(response)
	if err != nil {
		return r, err
	}
	r.Body, r.Events = body, [][]byte{body}
	if path.Ext(response) == ".sse" {
		r.Events = splitEvents(body)
		r.Header.Set("Content-Type", "text/event-stream")
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if request, err := recordingFiles.ReadFile(path.Join(dir, "request.json")); err == nil {
		r.Request = request
	}
	raw, err := recordingFiles.ReadFile(path.Join(dir, "meta.json"))
	if err != nil {
		return r, nil // a sample without meta.json: the defaults above
	}
	var meta struct {
		Method  string            `json:"method"`
		Path    string            `json:"path"`
		Status  int               `json:"status"`
		Headers map[string]string `json:"response_headers"`
	}
	if err := json.Unmarshal(raw, &meta); err != nil {
		return r, fmt.Errorf("standin: %s/meta.json: %w", dir, err)
	}
	r.Method, r.Path, r.Status = meta.Method, meta.Path, meta.Status
	for name, value := range meta.Headers {
		r.Header.Set(name, value)
	}
	return r, nil
}

// splitEvents cuts a stream behind the empty line that ends each event. The
// recordings use LF. What follows the last event belongs to it, so that the
// pieces are always the whole.
func splitEvents(body []byte) [][]byte {
	events := bytes.SplitAfter(body, []byte("\n\n"))
	if n := len(events); n > 1 && len(bytes.TrimSpace(events[n-1])) == 0 {
		start := len(body) - len(events[n-1]) - len(events[n-2])
		events = append(events[:n-2], body[start:])
	}
	return events
}

// recordingFor chooses an answer for a request which names none; empty if there
// is none for its path.
func recordingFor(urlPath string, stream bool) string {
	switch {
	case strings.HasSuffix(urlPath, "/chat/completions") && stream:
		return "openai/chat-streaming"
	case strings.HasSuffix(urlPath, "/chat/completions"):
		return "openai/chat-basic"
	case strings.HasSuffix(urlPath, "/completions") && stream:
		return "openai/completion-streaming"
	case strings.HasSuffix(urlPath, "/completions"):
		return "openai/completion-basic"
	case strings.HasSuffix(urlPath, "/responses") && stream:
		return "openai-responses/made-text"
	case strings.HasSuffix(urlPath, "/responses"):
		return "openai-responses/basic"
	case strings.HasSuffix(urlPath, "/messages") && stream:
		return "anthropic/stream_basic"
	case strings.HasSuffix(urlPath, "/messages"):
		return "anthropic/basic"
	case strings.HasSuffix(urlPath, "/embeddings"):
		return "openai/embeddings-tokens"
	}
	return ""
}
