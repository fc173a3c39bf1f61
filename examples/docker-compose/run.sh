#!/usr/bin/env bash
# What compose.yaml runs, without Docker: the same configurations, with the containers' paths
# and names replaced by some of this machine. It ends by itself.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../lib.sh"
find_tools
read -r admin upstream listen envoy_admin < <(free_ports 4)

sed -e "s|/run/tokenbudget/|$work/|; s|/var/lib/tokenbudget/data|$work/data|; s|127.0.0.1:9003|127.0.0.1:$admin|" \
  "$here/tokenbudget.yaml" >"$work/tokenbudget.yaml"
# The address of the stand-in's container is a name; here it is loopback.
python3 - "$here/envoy.yaml" "$work" "$listen" "$envoy_admin" "$upstream" >"$work/envoy.yaml" <<'PYTHON'
import re, sys
file, work, listen, admin, upstream = sys.argv[1:]
text = open(file).read()
for pattern, new in (
    (r"/run/tokenbudget/", work + "/"),
    (r"address: 0\.0\.0\.0(\s+)port_value: 10000", r"address: 127.0.0.1\g<1>port_value: " + listen),
    (r"port_value: 9901", "port_value: " + admin),
    (r"address: upstream(\s+)port_value: 8000", r"address: 127.0.0.1\g<1>port_value: " + upstream),
):
    text, n = re.subn(pattern, new, text)
    if n != 1:
        sys.exit("envoy.yaml has %s %d times, not once" % (pattern, n))
print(text, end="")
PYTHON
start_upstream "$upstream" --pause 0.01
start_server "$work/tokenbudget.yaml"
start_envoy "$work/envoy.yaml" "127.0.0.1:$envoy_admin"
clock day

for words in 50 50 50 1000; do
  answer=$(chat "http://127.0.0.1:$listen" "$words" 'x-user: ann')
done
say "the end of the fourth answer"
tail -n 5 <<<"$answer"
expect "the fourth answer" "$answer" '^: tokenbudget: cut, limit user-day$'

say "tokenbudget usage"
"$tokenbudget" usage -admin "127.0.0.1:$admin"

written() { grep '"outcome":"cut"' "$work/envoy.out"; }
await "the access log's line" written
say "Envoy's access log, by cuts.py"
python3 "$here/../access-log/cuts.py" <"$work/envoy.out"
cancelled() { grep cancelled "$work/upstream.out"; }
await "the stand-in's line" cancelled
say "and the model API says of the fourth"
cancelled
