package dialect

import "testing"

func TestRejectsStreamOptions(t *testing.T) {
	for body, want := range map[string]bool{
		`{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}`:                                  true,
		`{"error":{"message":"Unknown parameter","param":"stream_options"}}`:                                                                                                      true,
		`{"error":{"message":"Unknown parameter","param":"stream_options.include_usage"}}`:                                                                                        true,
		`{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}`:                                                          true,
		`{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'input': {'include_usage': True}}]","type":"BadRequestError","param":null}`: true,
		`include_usage is not supported`:                                                                         true,
		`{"error":{"message":"stream_options: Extra inputs are not permitted"}}`:                                 true,
		`{"error":{"message":"unsupported: {\"stream_options\": {\"include_usage\": true}} in stream_options"}}`: true,
		"{\"message\":\"1 validation error for R\\nstream_options\\n  Extra inputs are not permitted [type=extra_forbidden, input_value={'include_usage': True}, input_type=dict]\"}": true,
		// Other complaints, with the request in them, as pydantic writes them and vLLM passes them on.
		`{"detail":[{"type":"value_error","loc":["body"],"msg":"Value error, no logprobs of prompts","input":{"stream":true,"stream_options":{"include_usage":true}}}]}`:                     false,
		`{"object":"error","message":"[{'type': 'value_error', 'loc': ('body',), 'msg': 'no', 'input': {'stream': True, 'stream_options': {'include_usage': True}}}]","type":"Bad Request"}`: false,
		`{"message":"1 validation error for R\n  Value error, no [type=value_error, input_value={'model': 'm', 'stream': ...{'include_usage': True}}, input_type=dict]"}`:                    false,
		`{"error":{"message":"cannot take {\"stream\":true,\"stream_options\" : {\"include_usage\":true}}"}}`:                                                                                false,
		`{"error":{"message":"invalid request: ChatCompletionRequest(stream=True, stream_options=StreamOptions(include_usage=True))"}}`:                                                      false,
		`{"error":{"message":"known are model, messages, stream_options","param":"foo"}}`:                                                                                                    false,
		`{"error":{"message":"max_tokens is too large","param":"max_tokens"}}`:                                                                                                               false,
		`{"error":null}`:                      false,
		``:                                    false,
		`{"error":{"message":"stream_options`: true, // its beginning
	} {
		if got := RejectsStreamOptions([]byte(body)); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
}

// A complaint teaches nothing if it can be about what the client wrote.
func TestOnlyAskedHere(t *testing.T) {
	for body, want := range map[string]bool{
		`{"messages":[],"stream":true}`:                                                   true,
		`{"messages":[],"stream":true,"x":"caf\u00e9 \u003c b\n"}`:                        true,
		`{"messages":[],"stream":true,"stream_options":null}`:                             false,
		`{"messages":[],"stream":true,"stream_options":{}}`:                               false,
		`{"messages":[],"stream":true,"stream_options":{"include_usage":false}}`:          false,
		`{"messages":[],"stream":true,"my_stream_options":1}`:                             false,
		`{"messages":[{"role":"user","content":"what is include_usage?"}],"stream":true}`: false,
		`{"messages":[],"stream":true,"x":"stream\u005foptions"}`:                         false,
		`{"messages":[],"stream":true,"x":"\u0073"}`:                                      false,
		`{"messages":[],"stream":true,"x":"\u00"`:                                         false,
		`{"messages":[]}`: false,
	} {
		r, err := OpenAIChat{}.ParseRequest([]byte(body))
		if err != nil {
			continue
		}
		if r.OnlyAskedHere() != want {
			t.Errorf("%s: %v", body, !want)
		}
		asked := r.AsksForUsage()
		if asked != r.Stream {
			t.Errorf("%s: asks %v", body, asked)
		}
		r.LeaveUsage()
		if out, changed := r.Body(0); changed || string(out) != body {
			t.Errorf("%s became %s", body, out)
		}
	}
}
