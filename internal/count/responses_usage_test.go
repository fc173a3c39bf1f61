package count_test

import "testing"

// TestResponsesUsage: prompts of the Responses API whose count by OpenAI is known from the
// cassettes of pydantic-ai's tests (MIT). Those without tools are exact, and so are more
// than twenty others of them.
func TestResponsesUsage(t *testing.T) {
	const (
		capital = `"tools":[{"description":null,"name":"get_capital","parameters":{"additionalProperties":false,"properties":{"country":{"type":"string"}},"required":["country"],"type":"object"},"strict":true,"type":"function"}]`
		country = `{"description":"","name":"get_user_country","parameters":{"additionalProperties":false,"properties":{},"type":"object"},"strict":false,"type":"function"}`
		final   = `{"description":"The final response which ends this conversation","name":"final_result","parameters":{"properties":{"city":{"type":"string"},"country":{"type":"string"}},"required":["city","country"],"type":"object"},"strict":false,"type":"function"}`
		potato  = `{"content":"What is the capital of PotatoLand?","role":"user"}`
		largest = `{"content":"What is the largest city in the user country?","role":"user"}`
		noTable = "what is behind tools is not published"
	)
	for _, k := range []known{
		{name: "a question", reported: 14, body: `{"model":"gpt-4o","input":[{"content":"What is the capital of France?","role":"user"}]}`},
		{name: "instructions", reported: 24, body: `{"model":"gpt-4o","instructions":"You are a helpful assistant.","input":[{"content":"What is the capital of France?","role":"user"}]}`},
		{name: "three messages", reported: 51, body: `{"model":"gpt-4o-mini","instructions":"You are a helpful math assistant. Give short answers.","input":[{"content":"What is 2+2?","role":"user"},{"content":"2 + 2 = 4.","role":"assistant"},{"content":"And 3+3?","role":"user"}]}`},
		{name: "a text", reported: 13, body: `{"model":"o3-mini","input":"How do I cross the street?"}`},
		{name: "a text, gpt-5", reported: 9, body: `{"model":"gpt-5","input":"what is rust"}`},
		{name: "a tool", reported: 40, off: 2, why: noTable, body: `{"model":"gpt-4o","input":[` + potato + `],` + capital + `}`},
		{name: "a call and its answer", reported: 67, off: 1, why: noTable, body: `{"model":"gpt-4o","input":[` + potato + `,{"arguments":"{\"country\":\"PotatoLand\"}","call_id":"call_1","name":"get_capital","status":null,"type":"function_call"},{"call_id":"call_1","output":"Potato City","type":"function_call_output"}],` + capital + `}`},
		{name: "two tools", reported: 62, body: `{"model":"gpt-4o","input":[` + largest + `],"tools":[` + country + `,` + final + `]}`},
		{name: "a tool and instructions, gpt-5.5", reported: 63, off: 2, why: noTable, body: `{"model":"gpt-5.5","instructions":"Briefly narrate what you are about to do before calling each tool.","input":[` + potato + `],` + capital + `}`},
		{name: "a tool, gpt-5", reported: 53, off: -1, why: noTable, body: `{"model":"gpt-5","input":[{"content":"Calculate 100 * 200 / 3","role":"user"}],"tool_choice":"required","tools":[{"description":"The final response which ends this conversation","name":"final_result","parameters":{"additionalProperties":false,"properties":{"result":{"type":"integer"}},"required":["result"],"type":"object"},"strict":true,"type":"function"}]}`},
		{name: "a format and a tool", reported: 66, off: 11, why: "a format costs less than in JSON", body: `{"model":"gpt-4o","input":[` + largest + `],"text":{"format":{"name":"CityLocation","schema":{"additionalProperties":false,"properties":{"city":{"type":"string"},"country":{"type":"string"}},"required":["city","country"],"type":"object"},"strict":true,"type":"json_schema"}},"tools":[` + country + `]}`},
	} {
		_, n := prompt(t, "/v1/responses", []byte(k.body))
		row(t, k, n)
	}
}
