#!/usr/bin/env bash
# The README's five minutes, with the stand-in for a model API in place of OpenAI and on free
# ports: config.yaml as it is, the budget of a minute runs out, and what was spent. It ends by itself.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../lib.sh"
find_tools
read -r extproc admin upstream listen envoy_admin < <(free_ports 5)

{
  printf 'listen: {extproc: "127.0.0.1:%s", admin: "127.0.0.1:%s"}\n' "$extproc" "$admin"
  cat "$here/config.yaml"
} >"$work/config.yaml"
say "tokenbudget validate -config config.yaml"
"$tokenbudget" validate -config "$work/config.yaml" | grep -A 9 ^BUDGET
"$tokenbudget" envoy bootstrap -config "$work/config.yaml" -upstream "http://127.0.0.1:$upstream" \
  -listen "127.0.0.1:$listen" -envoy-admin "127.0.0.1:$envoy_admin" >"$work/envoy.yaml"
start_upstream "$upstream" --pause 0
start_server "$work/config.yaml"
start_envoy "$work/envoy.yaml" "127.0.0.1:$envoy_admin"
url=http://127.0.0.1:$listen
clock minute

say "an answer that fits"
answer=$(chat "$url" 30)
tail -n 5 <<<"$answer"
expect "the answer" "$answer" '"finish_reason":"stop"'

say "one that is longer than the 20k tokens a minute: its end"
answer=$(chat "$url" 30000)
tail -n 5 <<<"$answer"
expect "the answer" "$answer" '^: tokenbudget: cut, limit user-minute$'

say "the next one, with a long prompt"
prompt=$(printf 'Tell me of the tide. %.0s' {1..200})
answer=$(chat "$url" 30)
printf '%s\n' "$answer"
expect "the refusal" "$answer" '"code":"budget_exceeded"'

say "tokenbudget usage"
"$tokenbudget" usage -admin "127.0.0.1:$admin"

say "tokenbudget doctor"
"$tokenbudget" doctor -envoy "127.0.0.1:$envoy_admin" -admin "127.0.0.1:$admin" -config "$work/config.yaml"
