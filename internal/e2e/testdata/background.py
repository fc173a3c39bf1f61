"""Begins responses in the background with the official openai SDK, and fetches or cancels them.

Reads {"base_url", "headers"} from standard input, and prints what became of each response.
"""

import json
import sys

import openai

case = json.load(sys.stdin)
client = openai.OpenAI(base_url=case["base_url"], api_key="sk-test", max_retries=0, default_headers=case["headers"])


def say(response):
    return {"id": response.id, "status": response.status, "output_tokens": response.usage.output_tokens if response.usage else None}


def begin(**more):
    return client.responses.create(model="gpt-4o", input="Hello!", background=True, max_output_tokens=500, **more)


polled = begin()
fetched = [say(client.responses.retrieve(polled.id)) for _ in range(3)]
cancelled = say(client.responses.cancel(begin().id))

# A stream that is left, and taken up again.
left = None
stream = begin(stream=True)
for event in stream:
    if event.type == "response.output_text.delta":
        left, after = stream, event.sequence_number
        break
    if event.type == "response.created":
        streamed = event.response.id
stream.close()
last = None
for event in client.responses.retrieve(streamed, stream=True, starting_after=after):
    last = event
print(json.dumps({"fetched": fetched, "cancelled": cancelled, "last": last.type, "resumed": say(last.response)}))
