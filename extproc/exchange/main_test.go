package exchange

import (
	"fmt"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"
)

// shared are the messages that all exchanges send, as they would be sent.
func shared() (all string) {
	for _, m := range []proto.Message{continueRequestHeaders, continueUncompressed, continueSameBody, unchangedBody, clearedBody, clearedRequestBody} {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			panic(err)
		}
		all += fmt.Sprintf("%q\n", data)
	}
	return all
}

// After all tests, conversations of every kind among them, the messages that exchanges
// share are as they were: what one changed, another would send.
func TestMain(m *testing.M) {
	before := shared()
	code := m.Run()
	if after := shared(); after != before {
		fmt.Fprintf(os.Stderr, "messages that exchanges share were changed, from\n%sto\n%s", before, after)
		code = 1
	}
	os.Exit(code)
}
