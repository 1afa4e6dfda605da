#!/usr/bin/env python3
"""check.py FAMILY --convert BN_CONVERT --logits BN_LOGITS [--true-size] [--layers N] [--seed N]

Makes a synthetic checkpoint of the family, converts it with bn-convert, lets the engine continue a
prompt by 64 greedy tokens, and compares every row of logits, and every token, with reference.py, which
reads the checkpoint and not the GGUF.

A row agrees when max |difference| <= 1e-3 of the spread of its logits. Rows where some activation lies
within float error of a rounding tie may agree after rounding such values the other way (reference.py
says why); how many needed that is printed.
"""
import argparse
import itertools
import os
import subprocess
import sys
import tempfile

import numpy as np

from families import FAMILIES, family
from make_checkpoint import make
from reference import Forward, Model

LIMIT = 1e-3
PROMPT, GREEDY = 8, 64


def read_logits(path):
    with open(path, "rb") as f:
        rows, vocab = np.fromfile(f, np.uint32, 2)
        ids = np.fromfile(f, np.uint32, rows)
        logits = np.fromfile(f, np.float32).reshape(rows, vocab)
    return ids.astype(int), logits.astype(np.float64)


def distance(got, want):
    return np.abs(got - want).max() / (want.max() - want.min())


def flip_sets(near, base):
    """Choices of values to round the other way: those near a tie alone, the nearest two together."""
    sites = [(site, i) for _, site, i in near if (site, i) not in base][:40]
    for one in sites:
        yield base | {one}
    for two in itertools.combinations(sites[:8], 2):
        yield base | frozenset(two)


def settle(forward, token, got):
    """The row of the reference that is nearest to the engine's, its error, and how many values were
    flipped to come near. The search looks at some of the logits, the answer at all."""
    row = forward.row(token)
    error = distance(got, row[0])
    if error <= LIMIT:
        return row, error, 0
    part = got[:4096]
    best, flips = forward.row(token, vocab=4096), frozenset()
    error = distance(part, best[0])
    for _ in range(4):
        better = None
        for choice in flip_sets(best[1], flips):
            row = forward.row(token, choice, vocab=4096)
            e = distance(part, row[0])
            if e < error * 0.7:
                better, error, flips = row, e, choice
            if error <= LIMIT / 2:
                break
        if better is None or error <= LIMIT / 2:
            break
        best = better
    row = forward.row(token, flips)
    return row, distance(got, row[0]), len(flips)


def compare(folder, ids, logits, tie):
    forward = Forward(Model(folder), tie)
    worst, flipped, wrong = 0.0, 0, []
    for i, token in enumerate(ids):
        (want, _, kept), error, flips = settle(forward, token, logits[i])
        forward.keep(kept)
        worst, flipped = max(worst, error), flipped + (flips > 0)
        if error > LIMIT:
            wrong.append(f"row {i}: logits differ by {error:.2e} of their spread")
        if PROMPT - 1 <= i < len(ids) - 1 and int(want.argmax()) != ids[i + 1]:
            wrong.append(f"row {i}: the reference draws {want.argmax()}, bnd {ids[i + 1]}")
    return worst, flipped, wrong


def prompt_of(f, seed):
    """Ordinary tokens: no special ones, no padding."""
    rng = np.random.default_rng(seed)
    return [int(i) for i in rng.integers(f["named"] // 4, f["named"] // 2, PROMPT)]


def run(a, folder):
    f = family(a.family, a.true_size, a.layers)
    seed = a.seed or f["seed"]
    checkpoint, gguf = os.path.join(folder, "hf"), os.path.join(folder, "model.gguf")
    make(f, checkpoint, seed)
    subprocess.run([a.convert, "-q", checkpoint, "-o", gguf], check=True)
    out = os.path.join(folder, "logits")
    subprocess.run([a.logits, gguf, out, str(GREEDY)] + [str(i) for i in prompt_of(f, seed)],
                   check=True)
    ids, logits = read_logits(out)
    if logits.shape != (PROMPT + GREEDY, f["vocab"]):
        return [f"logits of shape {logits.shape}"]
    worst, flipped, wrong = compare(checkpoint, ids, logits, a.tie)
    print(f"{a.family}: {len(ids)} rows agree to {worst:.1e} of their spread, {flipped} of them "
          f"behind a rounding tie; {GREEDY} greedy tokens, {len(set(ids[PROMPT:]))} different")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--convert", required=True)
    parser.add_argument("--logits", required=True)
    parser.add_argument("--true-size", action="store_true")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--tie", type=float, default=5e-4, help="how near a half is a tie")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bnd-reference-") as folder:
        wrong = run(a, folder)
    for line in wrong:
        print(f"{a.family}: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
