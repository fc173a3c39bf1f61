#!/usr/bin/env python3
"""A stand-in for a model API, to try the examples without a key and without cost.

It answers POST /v1/chat/completions as OpenAI does, streamed or not, with as many words as
max_tokens (or max_completion_tokens) asks for, 40 by default, ten words an event. It needs
nothing but Python 3. It says on standard output what became of each stream: "finished", or
"cancelled" and after how many words.

    python3 upstream.py [--listen 127.0.0.1:8000] [--pause 0.02]
"""

import argparse
import json
import select
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = "the tide comes in and goes out and nobody has ever asked it for its budget so it never runs dry".split()
MAX_BODY = 16 << 20  # bytes
MAX_WORDS = 100_000


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds without a request, or within one
    pause = 0.02  # seconds between two events

    def do_GET(self):
        if self.path == "/health":
            return self.reply(200, {"status": "ok"})
        if self.path == "/v1/models":
            return self.reply(200, {"object": "list", "data": [{"id": "stand-in", "object": "model"}]})
        self.refuse(404, "there is only /health, /v1/models and /v1/chat/completions")

    def do_POST(self):
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            return self.refuse(411, "content-length must be a number of bytes up to %d" % MAX_BODY)
        body = self.rfile.read(length)
        if self.path != "/v1/chat/completions":
            return self.refuse(404, "there is only /v1/chat/completions")
        try:
            request = json.loads(body)
            asked = request.get("max_completion_tokens") or request.get("max_tokens") or 40
            count = max(1, min(int(asked), MAX_WORDS))
            prompt = sum(len(str(m.get("content", "")).split()) for m in request["messages"])
            model = str(request["model"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return self.refuse(400, "the body must be a chat completion request")
        usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
        if request.get("stream"):
            return self.stream(model, count, usage if (request.get("stream_options") or {}).get("include_usage") else None)
        message = {"role": "assistant", "content": "".join(words(0, count)), "refusal": None}
        self.reply(200, {
            "id": "chatcmpl-standin", "object": "chat.completion", "created": int(time.time()), "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}], "usage": usage})

    def stream(self, model, count, usage):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

        def event(choices, **more):
            chunk = {"id": "chatcmpl-standin", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices}
            self.chunk("data: %s\n\n" % json.dumps({**chunk, **more}, separators=(",", ":")))

        sent = 0
        try:
            event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
            while sent < count:
                text = "".join(words(sent, min(10, count - sent)))
                event([{"index": 0, "delta": {"content": text}, "finish_reason": None}])
                sent += min(10, count - sent)
                time.sleep(self.pause)
                if self.gone():
                    raise ConnectionError
            event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
            if usage:
                event([], usage=usage)
            self.chunk("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
            print("upstream: cancelled after %d of %d words" % (sent, count), flush=True)
        else:
            print("upstream: finished, %d words" % count, flush=True)

    def gone(self):
        """Whether the client has closed the connection: it has nothing to say in mid-answer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.reply(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})

    def log_message(self, *_):
        """Requests are Envoy's access log's business."""


def words(first, count):
    for i in range(first, first + count):
        yield (" " if i else "") + WORDS[i % len(WORDS)]


def main():
    parser = argparse.ArgumentParser(description="a stand-in for a model API")
    parser.add_argument("--listen", default="127.0.0.1:8000", help="host:port (default %(default)s)")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two events (default %(default)s)")
    args = parser.parse_args()
    host, _, port = args.listen.rpartition(":")
    Answer.pause = args.pause
    ThreadingHTTPServer.daemon_threads = True
    try:
        ThreadingHTTPServer((host, int(port)), Answer).serve_forever()
    except OSError as err:
        parser.exit(1, "upstream.py: cannot listen on %s: %s\n" % (args.listen, err.strerror))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
