#!/usr/bin/env python3
"""Makes a tiny model out of thin air: tokenizer.json and model.gguf, in the folder that is named.

It is for trying the road without a download: a real llama model to llama.cpp, with a tokenizer
of some 400 tokens, weights by chance, and nothing to say. It never ends by itself.

    python3 make_model.py FOLDER         (needs the packages of requirements.txt)
"""

import json
import pathlib
import sys

import gguf
import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = """The tide comes in and the tide goes out, and nobody has ever asked it for a budget. A small model speaks in
small words, it says little of the world, and it costs nothing. Water, wind and sand are all that there is to see."""
END = "<|endoftext|>"
WIDTH, HEADS, LAYERS, INNER, CONTEXT = 128, 4, 2, 256, 16384


def make_tokenizer(path):
    """Byte-level BPE, as GPT-2 has it."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator([TEXT] * 20, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    t.save(str(path))
    return t


def make_model(path, tokenizer):
    bpe = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get) + [END]
    # It may say whole words with a space in front. So any text of its own splits into the very
    # tokens that it was made of, which no model promises.
    words = [i for i, t in enumerate(tokens[:-1])
             if t[0] == "Ġ" and t[1:].isascii() and t[1:].isalpha() and tokenizer.encode(" " + t[1:]).ids == [i]]

    w = gguf.GGUFWriter(path, "llama")
    w.add_name("out-of-thin-air")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(INNER)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS)
    w.add_rope_dimension_count(WIDTH // HEADS)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 1) + [gguf.TokenType.CONTROL])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]])
    w.add_bos_token_id(len(tokens) - 1)
    w.add_eos_token_id(len(tokens) - 1)
    w.add_add_bos_token(False)
    w.add_chat_template("{% for m in messages %}{{ m.content }}\n{% endfor %}")

    chance = numpy.random.default_rng(7)

    def matrix(rows, columns, scale):
        return (chance.standard_normal((rows, columns)) * scale).astype(numpy.float32)

    # The first dimension is the same for every token, and passes unchanged: by it the output
    # keeps to the words.
    embedding, output = matrix(len(tokens), WIDTH, 0.5), matrix(len(tokens), WIDTH, 1)
    embedding[:, 0] = 5
    output[:, 0] = -50
    output[words, 0] = 0
    w.add_tensor("token_embd.weight", embedding)
    w.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
    w.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH), "attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH),
                  "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
        for name, shape in shapes.items():
            weights = matrix(*shape, 0.1)
            if name in ("attn_output", "ffn_down"):
                weights[0] = 0
            w.add_tensor("blk.%d.%s.weight" % (layer, name), weights)
        for name in ("attn_norm", "ffn_norm"):
            w.add_tensor("blk.%d.%s.weight" % (layer, name), numpy.ones(WIDTH, numpy.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
        sys.exit("usage: make_model.py FOLDER, which must exist")
    folder = pathlib.Path(sys.argv[1])
    make_model(folder / "model.gguf", make_tokenizer(folder / "tokenizer.json"))


if __name__ == "__main__":
    main()
