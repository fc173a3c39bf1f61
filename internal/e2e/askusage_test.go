package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestUsageRejected: an upstream that does not take stream_options fails one request, as it
// answers it, and is not asked again; its streams cost what is counted.
func TestUsageRejected(t *testing.T) {
	const complaint = `{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if bytes.Contains(body, []byte("stream_options")) {
			w.Header().Set("content-type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, complaint)
			return
		}
		w.Header().Set("content-type", "text/event-stream")
		fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two three\"}}]}\n\ndata: [DONE]\n\n")
	}))
	defer upstream.Close()
	r := newRoad(t, roadOptions{limits: plenty(), upstream: upstream.URL})
	for i, want := range []int{http.StatusBadRequest, http.StatusOK, http.StatusOK} {
		id := fmt.Sprint("rejected-", i)
		resp, body, err := r.do(t.Context(), client(false), call{id: id, user: id, body: `{"model":"gpt-4o","stream":true,"messages":[]}`})
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want || want != http.StatusOK && string(body) != complaint || want == http.StatusOK && !strings.Contains(string(body), "three") {
			t.Errorf("%d: %s %s", i, resp.Status, body)
		}
		if _, err := r.finished(id); err != nil {
			t.Fatal(err)
		}
		spent := int64(0)
		if want == http.StatusOK {
			spent = 3 + 3
		}
		if b := r.balance(t, "user-year", id); b.Spent != spent || b.Held != 0 {
			t.Errorf("%d: the ledger says %+v, want %d", i, b, spent)
		}
	}
}
