// Package hostile reads the corpus of hostile input: requests, answers and sequences of messages
// that nobody well-meaning sends, each with what it gets. The files are
// extproc/exchange/testdata/hostile, in the form of cockroachdb/datadriven; docs/hostile.md is made
// of them. The state machine takes every row (extproc/exchange, TestHostile), and a real Envoy those that it
// lets through (internal/e2e, TestHostile).
//
// A row is a command with the row's title, lines that say what comes, and below the
// dashes what it gets, which go test -rewrite fills in:
//
//	request the same key twice
//	body {"model":"a","messages":[],"model":"b"}
//	----
//	refused with 400: the request body has the same key twice in one object (near byte 35)
//
// The commands are request, for what a client sends; answer, for what an upstream answers to a
// request that is in order; messages, for what reaches the server of both; and see, for what
// other tests show. The lines are
//
//	api PATH            the API's path, where it is not that of chat completions
//	method NAME         of the request
//	header NAME: VALUE  one more header, of the request, or of the answer
//	body TEXT           of the request
//	unary               the request asks for no stream
//	status N            of the answer; 200 if it is not said
//	type TEXT           content type of the answer; that of a stream if it is not said
//	say TEXT            a piece of a stream with that text
//	data TEXT           an event with that data
//	raw TEXT            the bytes of a piece
//	bodyless            the answer ends with its headers
//	end, trailers       the answer ends after its body, or with trailers
//	reset               the stream to the upstream, or from the client, breaks off
//	stop NAME           a deadline or a drain
//	policy ARGUMENTS    as in conversations; the row is then for the state machine alone
//	envoy TEXT          why a real Envoy does not get the row
//
// and, of messages, the names of ext_proc's own: request-headers, request-body,
// request-trailers, response-headers, response-body, response-trailers, empty; an argument eos
// ends the stream.
//
// In a TEXT, ${"…"} is a string of Go, for bytes which a text file cannot hold, and ${N*"…"} is
// N of them.
package hostile
