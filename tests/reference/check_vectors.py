#!/usr/bin/env python3
"""check_vectors.py FAMILY --convert BN_CONVERT --vector BN_VECTOR [--true-size] [--layers N] [--seed N]

Makes a synthetic checkpoint of BitNet-embedding, converts it with bn-convert, has the engine tokenize and
embed some texts, and compares tokens and vectors with vectors.py, which reads the checkpoint and not the
GGUF.

A vector agrees when max |difference| <= LIMIT, 1e-3, of its largest number. Where some activation lies within
float error of a rounding tie it may agree after rounding that one the other way; how many needed that is
printed. In the published dimensions dozens of values lie so near at once that only nearness can be asked
for (--limit 0.05): a wrong norm, scale or pooling moves a vector by its own size.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

from families import VECTORS, family
from make_checkpoint import make
from vectors import Embedding, Tokenizer, VectorModel

TEXTS = [
    "query what is bitnet", "a", "the quick brown fox jumps over the lazy dog", "abc abd abe",
    "cafe\u0301 42", "zzz  yyy", "passage one bit models on the cpu of a workstation",
    "instruct given a question find passages that answer it", "hello", "ternary weights are small",
]


def read_vector(path):
    with open(path, "rb") as f:
        n, dim = np.fromfile(f, np.uint32, 2)
        ids = np.fromfile(f, np.uint32, n)
        return ids.astype(int).tolist(), np.fromfile(f, np.float32, dim).astype(np.float64)


def distance(got, want):
    return np.abs(got - want).max() / np.abs(want).max()


def settle(embedding, ids, got, limit):
    """(error, values rounded the other way): one after the other, while each brings it nearer."""
    want, near = embedding.vector(ids)
    error, flips = distance(got, want), frozenset()
    while error > limit and len(flips) < 4:
        best = None
        for _, site in near[:60]:
            want, later = embedding.vector(ids, flips ^ {site})
            e = distance(got, want)
            if e < error * 0.7:
                best, error, best_near = flips ^ {site}, e, later
                if error <= limit:
                    break
        if best is None:
            break
        flips, near = best, best_near
    return error, len(flips)


def run(a, folder):
    f = family(a.family, a.true_size, a.layers)
    checkpoint, gguf = os.path.join(folder, "hf"), os.path.join(folder, "model.gguf")
    make(f, checkpoint, a.seed or 1)
    subprocess.run([a.convert, "-q", checkpoint, "-o", gguf], check=True)
    tokenizer, embedding = Tokenizer(checkpoint), Embedding(VectorModel(checkpoint), a.tie)
    worst, flipped, wrong = 0.0, 0, []
    for text in TEXTS if f["tokenizer"] == "qwen" else [t for t in TEXTS if t.isascii()]:
        out = os.path.join(folder, "vector")
        subprocess.run([a.vector, gguf, out, text], check=True)
        ids, got = read_vector(out)
        wanted = tokenizer.encode(text)
        if ids != wanted:
            wrong.append(f"'{text}': tokens {ids}, not {wanted}")
            continue
        if abs(np.linalg.norm(got) - 1) > 1e-6 or len(got) != f["dim"]:
            wrong.append(f"'{text}': {len(got)} numbers of length {np.linalg.norm(got)}")
        error, flips = settle(embedding, ids, got, a.limit)
        worst, flipped = max(worst, error), flipped + (flips > 0)
        if error > a.limit:
            wrong.append(f"'{text}': the vector differs by {error:.2e}")
    print(f"{a.family}: vectors agree to {worst:.1e}, {flipped} of them behind a rounding tie")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("family", choices=sorted(VECTORS))
    parser.add_argument("--convert", required=True)
    parser.add_argument("--vector", required=True)
    parser.add_argument("--true-size", action="store_true")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--limit", type=float, default=1e-3)
    parser.add_argument("--tie", type=float, default=5e-4, help="how near a half is a tie")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bnd-reference-") as folder:
        wrong = run(a, folder)
    for line in wrong:
        print(f"{a.family}: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
