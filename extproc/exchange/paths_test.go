package exchange

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// documentedRow is a row of the tables in docs/paths.md.
var documentedRow = regexp.MustCompile("(?m)^\\| `(\\S+) (\\S+)`( with a body| without a body|) \\| (?:`([^`]+)`|) ?\\| ([^|]+) \\| ([^|]*)\\|$")

// TestDocumentedPaths: what docs/paths.md says of the server by itself.
func TestDocumentedPaths(t *testing.T) {
	docs, err := os.ReadFile("../../docs/paths.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := documentedRow.FindAllStringSubmatch(string(docs), -1)
	if n := strings.Count(string(docs), "\n| `"); n != len(rows) || n < 100 {
		t.Fatalf("%d rows are read, of %d", len(rows), n)
	}
	for _, row := range rows {
		method, path, body, header, want := row[1], row[2], row[3], row[4], row[5]
		if got := decide(method, path, body, header); got != want {
			t.Errorf("%s %s%s %s: %s, but the table says %s", method, path, body, header, got, want)
		}
	}
}

// decide sends one request and says what becomes of it.
func decide(method, path, body, header string) string {
	x := New(NewPolicy(Policy{}))
	h := []*corev3.HeaderValue{{Key: ":method", RawValue: []byte(method)}, {Key: ":path", RawValue: []byte(path)}}
	if i := strings.IndexByte(header[min(1, len(header)):], ':') + 1; i > 0 {
		h = append(h, &corev3.HeaderValue{Key: header[:i], RawValue: []byte(strings.TrimSpace(header[i+1:]))})
	}
	bare := method == "GET" || method == "HEAD" || method == "OPTIONS" || method == "DELETE" || method == "CONNECT"
	bare = bare && body != " with a body" || body == " without a body"
	ready := x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{
		Headers: &corev3.HeaderMap{Headers: h}, EndOfStream: bare,
	}}})
	if len(ready.Send) == 1 && ready.Send[0].GetRequestHeaders() != nil && !bare {
		ready = x.Step(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{
			EndOfStream: true,
			Body:        []byte(`{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"hi"}],"prompt":"hi","input":"hi"}`),
		}}})
	}
	switch {
	case ready.Reserve != nil:
		return "metered: " + x.record.API
	case len(ready.Send) != 1:
		return "nothing"
	case ready.Send[0].GetImmediateResponse() != nil:
		return strconv.Itoa(int(ready.Send[0].GetImmediateResponse().GetStatus().GetCode()))
	}
	return "passes"
}
