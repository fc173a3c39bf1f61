#!/usr/bin/env bash
# Makes one exchange of each kind, and shows Envoy's access log of it. It ends by itself.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../lib.sh"
find_tools
read -r extproc admin upstream listen envoy_admin < <(free_ports 5)

{
  printf 'listen: {extproc: "127.0.0.1:%s", admin: "127.0.0.1:%s"}\n' "$extproc" "$admin"
  cat "$here/config.yaml"
} >"$work/config.yaml"
"$tokenbudget" envoy bootstrap -config "$work/config.yaml" -upstream "http://127.0.0.1:$upstream" \
  -listen "127.0.0.1:$listen" -envoy-admin "127.0.0.1:$envoy_admin" >"$work/envoy.yaml"
start_upstream "$upstream" --pause 0.01
start_server "$work/config.yaml"
start_envoy "$work/envoy.yaml" "127.0.0.1:$envoy_admin"
url=http://127.0.0.1:$listen
clock day

# The access log's line of an outcome, once Envoy has written it.
line() { grep -m 1 "$1" "$work/envoy.out"; }
show() {
  say "$1"
  await "the access log's line" line "$2"
  line "$2"
}

expect "ann's answer" "$(chat "$url" 30 'x-user: ann')" '"finish_reason":"stop"'
show "completed: the answer was whole" '"outcome":"completed"'
expect "bob's answer" "$(chat "$url" 5000 'x-user: bob')" 'tokenbudget: cut, limit user-day'
show "cut: to Envoy a 200 like any other; only outcome and limit tell" '"outcome":"cut"'
# Some tokens are left, but not enough for a prompt that repeats itself.
prompt=$(printf 'Tell me of the tide. %.0s' {1..40})
expect "bob's next" "$(chat "$url" 30 'x-user: bob')" budget_exceeded
show "denied: nothing was sent to the model API" '"outcome":"denied"'
prompt="Tell me of the tide."
# The client leaves after 2,000 bytes.
chat "$url" 5000 'x-user: carol' 2>/dev/null | head -c 2000 >/dev/null || true
show "aborted: the client left, so the server could not tell Envoy the outcome; flags has DC" '"flags":"DC"'

aborted() { grep '"msg":"exchange"' "$work/tokenbudget.log" | grep '"user":"carol".*"outcome":"aborted"'; }
await "the server's line of the aborted exchange" aborted
say "the same exchange in the server's log, under the same request_id"
aborted

say "python3 cuts.py < access.log"
python3 "$here/cuts.py" <"$work/envoy.out" | tee "$work/cuts.txt"
expect "the table" "$(cat "$work/cuts.txt")" '^bob: cut 1 times by user-day'
