# What the run.sh of the examples have in common. It is sourced, not run.
#
# Everything that start has started ends with the script, however that ends, and so does the
# folder $work. $root is the repository, $tokenbudget the server's binary and $envoy Envoy's.
# $TOKENBUDGET_BIN and $ENVOY_BIN, if they are set, are taken instead of what would be built
# or found.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/tokenbudget-example-XXXXXX")
pids=()
last= # the process that was started last

finish() {
  local status=$? pid log
  trap - EXIT INT TERM
  for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
  for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" 2>/dev/null || true; done
  if [ "$status" -ne 0 ]; then
    for log in "$work"/*.log; do
      [ -s "$log" ] && printf '\n--- the end of %s\n' "${log##*/}" && tail -n 15 "$log"
    done >&2
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n── %s\n' "$*"; }

fail() {
  printf 'run.sh: %s\n' "$*" >&2
  exit 1
}

# find_tools sets $tokenbudget and $envoy.
find_tools() {
  local tool
  for tool in go python3 curl; do
    command -v "$tool" >/dev/null || fail "$tool is missing; install it"
  done
  tokenbudget=${TOKENBUDGET_BIN:-$work/tokenbudget}
  [ -n "${TOKENBUDGET_BIN:-}" ] || (cd "$root" && go build -o "$tokenbudget" ./cmd/tokenbudget)
  envoy=$(cd "$root" && go run ./internal/envoyrun/where envoy)
}

# free_ports N prints N ports of loopback on which nobody listens, below those that the system
# gives to connections: one of them could have the port before a server does.
free_ports() {
  python3 -c '
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    try:
        held.append(socket.create_server(("127.0.0.1", random.randrange(15000, 32000))))
    except OSError:
        pass
print(*(s.getsockname()[1] for s in held))' "$1"
}

# start NAME COMMAND… runs a command in the background, in $work. What it says goes to
# NAME.log there, its standard output to NAME.out.
start() {
  local name=$1
  shift
  (cd "$work" && exec "$@") >"$work/$name.out" 2>"$work/$name.log" &
  last=$!
  pids+=("$last")
}

# await WHAT COMMAND… runs a command until it succeeds, for a minute at most. It gives up
# as soon as the process that was started last has ended.
await() {
  local what=$1 i
  shift
  for ((i = 0; i < 600; i++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    kill -0 "$last" 2>/dev/null || fail "$what has ended by itself"
    sleep 0.1
  done
  fail "$what is not there after a minute"
}

# start_upstream PORT [FLAGS…] starts the stand-in.
start_upstream() {
  start upstream python3 "$root/examples/upstream.py" --listen "127.0.0.1:$1" "${@:2}"
  await "the stand-in" curl -fs "http://127.0.0.1:$1/health"
}

# start_server CONFIG starts tokenbudget. The configuration's folder is that of its data.
start_server() {
  start tokenbudget "$tokenbudget" serve -config "$1"
  await "tokenbudget serve" "$tokenbudget" healthcheck -config "$1"
}

# start_envoy BOOTSTRAP ADMIN starts Envoy. Its access log is envoy.out, and complete after
# a tenth of a second.
start_envoy() {
  start envoy "$envoy" -c "$1" --log-level warning --concurrency 2 --disable-hot-restart --file-flush-interval-msec 100
  await Envoy curl -fs "http://$2/ready"
}

# clock minute|day waits until the period has enough left for what follows.
clock() {
  local second
  second=$((10#$(date -u +%S)))
  if [ "$1" = minute ] && [ "$second" -gt 20 ] || [ "$(date -u +%H%M)" = 2359 ]; then
    echo "(waiting $((60 - second)) s for the next minute)" >&2
    sleep $((60 - second))
  fi
}

# What chat asks.
prompt="Tell me of the tide."

# chat URL MAX_TOKENS [HEADER…] asks for a streamed answer of so many words.
chat() {
  local url=$1 words=$2 header args=()
  shift 2
  for header in "$@"; do args+=(-H "$header"); done
  curl -sSN --max-time 120 "$url/v1/chat/completions" -H 'content-type: application/json' ${args[@]+"${args[@]}"} \
    -d '{"model":"gpt-4o-mini","stream":true,"max_tokens":'"$words"',"messages":[{"role":"user","content":"'"$prompt"'"}]}'
}

# expect WHAT TEXT PATTERN fails if the text does not contain the pattern, an extended
# regular expression.
expect() {
  grep -Eq -- "$3" <<<"$2" || fail "$1: there is no $3 in: $(tail -c 600 <<<"$2")"
}
