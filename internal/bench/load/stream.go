package load

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tokenbudget/tokenbudget/internal/count"
	"github.com/tokenbudget/tokenbudget/internal/dialect"
)

// A stream is a chat that is under way.
type stream interface {
	// say sends the next event, and waits until it has come through. cut is true if the
	// server has ended the stream instead; the event has reached it all the same.
	say() (cut bool, err error)
	// finish has the upstream end the answer, and waits for that.
	finish() error
	// reached is how many events have reached the server, at least and at most. They differ
	// only if something broke off while one was on its way.
	reached() (least, most int64)
	// leave is what happens when the client goes away, or after a cut.
	leave()
}

// errRefused is the error of a request that is answered with another status than 200.
type errRefused struct {
	status int
	body   string
}

func (e errRefused) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// A road leads to the server.
type road interface {
	// open has a request admitted and its answer begun.
	open(ctx context.Context, user string) (stream, error)
	close() error
}

const prompt = "Good morning, and how are you?"

func requestBody(streamed bool) string {
	return `{"model":"gpt-4o","messages":[{"role":"user","content":` + strconv.Quote(prompt) + `}],"stream":` + strconv.FormatBool(streamed) + `}`
}

// event is a piece of an answer, of one token.
const event = `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"gpt-4o","choices":[{"index":0,"delta":{"content":" a"},"finish_reason":null}]}` + "\n\n"

const done = "data: [DONE]\n\n"

// promptTokens is what the prompt of a request costs.
func promptTokens(api dialect.API, body string) (int64, error) {
	req, err := api.ParseRequest([]byte(body))
	if err != nil {
		return 0, err
	}
	c := count.New(count.Options{})
	return c.Prompt(c.Model("gpt-4o"), req), nil
}
