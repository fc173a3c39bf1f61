package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// answer is what the upstream says to every request: an answer of OpenAI's, with
// the figures of its usage made small.
const answer = `{"id":"chatcmpl-9xT2kq7Lr0","object":"chat.completion","created":1764000000,"model":"gpt-4o-2024-08-06",` +
	`"choices":[{"index":0,"message":{"role":"assistant","content":"The retry loop never resets its counter, so the second outage ` +
	`starts with the delay of the first. Set it to zero after a success, and add a test with two outages.","refusal":null,"annotations":[]},` +
	`"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":41,"total_tokens":1041,` +
	`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,` +
	`"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_07871e2ad8"}`

// upstream is the smallest model API that can be: it takes in the whole request,
// and answers.
type upstream struct {
	lis    net.Listener
	http   *http.Server
	served sync.WaitGroup
}

func startUpstream(ctx context.Context) (*upstream, error) {
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	buffers := sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}
	length := []string{strconv.Itoa(len(answer))}
	u := &upstream{lis: lis, http: &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			buf := buffers.Get().(*[]byte)
			defer buffers.Put(buf)
			for {
				if _, err := r.Body.Read(*buf); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					panic(http.ErrAbortHandler)
				}
			}
			h := w.Header()
			h["Content-Type"], h["Content-Length"] = []string{"application/json"}, length
			_, _ = io.WriteString(w, answer) // who has left needs none
		}),
	}}
	u.served.Go(func() { _ = u.http.Serve(lis) }) // always ErrServerClosed, or what the clients see as well
	return u, nil
}

func (u *upstream) url() string { return "http://" + u.lis.Addr().String() }

func (u *upstream) close() error {
	if u == nil {
		return nil
	}
	err := u.http.Close()
	u.served.Wait()
	return err
}
