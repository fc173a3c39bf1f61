"""Streams one chat with the official openai SDK and shows what arrives.

usage: chat.py BASE_URL USER

The last line of its output is JSON, for the program that has started it.
"""

import json
import sys

import openai


def recorded(parts, kept):
    """Passes the bytes of an answer on and keeps them."""
    for part in parts:
        kept.append(part)
        yield part


base_url, user = sys.argv[1:3]
client = openai.OpenAI(
    base_url=base_url,
    api_key="sk-demo",
    default_headers={"x-user": user},
)
raw = []
result = {"text": "", "finish_reason": None, "refused": None, "tail": ""}
try:
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Hello!"}],
        stream=True,
    )
    iter_bytes = stream.response.iter_bytes
    stream.response.iter_bytes = lambda: recorded(iter_bytes(), raw)
    print("  ", end="")
    for chunk in stream:
        for choice in chunk.choices:
            text = choice.delta.content or ""
            print(text, end="", flush=True)
            result["text"] += text
            result["finish_reason"] = choice.finish_reason or result["finish_reason"]
    print(f"  ◄ finish_reason: {result['finish_reason']}")
    wire = b"".join(raw).decode()
    result["tail"] = wire[wire.rfind("\n:") + 1 :] if "\n:" in wire else ""
except openai.APIStatusError as e:
    result["refused"] = {"status": e.status_code, "message": e.body["message"]}
print(json.dumps(result))
