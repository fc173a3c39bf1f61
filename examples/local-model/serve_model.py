#!/usr/bin/env python3
"""Serves a GGUF file by llama.cpp's own HTTP server, as "llama-server -m FILE --port PORT" does;
the package xllamacpp has it as a library, so that nothing need be compiled.

    python3 serve_model.py FILE PORT     (needs the packages of requirements.txt)
"""

import signal
import sys

import xllamacpp


def main():
    if len(sys.argv) != 3 or not sys.argv[2].isdigit():
        sys.exit("usage: serve_model.py FILE PORT")
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.model_alias = {"thin-air"}
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[2])
    params.n_ctx = 16384
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
