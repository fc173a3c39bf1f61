"""Runs requests of the Responses API with the official openai SDK.

Reads a JSON list of cases from standard input: {"name", "base_url", "headers", "mode",
"prompt"}; the mode is unary, create (a stream, event by event) or helper (the SDK's own
accumulator). Prints what the SDK made of the answers.
"""

import json
import sys

import openai


def is_tool(item):
    return item.type not in ("message", "reasoning")


def watch(out, events):
    for e in events:
        if e.type in ("response.output_text.delta", "response.refusal.delta"):
            out["text"] += e.delta
        elif e.type == "response.output_item.done" and is_tool(e.item):
            out["done_tools"].append(e.item.type)
        elif e.type in ("response.completed", "response.incomplete", "response.failed"):
            final(out, e.response)
            out["last"] = e.type


def final(out, response):
    out["status"] = response.status
    out["reason"] = response.incomplete_details.reason if response.incomplete_details else None
    out["usage"] = response.usage.output_tokens if response.usage else None
    for item in response.output:
        if item.type == "message":
            for part in item.content:
                out["final_text"] += part.text if part.type == "output_text" else part.refusal
        elif is_tool(item):
            out["final_tools"].append(item.type)


tries = []
http = openai.DefaultHttpxClient()  # one for all cases: to make one takes a tenth of a second
send = http.send
# Every attempt of the SDK goes through here, retries included.
http.send = lambda *a, **k: (tries.append(1), send(*a, **k))[1]


def run(case):
    tries.clear()
    client = openai.OpenAI(base_url=case["base_url"], api_key="sk-test", default_headers=case["headers"], http_client=http)
    out = {
        "name": case["name"], "text": "", "final_text": "", "status": None, "reason": None, "usage": None, "last": None,
        "done_tools": [], "final_tools": [], "error": None, "helper_error": None,
    }  # fmt: skip
    ask = {"model": "gpt-4o", "input": case["prompt"]}
    try:
        if case["mode"] == "unary":
            final(out, client.responses.create(**ask))
        elif case["mode"] == "create":
            watch(out, client.responses.create(**ask, stream=True))
        else:
            with client.responses.stream(**ask) as stream:
                watch(out, stream)
                try:
                    stream.get_final_response()
                except Exception as e:
                    out["helper_error"] = type(e).__name__ + ": " + str(e)
    except openai.APIStatusError as e:
        out["error"] = {"type": type(e).__name__, "status": e.status_code, "code": e.code, "message": e.message}
    except Exception as e:  # what is not expected is shown as it is
        out["error"] = {"type": type(e).__name__, "message": str(e)}
    out["tries"] = len(tries)
    return out


print(json.dumps({"version": openai.__version__, "results": [run(c) for c in json.load(sys.stdin)]}))
