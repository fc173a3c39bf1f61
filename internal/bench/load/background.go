package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	backgroundTimeout = 10 * time.Second // after it a response that nobody has fetched is charged what is held
	backgroundCap     = 300              // tokens of its answer, which are held
	backgroundRequest = `{"model":"gpt-4o","input":"` + prompt + `","background":true,"max_output_tokens":300}`
)

// background begins a response in the background, asks for it while it goes on, and then has its
// end: fetched as a whole or as a stream, by one or by several at once, or after a cancellation. It costs
// what the upstream reports, whoever is told.
func (k *soak) background(ctx context.Context, rng *rand.Rand, user string) (least, most int64, err error) {
	begun := time.Now()
	held := k.response + backgroundCap
	id, err := k.begin(ctx, user)
	if err != nil {
		return 0, held, err
	}
	for range rng.IntN(3) {
		if err := k.fetch(ctx, http.MethodGet, id, "", response(id, "in_progress", 0, 0)); err != nil {
			return 0, held, err
		}
	}
	input, output := k.response+rng.Int64N(5), 1+rng.Int64N(2*backgroundCap)
	method, path, answer := http.MethodGet, id, ""
	switch rng.IntN(3) {
	case 0:
		answer = response(id, "completed", input, output)
	case 1:
		method, path, answer = http.MethodPost, id+"/cancel", response(id, "cancelled", input, output)
	case 2:
		path += "?stream=true"
		answer = `data: {"type":"response.incomplete","response":` + response(id, "incomplete", input, output) + "}\n\n"
	}
	askers := 1 + rng.IntN(2)
	told := make(chan error, askers)
	for range askers {
		go func() { told <- k.fetch(ctx, method, path, user, answer) }()
	}
	for range askers {
		err = errors.Join(err, <-told)
	}
	least, most = input+output, input+output
	if err != nil || time.Since(begun) >= backgroundTimeout {
		least, most = min(least, held), max(most, held)
	}
	return least, most, err
}

// notFetched begins a response in the background that nobody asks for.
func (k *soak) notFetched(ctx context.Context, _ *rand.Rand, user string) (least, most int64, err error) {
	_, err = k.begin(ctx, user)
	held := k.response + backgroundCap
	return held, held, err
}

// begin has a response begin, and returns its id.
func (k *soak) begin(ctx context.Context, user string) (id string, err error) {
	id = fmt.Sprint("resp_", k.responses.Add(1))
	x, err := k.way.ask(ctx, http.MethodPost, "/v1/responses", user, backgroundRequest, asJSON)
	if err != nil {
		return "", err
	}
	return id, x.whole(response(id, "queued", 0, 0))
}

// fetch asks about a response, and is answered.
func (k *soak) fetch(ctx context.Context, method, path, user, answer string) error {
	begin := asJSON
	if answer[0] != '{' {
		begin = nil
	}
	x, err := k.way.ask(ctx, method, "/v1/responses/"+path, user, "", begin)
	if err != nil {
		return err
	}
	return x.whole(answer)
}

func asJSON(w http.ResponseWriter) { w.Header().Set("content-type", "application/json") }

// whole has the upstream send an answer, which must come as it was sent.
func (x *proxiedStream) whole(answer string) error {
	defer x.leave()
	if err := x.send(answer); err != nil {
		return err
	}
	return x.ended(answer)
}

// response is what an upstream says of one. One that goes on has no usage yet.
func response(id, status string, input, output int64) string {
	usage := "null"
	if output > 0 {
		usage = fmt.Sprintf(`{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d}`, input, output, input+output)
	}
	return fmt.Sprintf(`{"id":%q,"object":"response","status":%q,"background":true,"model":"gpt-4o","output":[],"usage":%s}`, id, status, usage)
}
