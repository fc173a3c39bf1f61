"""Reads JSON request bodies with Python's json, as upstreams written in Python do.

Each line of standard input is a body in base64. Each line of standard output is what the
body says: null if it is no JSON, else an object with the members that are decided on, as
far as they have the kind that the API knows; what cannot be printed as JSON is printed as
text.
"""

import base64
import json
import sys

KEYS = ("model", "stream", "n", "best_of", "max_tokens", "max_completion_tokens")


def read(line):
    try:
        body = json.loads(base64.b64decode(line))
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return {"kind": type(body).__name__}
    out = {k: body[k] for k in KEYS if k in body}
    out["items"] = {k: len(body[k]) for k in ("messages", "prompt", "input") if isinstance(body.get(k), list)}
    options = body.get("stream_options")
    out["usage"] = isinstance(options, dict) and options.get("include_usage") is True
    return out


for line in sys.stdin:
    print(json.dumps(read(line)), flush=True)
