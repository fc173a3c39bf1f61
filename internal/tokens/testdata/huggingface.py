"""Trains small tokenizers, saves them, and encodes texts with them: the oracle of TestTokenizers.

It reads {"dir": DIR, "train": [TEXT], "texts": [TEXT]} from standard input, writes DIR/NAME.json for each
tokenizer, and prints {NAME: [[ID]]}, the ids of each text.
"""

import json
import os
import random
import sys

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CASELESS = r"\p{Lm}\p{Lo}\p{M}]"
UNTIL_LOWER = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}" + CASELESS + r"*[\p{Ll}" + CASELESS + "+"
FROM_UPPER = r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}" + CASELESS + r"+[\p{Ll}" + CASELESS + "*"

# As the files of these models have them.
PATTERNS = {
    "llama3": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES,
    "cl100k-old": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "qwen2": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACES,
    "qwen35": CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACES,
    "o200k": UNTIL_LOWER + CONTRACTIONS + "?" + FROM_UPPER + CONTRACTIONS + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES,
    "tekken": UNTIL_LOWER + FROM_UPPER + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACES,
    "gpt2-split": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "r50k": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
}
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[""" + "\r\n" + r"]*|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+",
]


def split(pattern, **options):
    return pre_tokenizers.Split(Regex(pattern), **{"behavior": "isolated", **options})


def sequence(*steps, use_regex=False):
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)])


def pre():
    all = {name: sequence(split(pattern)) for name, pattern in PATTERNS.items()}
    all["removed"] = sequence(split(PATTERNS["llama3"], behavior="removed", invert=True))
    all["deepseek"] = sequence(*map(split, DEEPSEEK))
    all["gpt2"] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    all["gpt2-digits"] = sequence(pre_tokenizers.Digits(individual_digits=True), use_regex=True)
    all["gpt2-numbers"] = sequence(pre_tokenizers.Digits(individual_digits=False), use_regex=True)
    all["gpt2-triples"] = sequence(split(r"\p{N}{1,3}"), use_regex=True)
    return all


def variant(tokenizer, change):
    data = json.loads(tokenizer.to_str())
    change(data["model"], random.Random(1))
    return Tokenizer.from_str(json.dumps(data))


def every_pair(model, r):
    """All ways to make each token, as the converter of Llama 3 writes them."""
    vocab = model["vocab"]
    merges = []
    for token, id in sorted(vocab.items(), key=lambda item: item[1]):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token))]
        cuts = [c for c in cuts if c[0] in vocab and c[1] in vocab]
        merges += sorted(cuts, key=lambda c: (vocab[c[0]], vocab[c[1]]))
    model["merges"] = merges


def shuffled(model, r):
    """Merges before those of their parts."""
    r.shuffle(model["merges"])


def nearly_sorted(model, r):
    merges = model["merges"]
    for _ in range(len(merges) // 8):
        i = r.randrange(len(merges) - 20)
        j = i + r.randrange(20)
        merges[i], merges[j] = merges[j], merges[i]


def with_orphans(model, r):
    """Tokens which no merge makes, or which are not made in the end."""
    every_pair(model, r)
    model["merges"] = [m for m in model["merges"] if r.random() < 0.8]


def ignoring(change):
    def both(model, r):
        change(model, r)
        model["ignore_merges"] = True

    return both


def main():
    task = json.load(sys.stdin)
    tokenizers = {}
    for name, pre_tokenizer in pre().items():
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizer
        t.train_from_iterator(
            task["train"],
            trainers.BpeTrainer(
                vocab_size=1500,
                show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                special_tokens=["<|endoftext|>"],
            ),
        )
        tokenizers[name] = t
    for name in ("llama3", "gpt2", "o200k", "deepseek"):
        for change in (every_pair, shuffled, nearly_sorted, with_orphans):
            tokenizers[f"{name}-{change.__name__}"] = variant(tokenizers[name], change)
            tokenizers[f"{name}-{change.__name__}-ignoring"] = variant(tokenizers[name], ignoring(change))
    nfc = Tokenizer.from_str(tokenizers["qwen2"].to_str())
    nfc.normalizer = normalizers.NFC()
    tokenizers["qwen2-nfc"] = nfc

    ids = {}
    for name, t in tokenizers.items():
        t.save(os.path.join(task["dir"], name + ".json"))
        t.encode_special_tokens = True
        ids[name] = [e.ids for e in t.encode_batch(task["texts"], add_special_tokens=False)]
    json.dump(ids, sys.stdout)


main()
