"""Runs message requests with the official anthropic SDK.

Reads a JSON list of cases from standard input: {"name", "base_url", "headers", "stream",
"helper", "prompt", "max_tokens"}. Prints a JSON list of what the SDK made of the answers. With
"helper", a stream is read by the SDK's own accumulator, messages.stream().
"""

import json
import sys

import anthropic


def collect(out, blocks):
    for block in blocks:
        if block.type == "text":
            out["text"] += block.text
        elif block.type == "thinking":
            out["thinking"] += block.thinking


tries = []
# A client takes a tenth of a second to make, so all cases share one.
shared = anthropic.Anthropic(api_key="sk-ant-secret")
# Every attempt of the SDK goes through here, retries included.
send = shared._client.send
shared._client.send = lambda *a, **k: (tries.append(1), send(*a, **k))[1]


def run(case):
    tries.clear()
    client = shared.with_options(base_url=case["base_url"], default_headers=case["headers"])
    out = {"name": case["name"], "text": "", "thinking": "", "tool": "", "finish_reason": None, "usage": None, "error": None}
    request = {
        "model": "claude-sonnet-4-5",
        "max_tokens": case.get("max_tokens") or 1024,
        "messages": [{"role": "user", "content": case["prompt"]}],
    }
    try:
        if case.get("helper"):
            with client.messages.stream(**request) as stream:
                for event in stream:
                    if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                        out["tool"] += event.delta.partial_json
                message = stream.get_final_message()
            collect(out, message.content)
            out["finish_reason"], out["usage"] = message.stop_reason, message.usage.output_tokens
        elif case["stream"]:
            for event in client.messages.create(stream=True, **request):
                if event.type == "content_block_delta":
                    delta = event.delta
                    out["text"] += delta.text if delta.type == "text_delta" else ""
                    out["thinking"] += delta.thinking if delta.type == "thinking_delta" else ""
                    out["tool"] += delta.partial_json if delta.type == "input_json_delta" else ""
                elif event.type == "message_delta":
                    out["finish_reason"], out["usage"] = event.delta.stop_reason, event.usage.output_tokens
        else:
            message = client.messages.create(**request)
            collect(out, message.content)
            out["finish_reason"], out["usage"] = message.stop_reason, message.usage.output_tokens
    except anthropic.APIStatusError as e:
        body = e.body if isinstance(e.body, dict) else {}
        out["error"] = {"type": type(e).__name__, "status": e.status_code, "code": body.get("error", {}).get("type", ""), "message": e.message}
    except Exception as e:  # what is not expected is shown as it is
        out["error"] = {"type": type(e).__name__, "message": str(e)}
    out["tries"] = len(tries)
    return out


print(json.dumps({"version": anthropic.__version__, "results": [run(c) for c in json.load(sys.stdin)]}))
