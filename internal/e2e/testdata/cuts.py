"""Has the official openai SDK read streams that were cut.

Reads a JSON list from standard input: {"base_url", "case", "kind", "helper", "strict"}; the server answers a
request with the header x-case: N with stream N, the kind is chat or completions, and with a helper
a chat is read by the SDK's accumulator, chat.completions.stream(), which parses arguments of tools
that are strict. Prints a JSON list of what the SDK made of each: {"texts", "reasoning", "tools", "reasons", "error", "final_error"}; texts,
reasoning and reasons are by the index of the choice, tools are arguments by choice and call.
final_error is what the accumulator raises at the end, when it is asked for the whole answer.
"""

import json
import sys

import openai

weather = {
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}

http = openai.DefaultHttpxClient()  # one for all cases: to make one takes a tenth of a second
clients = {}


def add(out, key, text):
    if text:
        out[key] = out.get(key, "") + text


def ended(out, index, reason):
    if reason:
        if index in out["reasons"]:
            out["error"] = "a choice ends twice"
        out["reasons"][index] = reason


def message(out, index, m):
    add(out["texts"], index, m.content)
    add(out["reasoning"], index, getattr(m, "reasoning_content", None))
    for at, t in enumerate(m.tool_calls or []):
        add(out["tools"], f"{index}/{getattr(t, 'index', at)}", t.function.arguments)


def run(case):
    out = {"texts": {}, "reasoning": {}, "tools": {}, "reasons": {}, "error": "", "final_error": ""}
    url = case["base_url"]
    if url not in clients:
        clients[url] = openai.OpenAI(api_key="sk-test", base_url=url, max_retries=0, http_client=http)
    client = clients[url]
    ask = {"extra_headers": {"x-case": str(case["case"])}, "model": "m"}
    chat = {"messages": [{"role": "user", "content": "hi"}], **ask}
    if case["strict"]:
        chat["tools"] = [{"type": "function", "function": weather}]
    try:
        if case["helper"]:
            with client.chat.completions.stream(**chat) as stream:
                for event in stream:
                    if event.type == "chunk":
                        for c in event.chunk.choices:
                            ended(out, c.index, c.finish_reason)
                for c in stream.current_completion_snapshot.choices:
                    message(out, c.index, c.message)
                try:
                    stream.get_final_completion()
                except Exception as e:
                    out["final_error"] = type(e).__name__
        elif case["kind"] == "chat":
            for chunk in client.chat.completions.create(stream=True, **chat):
                for c in chunk.choices:
                    message(out, c.index, c.delta)
                    ended(out, c.index, c.finish_reason)
        else:
            for chunk in client.completions.create(prompt="hi", stream=True, **ask):
                for c in chunk.choices:
                    add(out["texts"], c.index, c.text)
                    ended(out, c.index, c.finish_reason)
    except Exception as e:
        out["error"] = f"{type(e).__name__}: {e}"
    return out


print(json.dumps([run(case) for case in json.load(sys.stdin)]))
