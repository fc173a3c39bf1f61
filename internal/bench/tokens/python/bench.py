"""Takes turns with others in a benchmark: python bench.py, lines on stdin and stdout.

A request is "CANDIDATE ENCODING MILLISECONDS FILE": encode the file again and again
for at least that time. The reply is the time of a pass in nanoseconds and the
number of tokens. Time is the processor time of this thread. The first line says
what there is.
"""

import sys
import time
from importlib.metadata import version

import tiktoken

texts = {}
print("ready tiktoken", version("tiktoken"), flush=True)
for line in sys.stdin:
    _, encoding, milliseconds, file = line.rstrip("\n").split(" ", 3)
    encode = tiktoken.get_encoding(encoding).encode_ordinary
    if file not in texts:
        with open(file, "rb") as f:
            texts[file] = f.read().decode(errors="replace")
    text = texts[file]
    passes, most = 0, int(milliseconds) * 1_000_000
    begin = time.thread_time_ns()
    while True:
        tokens = encode(text)
        passes += 1
        spent = time.thread_time_ns() - begin
        if spent >= most:
            break
    print(spent // passes, len(tokens), flush=True)
