"""Encodes batches of texts from stdin to stdout until stdin ends.

A request is the number of the encoding (one byte, as in sys.argv), the number of
texts and the length of what follows (32 bits, little-endian): each text as its
length and its bytes. The reply is its length in words, and for each text the
number of tokens and the tokens, 32 bits each.
"""

import struct
import sys
from array import array

import tiktoken

encoders = [tiktoken.get_encoding(name).encode_ordinary for name in sys.argv[1:]]
requests, replies = sys.stdin.buffer, sys.stdout.buffer
length = struct.Struct("<I")

while head := requests.read(9):
    encoding, texts, size = struct.unpack("<BII", head)
    encode = encoders[encoding]
    body = requests.read(size)
    reply = array("I")
    at = 0
    for _ in range(texts):
        (n,) = length.unpack_from(body, at)
        at += 4
        ids = encode(body[at : at + n].decode(errors="replace"))
        at += n
        reply.append(len(ids))
        reply.extend(ids)
    if sys.byteorder == "big":
        reply.byteswap()
    replies.write(length.pack(len(reply)))
    replies.write(reply.tobytes())
    replies.flush()
