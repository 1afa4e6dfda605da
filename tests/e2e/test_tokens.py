#!/usr/bin/python3
"""tokenizer.json of a checkpoint, through bn-convert and a daemon, against BPE written here."""

import json
import os
import struct
import subprocess
import sys

import harness
from harness import Daemon, Skip

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = ["ab cde\n\n  fo\u00e9 x-y_z", "\u6f22\u5b57 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301",
         "9 10 2026\t\r\n$%&(){}|~`^<=>", "the quick brown fox jumps over the lazy dog" * 20,
         "".join(map(chr, range(1, 0x250))), "\x00\u0080\u07ff\u0800\uffff\U00010000\U0010ffff",
         "<|im_end|> <|endoftext|> >>TITLE<< <|end_of_text|>"]


def converted(family, folder):
    script = os.path.join(HERE, "..", "reference", "make_checkpoint.py")
    done = subprocess.run([sys.executable, script, family, folder], capture_output=True, text=True)
    if "No module named 'numpy'" in done.stderr:
        raise Skip("no python3-numpy")
    assert done.returncode == 0, done.stderr
    path = folder + ".gguf"
    subprocess.run([os.environ["BN_CONVERT"], folder, "-q", "-o", path], check=True,
                   capture_output=True)
    return path


def byte_symbols():
    """GPT-2's printable characters for the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def pieces(text):
    """Runs of a-z, which alone have merges in these vocabularies, and bytes one by one."""
    run = b""
    for b in text.encode():
        if ord("a") <= b <= ord("z"):
            run += bytes([b])
            continue
        if run:
            yield run
        run = b""
        yield bytes([b])
    if run:
        yield run


def encode(text, vocab, ranks):
    symbols, ids = byte_symbols(), []
    for piece in pieces(text):
        parts = [symbols[b] for b in piece]
        while len(parts) > 1:
            rank, at = min((ranks.get((a, b), len(ranks)), i)
                           for i, (a, b) in enumerate(zip(parts, parts[1:])))
            if rank == len(ranks):
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        ids += [vocab[p] for p in parts if p in vocab]  # a byte without a symbol is dropped
    return ids


def check(family, missing):
    folder = os.path.join(harness.tempfile.mkdtemp(dir=harness._scratch()), family)
    path = converted(family, folder)
    with open(os.path.join(folder, "tokenizer.json")) as f:
        model = json.load(f)["model"]
    vocab = model["vocab"]
    assert sum(s not in vocab for s in byte_symbols().values()) == missing
    merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    ranks = {m: i for i, m in enumerate(merges)}
    with Daemon({"memory": {"budget": "256MiB"},
                 "models": [{"name": "m", "path": path}]}) as d, d.client() as c:
        for text in TEXTS:
            got = c.call("tokenize", {"model": "m", "content": text})["tokens"]
            ids = list(struct.unpack("<%dI" % (len(got) // 4), got))
            assert ids == encode(text, vocab, ranks), (text, ids)
            assert c.call("detokenize", {"model": "m", "tokens": got})["content"] == text


def test_falcon3_from_tokenizer_json():
    check("falcon3-1b", 0)


def test_falcon_e_from_tokenizer_json_with_missing_byte_symbols():
    check("falcon-e-1b", 13)


if __name__ == "__main__":
    harness.main(globals())
