"""Has the official openai SDK read streams that were cut.

Arguments: the base URL of a server that answers a request with the header x-case: N with
stream N, then the kind of each stream, chat or completions. Prints a JSON list of what the
SDK made of each: {"texts": {index: text}, "reasons": {index: finish_reason}, "error"}.
"""

import json
import sys

import openai

client = openai.OpenAI(api_key="sk-test", base_url=sys.argv[1], max_retries=0)


def run(number, kind):
    out = {"texts": {}, "reasons": {}, "error": ""}
    case = {"extra_headers": {"x-case": str(number)}, "model": "m", "stream": True}
    try:
        if kind == "chat":
            stream = client.chat.completions.create(messages=[{"role": "user", "content": "hi"}], **case)
        else:
            stream = client.completions.create(prompt="hi", **case)
        for chunk in stream:
            for c in chunk.choices:
                text = c.delta.content if kind == "chat" else c.text
                out["texts"][c.index] = out["texts"].get(c.index, "") + (text or "")
                if c.finish_reason:
                    if c.index in out["reasons"]:
                        out["error"] = "a choice ends twice"
                    out["reasons"][c.index] = c.finish_reason
    except Exception as e:
        out["error"] = f"{type(e).__name__}: {e}"
    return out


print(json.dumps([run(i, kind) for i, kind in enumerate(sys.argv[2:])]))
