"""Runs requests with the official openai SDK.

Reads a JSON list of cases from standard input: {"name", "api", "azure", "base_url", "headers",
"stream", "helper", "usage", "prompt", "max_tokens"}. The api is chat, completions, embeddings or
responses; with "azure" the SDK's client class for Azure asks; with "helper" a stream is read by the
SDK's own accumulator. Prints a JSON list of what the SDK made of the answers; helper_error is what
the accumulator raises when it is asked for the whole answer.
"""

import json
import sys

import openai

tries = []
http = openai.DefaultHttpxClient()  # one for all cases: to make one takes a tenth of a second
send = http.send
# Every attempt of the SDK goes through here, retries included.
http.send = lambda *a, **k: (tries.append(1), send(*a, **k))[1]


def client_of(case):
    common = {"api_key": "sk-test", "default_headers": case["headers"], "http_client": http}
    if case["azure"]:
        return openai.AzureOpenAI(azure_endpoint=case["base_url"], api_version="2024-10-21", **common)
    return openai.OpenAI(base_url=case["base_url"] + "/v1", **common)


def choice(out, index, text, reason):
    if index == 0:
        out["text"] += text or ""
        out["finish_reason"] = reason or out["finish_reason"]


def whole(out, completion, chat):
    for c in completion.choices:
        choice(out, c.index, c.message.content if chat else c.text, c.finish_reason)
    if completion.usage:
        out["usage"] = completion.usage.completion_tokens


def final(out, response):
    incomplete = response.incomplete_details
    out["finish_reason"] = response.status + (": " + incomplete.reason if incomplete else "")
    out["usage"] = response.usage.output_tokens


def helped(out, ask):
    try:
        ask()
    except Exception as e:
        out["helper_error"] = type(e).__name__


def chat(client, case, out):
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": case["prompt"]}]}
    if case["helper"]:
        with client.chat.completions.stream(**ask) as stream:
            for event in stream:
                if event.type == "content.delta":
                    out["text"] += event.delta
            helped(out, stream.get_final_completion)
            out["finish_reason"] = stream.current_completion_snapshot.choices[0].finish_reason
        return
    completions(client.chat.completions, ask, case, out, True)


def completions(resource, ask, case, out, chat):
    if not case["stream"]:
        return whole(out, resource.create(**ask), chat)
    if case["usage"]:
        ask["stream_options"] = {"include_usage": True}
    for chunk in resource.create(stream=True, **ask):
        for c in chunk.choices:
            choice(out, c.index, c.delta.content if chat else c.text, c.finish_reason)
        if chunk.usage:
            out["usage"] = chunk.usage.completion_tokens


def watch(out, events):
    for e in events:
        if e.type == "response.output_text.delta":
            out["text"] += e.delta
        elif e.type in ("response.completed", "response.incomplete", "response.failed"):
            final(out, e.response)


def responses(client, case, out):
    ask = {"model": "gpt-4o", "input": case["prompt"]}
    if case["helper"]:
        with client.responses.stream(**ask) as stream:
            watch(out, stream)
            helped(out, stream.get_final_response)
    elif case["stream"]:
        watch(out, client.responses.create(stream=True, **ask))
    else:
        answer = client.responses.create(**ask)
        out["text"] = answer.output_text
        final(out, answer)


def embeddings(client, case, out):
    answer = client.embeddings.create(model="text-embedding-3-small", input=case["prompt"])
    out["finish_reason"] = f"{len(answer.data)} × {len(answer.data[0].embedding)}"
    out["usage"] = answer.usage.prompt_tokens


def run(case):
    tries.clear()
    client = client_of(case)
    out = {"name": case["name"], "text": "", "finish_reason": None, "usage": None, "error": None, "helper_error": ""}
    try:
        if case["api"] == "chat":
            chat(client, case, out)
        elif case["api"] == "completions":
            ask = {"model": "gpt-3.5-turbo-instruct", "prompt": case["prompt"], "max_tokens": case["max_tokens"]}
            completions(client.completions, ask, case, out, False)
        elif case["api"] == "responses":
            responses(client, case, out)
        else:
            embeddings(client, case, out)
    except openai.APIStatusError as e:
        out["error"] = {"type": type(e).__name__, "status": e.status_code, "code": e.code, "message": e.message}
    except Exception as e:  # what is not expected is shown as it is
        out["error"] = {"type": type(e).__name__, "message": str(e)}
    out["tries"] = len(tries)
    return out


print(json.dumps({"version": openai.__version__, "results": [run(c) for c in json.load(sys.stdin)]}))
