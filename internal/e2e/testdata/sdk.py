"""Runs chat requests with the official openai SDK.

Reads a JSON list of cases from standard input: {"name", "base_url", "headers",
"stream", "prompt"}. Prints a JSON list of what the SDK made of the answers.
"""

import json
import sys

import openai


def run(case):
    tries = []
    client = openai.OpenAI(base_url=case["base_url"], api_key="sk-test", default_headers=case["headers"])
    # Every attempt of the SDK goes through here, retries included.
    send = client._client.send
    client._client.send = lambda *a, **k: (tries.append(1), send(*a, **k))[1]
    out = {"name": case["name"], "text": "", "finish_reason": None, "usage": None, "error": None}
    try:
        answer = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": case["prompt"]}],
            stream=case["stream"],
            **({"stream_options": {"include_usage": True}} if case.get("usage") else {}),
        )
        if case["stream"]:
            for chunk in answer:
                for choice in chunk.choices:
                    out["text"] += choice.delta.content or ""
                    out["finish_reason"] = choice.finish_reason or out["finish_reason"]
                if chunk.usage:
                    out["usage"] = chunk.usage.completion_tokens
        else:
            out["text"] = answer.choices[0].message.content
            out["finish_reason"] = answer.choices[0].finish_reason
            out["usage"] = answer.usage.completion_tokens
    except openai.APIStatusError as e:
        out["error"] = {"type": type(e).__name__, "status": e.status_code, "code": e.code, "message": e.message}
    except Exception as e:  # what is not expected is shown as it is
        out["error"] = {"type": type(e).__name__, "message": str(e)}
    out["tries"] = len(tries)
    return out


print(json.dumps({"version": openai.__version__, "results": [run(c) for c in json.load(sys.stdin)]}))
