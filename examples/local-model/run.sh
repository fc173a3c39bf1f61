#!/usr/bin/env bash
# llama.cpp's server with a model out of thin air, metered by its own tokenizer: the counts agree
# to the token, and a cut stops the model. It ends by itself, and downloads some 50 MB of
# Python packages the first time.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../lib.sh"
find_tools
python=$(cd "$root" && go run ./internal/envoyrun/where python local-model "$here/requirements.txt")
read -r extproc admin model listen envoy_admin < <(free_ports 5)

cd "$work" # tokenizer.json is looked for in the working folder
"$python" "$here/make_model.py" "$work"
start model "$python" "$here/serve_model.py" "$work/model.gguf" "$model"
await "the model's server" curl -fs "http://127.0.0.1:$model/health"

{
  printf 'listen: {extproc: "127.0.0.1:%s", admin: "127.0.0.1:%s"}\n' "$extproc" "$admin"
  cat "$here/config.yaml"
} >"$work/config.yaml"
"$tokenbudget" envoy bootstrap -config "$work/config.yaml" -upstream "http://127.0.0.1:$model" \
  -listen "127.0.0.1:$listen" -envoy-admin "127.0.0.1:$envoy_admin" >"$work/envoy.yaml"
start_server "$work/config.yaml"
start_envoy "$work/envoy.yaml" "127.0.0.1:$envoy_admin"
url=http://127.0.0.1:$listen
clock day

say "500 tokens, by the model's own count and by tokenbudget's"
curl -sS --max-time 120 "$url/v1/chat/completions" -H 'content-type: application/json' -H 'x-user: ann' \
  -d '{"model":"thin-air","max_tokens":500,"messages":[{"role":"user","content":"Tell me of the tide."}]}' >"$work/answer.json"
python3 - "$work" <<'PYTHON'
import json, sys
answer = json.load(open(sys.argv[1] + "/answer.json"))
print("llama.cpp:   %d" % answer["usage"]["completion_tokens"])
open(sys.argv[1] + "/answer.txt", "w").write(answer["choices"][0]["message"]["content"])
PYTHON
counted=$("$tokenbudget" count -config "$work/config.yaml" -model thin-air "$work/answer.txt")
echo "tokenbudget: $counted"
[ "$counted" = 500 ] || fail "$counted tokens were counted, not 500"

say "a stream of 10,000 tokens: its end"
answer=$(chat "$url" 10000 'x-user: ann')
tail -n 5 <<<"$answer"
expect "the answer" "$answer" '^: tokenbudget: cut, limit user-day$'

say "llama.cpp's log: the cut stopped the model"
stopped() { grep -ho 'stop: cancel task' "$work/model.log" "$work/model.out"; }
await "llama.cpp's line" stopped
stopped

say "tokenbudget's log"
line() { grep '"outcome":"cut"' "$work/tokenbudget.log"; }
await "the log's line" line
line
expect "the log" "$(line)" '"output_source":"counted"'

say "tokenbudget usage"
"$tokenbudget" usage -admin "127.0.0.1:$admin" | grep -v ^slots
