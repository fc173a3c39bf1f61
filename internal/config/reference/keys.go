package reference

import (
	"slices"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// A key describes one key of the file.
type key struct {
	// path names the key from the root: names with dots between them, [] for an element
	// of a list, and NAME for names that the file chooses.
	path string
	form form
	// def is what holds without the key: as the file would say it, or in words within
	// parentheses. required says that it must be there.
	def     string
	what    string // what it does: Markdown with links as seen from docs/, without a full stop at the end
	example string // as the file would say it; not needed where the form has some
}

// required is the default of keys that must be there.
const required = "(required)"

// keys are all keys of the file, in the order of the reference.
var keys = slices.Concat(
	[]key{
		{"listen", object(), "", "where the servers listen, and with which TLS", ""},
		{"listen.extproc", either(address, object()), "127.0.0.1:9002", "where Envoy's filter is served (gRPC)", ""},
		{"listen.extproc.address", address, "127.0.0.1:9002", "where to listen", ""},
		{"listen.extproc.tls", either(words("none"), like("listen.tls")), "(`listen.tls`)", "TLS of this address alone; `none`: cleartext", ""},
		{"listen.admin", either(adminAddress, object()), "127.0.0.1:9003", "where health, metrics and usage are served (HTTP); `none` switches it off", ""},
		{"listen.admin.address", adminAddress, "127.0.0.1:9003", "where to listen", ""},
		{"listen.admin.tls", either(words("none"), like("listen.tls")), "(`listen.tls`)", "TLS of this address alone; `none`: cleartext", ""},
		{"listen.tls", object(), "(none: cleartext)", "TLS for both addresses, see [`listen`](#listen)", ""},
		{"listen.tls.cert", path, required, "PEM file with the certificate and those that lead to its authority", "./tls.crt"},
		{"listen.tls.key", path, required, "PEM file with its private key", "./tls.key"},
		{"listen.tls.client_ca", path, "(nobody is asked)", "PEM file with the authorities that sign the certificates of clients", "./ca.crt"},
		{"insecure", boolean, "false", "allows to serve strangers on addresses that other machines can reach", ""},
		{"admin_token", token, "(none)", "what writing over the admin address needs, and reading where other machines can reach it, if there is no client certificate, see [`listen`](#listen)", ""},
		{"identity", named(identityName, 17), "(none)", "who asks", ""},
		{"identity.NAME", list(8, object()), "", "where the value of an identity comes from, see [`identity`](#identityname); up to 16 identities", ""},
		{"api_keys", object(), "(none)", "whose API keys are whose, see [`api_keys`](#api_keys)", ""},
		{"api_keys.secret", keySecret, required, "the hashes are HMAC-SHA256 under it; keep it out of the file", ""},
		{"api_keys.header", listOrOne(8, keyHeader), "[authorization, x-api-key, api-key]", "headers that hold a key; `authorization` with the scheme Bearer", ""},
		{"api_keys.subjects", list(10_000, named(identityName, 17)), "(none)", "who has which key", ""},
		{"api_keys.subjects[].hash", keyHash, required, "of the key, as `tokenbudget hash-key` prints it", ""},
		{"api_keys.subjects[].NAME", keyValue, "", "a value of whoever has this key, for identities that read `{api_key: NAME}`", "search"},
		{"identity.missing", words("shared", "refuse"), "shared", "requests without an identity share the subject `(none)`; or get a 401, if a budget is counted per that identity or matches it", ""},
		{"store", object(), "", "where balances are kept", ""},
		{"store.file", object(), "", "the store on this machine's disk", ""},
		{"store.file.dir", path, "./data", "folder of the balances; made with mode 0700; a relative one counts from the working directory", ""},
		{"store.file.fsync", words("wait", "group", "os"), "group", "when what is written is flushed to the disk: before it counts, within about 10 ms, or when the system likes to. It matters at a power failure only; see [accounting.md](accounting.md#crashes-and-restarts)", ""},
		{"store.file.sync", duration(10*time.Millisecond, time.Minute), "1s", "how often counters that nobody uses leave memory", ""},
		{"budgets", list(1000, object()), required, "how much may be used, see [`budgets[]`](#budgets)", ""},
		{"models", list(256, object()), "(none)", "how the tokens of models are counted, see [`models[]`](#models)", ""},
		{"max_request_body", size(1<<10, 1<<30), "16MiB", "a longer request is answered with 413", ""},
		{"paths", object(), "", "paths that are not metered", ""},
		{"paths.pass", list(256, passGlob), "(none)", "forwarded without being metered", "[/health]"},
		{"paths.deny", list(256, pathGlob), "(none)", "refused with 403; stronger than `pass`", "[/v1/files*]"},
		{"unknown_api", words("refuse", "pass"), "refuse", "requests of an API that cannot be metered: 403, or forwarded unmetered; see [`unknown_api`](#unknown_api)", ""},
		{"output_cap", words("unary", "always", "never"), "unary", "whose output cap is lowered to what is left, see [`output_cap`](#output_cap)", ""},
		{"degraded", words("meter", "refuse"), "meter", "exchanges in other modes of Envoy's filter than the recommended ones: the best is done that these allow, or a 500; see [envoy.md](envoy.md#other-modes)", ""},
		{"degraded_cut", words("close", "reset"), "close", "how a stream is cut in a mode in which it cannot be ended: its rest is taken out and charged, or it is broken off, which cancels the upstream; see [envoy.md](envoy.md#other-modes)", ""},
		{"responses_cut", words("incomplete", "completed"), "incomplete", "the event that ends a cut answer of the Responses API: `response.incomplete`, as the API does it, or `response.completed` with the status incomplete; see [apis.md](apis.md#a-cut-of-the-responses-api)", ""},
		{"include_usage", words("auto", "always", "never"), "auto", "whether upstreams are asked for the usage of streams, see [`include_usage`](#include_usage)", ""},
		{"closing_comment", boolean, "true", "a cut stream names the limit in an SSE comment before its closing events", ""},
		{"timeouts", object(), "", "how long things may last", ""},
		{"timeouts.exchange", duration(time.Second, 24*time.Hour), "30m", "the longest that one exchange may last; then a stream is cut", ""},
		{"timeouts.idle", duration(time.Second, 24*time.Hour), "5m", "the longest silence of a stream that has begun; then it is cut. Also how long a request's body may take to come. Not longer than `exchange`", ""},
		{"timeouts.drain", duration(0, 10*time.Minute), "25s", "how long open streams may go on at shutdown; then they are cut", ""},
		{"timeouts.drain_delay", duration(0, 10*time.Minute), "5s", "for how much of `drain` new exchanges are still taken, while health checks already fail: until load balancers have noticed. Nobody waits for it if no connection is open. Not longer than `drain`", ""},
		{"timeouts.background", duration(0, 24*time.Hour), "1h", "how long a response may go on in the background (`background: true`) until it is charged what is held for it, if nobody has fetched its end by then, see [apis.md](apis.md#background-responses). 0s: at once", ""},
		{"timeouts.connection_age", duration(0, 24*time.Hour), "5m", "after what time, give or take a tenth, a connection of Envoy's is told to be replaced, so that servers that are added get their share; what is open on it goes on to its end. 0s: never", ""},
		{"overload", object(), "", "when new requests are turned away, see [`overload`](#overload)", ""},
		{"overload.max_exchanges", count(1_000_000), "(one for each 128 KiB of memory, at most 100k)", "exchanges that may be open; beyond, new ones get a 503", ""},
		{"overload.max_buffered", size(1<<20, 512<<30), "(a quarter of the memory)", "bytes of bodies that are kept, of all exchanges together; from three quarters on, new ones get a 503", ""},
		{"overload.max_delay", duration(10*time.Millisecond, 10*time.Second), "1s", "how long a prompt may wait until it is counted; then it gets a 503", ""},
	},
	[]key{
		{"budgets[].name", name, required, "names the limit in answers, logs, metrics and the store", "team-day"},
		{"budgets[].limit", either(amount, object()), required, "how much a window allows: in all, or for prompt and answer each", ""},
		{"budgets[].limit.input", tokenAmount, "(no limit)", "how much of prompts", ""},
		{"budgets[].limit.output", tokenAmount, "(no limit)", "how much of answers", ""},
		{"budgets[].period", words("minute", "hour", "day", "week", "month", "quarter", "year", "total").or("a rolling one such as `5m`", "a period such as day or month, or a rolling one such as 90s, 1h30m, 24h or 30d", `^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$`, "5m", "1h30m", "30d"), "(required; `streams` and `per: request` have none)", "how long a window lasts", ""},
		{"budgets[].per", listOrOne(16, perName), "(all together)", "an identity, `model` or `path`: one counter for each value, or each combination of values; or [`request`](#per-request): each request by itself", "[team, user]"},
		{"budgets[].match", named(pattern, 0), "(every request)", "which requests the budget concerns, see [`match`](#match)", ""},
		{"budgets[].match.model", listOrOne(256, pattern), "(any)", "names of models, in any letter case", `["gpt-4*", o1]`},
		{"budgets[].match.path", listOrOne(256, matchGlob), "(any)", "paths, without the query", "/v1/*"},
		{"budgets[].match.header", named(headerName, 0), "(any)", "the value of a header; one that comes with different values is answered with 400", ""},
		{"budgets[].match.header.NAME", listOrOne(256, pattern), "", "values of this header", "[prod, staging]"},
		{"budgets[].match.NAME", listOrOne(256, pattern), "", "values of this identity; `(none)` are requests without it", "search"},
		{"budgets[].overrides", either(named(subject, 10_000), list(10_000, named(pattern, 0))), "(none)", "another limit for some values of `per`, see [`overrides`](#overrides)", ""},
		{"budgets[].overrides.NAME", like("budgets[].limit"), "", "the limit of this value", "5M tokens"},
		{"budgets[].overrides[].limit", like("budgets[].limit"), required, "the limit of these values", "5M tokens"},
		{"budgets[].overrides[].NAME", subject, "", "the value of a name in `per`", "search"},
		{"budgets[].max_subjects", count(1_000_000), "(`100k`)", "counters of one window; new values beyond share the counter `(overflow)`, and one parent has half of them at most", "5k"},
		{"budgets[].on_input", words("refuse", "truncate"), "refuse", "what becomes of a prompt above a limit [`per: request`](#per-request): 400, or it loses its oldest turns", ""},
		{"budgets[].parent", name, "(none)", "the amounts of this budget are shares of that one, see [`parent`](#parent)", "all"},
		{"budgets[].action", words("cut", "refuse", "throttle", "shadow"), "cut", "what becomes of requests that do not fit, and of streams that pass the limit: refused, and cut; refused, and finished into debt; delayed, then as with `refuse`; nothing, it is only told", ""},
		{"budgets[].admission", words("predict", "full", "none"), "predict", "how much of an answer is held at first: what is likely, all that it may have, or nothing", ""},
		{"budgets[].max_delay", duration(100*time.Millisecond, time.Minute), "10s", "with `action: throttle`: how long a request may wait for its turn", ""},
		{"budgets[].timezone", zone, "UTC", "where calendar windows begin", "Europe/Berlin"},
	},
	[]key{
		{"models[].match", listOrOne(64, modelGlob), required, "names of models, in any letter case; `*` stands for any characters", `"llama-3*"`},
		{"models[].as", model, "", "model of OpenAI: they are counted as that one is", ""},
		{"models[].encoding", words(tokens.Names()...), "", "they are counted with that encoding", ""},
		{"models[].tokenizer", path, "", "they are counted with that tokenizer.json; a relative path counts from the working directory", "./llama3.json"},
	},
	[]key{
		{"identity.NAME[].jwt", claim, "", "a text claim of a token which Envoy's jwt_authn filter has verified; dots reach into nested objects. Claims that are not text count as missing", "sub"},
		{"identity.NAME[].header", headerName, "", "a request header; one that comes with different values is answered with 400", "x-team"},
		{"identity.NAME[].api_key", name, "", "a value of the API key that the request shows, see [`api_keys`](#api_keys); none if nobody here has that key", "team"},
		{"identity.NAME[].set_by", words("envoy"), "(trusts what reaches the filter)", "with `header`: the rendered Envoy configuration removes the client's copy before any filter runs", ""},
	},
)

// rules are what mappings ask for besides the keys that are required.
var rules = map[string]schema{
	"models[]":        {"oneOf": []schema{needs("as"), needs("encoding"), needs("tokenizer")}},
	"identity.NAME[]": {"oneOf": []schema{needs("jwt"), needs("header"), needs("api_key")}, "dependencies": schema{"set_by": []string{"header"}}},
	// A period is needed unless the budget counts streams, or is per request.
	"budgets[]": {
		"if": schema{
			"required": []string{"limit"},
			"properties": schema{
				"limit": schema{"anyOf": []schema{{"type": "object"}, {"type": "string", "pattern": `(tokens?|requests?)[^!-~]*$`}}},
				"per":   schema{"not": schema{"anyOf": []schema{perRequest, {"type": "array", "contains": perRequest}}}},
			},
		},
		"then": needs("period"),
	},
	"budgets[].limit": {"minProperties": 1},
	"budgets[].match": {"minProperties": 1},
}

// perRequest is what may be request in the end.
var perRequest = schema{"type": "string", "pattern": `^request$|` + variable}

func needs(key string) schema { return schema{"required": []string{key}} }
