#!/usr/bin/env python3
"""check.py FAMILY --convert BN_CONVERT --logits BN_LOGITS [--true-size] [--layers N] [--seed N]

Makes a synthetic checkpoint of the family, converts it with bn-convert, lets the engine continue a
prompt by 64 greedy tokens, and compares every row of logits, and every token, with reference.py, which
reads the checkpoint and not the GGUF.

A row agrees when max |difference| <= 1e-3 of the spread of its logits, and when the keys and values the
engine stored for it are the reference's, rounded. Rows where some activation lies within float error of
a rounding tie may agree after rounding such values the other way (reference.py says why); how many
needed that is printed. Tokens have no such freedom: each must be the reference's
own best, and the smallest distance of a best token to the second is printed, as a part of the spread.

--mutants asks the opposite: with one fact of the reference falsified at a time, the check must fail.
"""
import argparse
import itertools
import os
import re
import sys
import tempfile
import time
import zlib

import numpy as np

import gguf_sizes
from families import FAMILIES, family
from make_checkpoint import make
from reference import Forward, Model

LIMIT = 1e-3
PROMPT, GREEDY = 8, 64
PART = 4096  # logits that decide which values were rounded the other way; all are compared later
TIE = 3e-5   # of a step, and more for values of many steps (reference.py, round)
SAME = 1e-5  # float error alone; a value rounded apart makes ten times that and more
MUTANT_ROWS = 24


def run_child(command):
    """(seconds, peak of memory in MiB, output) of a program that must succeed."""
    start = time.monotonic()
    r, w = os.pipe()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[
        (os.POSIX_SPAWN_DUP2, w, 1), (os.POSIX_SPAWN_CLOSE, r)])
    os.close(w)
    with os.fdopen(r) as out:
        text = out.read()
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit(f"{command[0]}: {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - start, usage.ru_maxrss / 1024, text


def read_logits(path):
    """(ids, logits [rows, vocab], memory: for each row but the last (k, v) of each layer)"""
    with open(path, "rb") as f:
        rows, vocab = np.fromfile(f, np.uint32, 2)
        ids = np.fromfile(f, np.uint32, rows)
        logits = np.fromfile(f, np.float32, int(rows) * int(vocab)).reshape(rows, vocab)
        layers, heads, width, rows, neighbours = (int(n) for n in np.fromfile(f, np.uint32, 5))
        kv = np.fromfile(f, np.float16).reshape(layers, heads, 2, rows, width).astype(np.float64)
    if neighbours:  # (2i, 2i + 1) are what the checkpoint has at (i, i + half)
        kv[:, :, 0] = np.concatenate([kv[:, :, 0, :, 0::2], kv[:, :, 0, :, 1::2]], axis=-1)
    return ids.astype(int), logits, [[(kv[i, :, 0, r], kv[i, :, 1, r]) for i in range(layers)]
                                     for r in range(rows)] + [None]


# ---- one row after another --------------------------------------------------------------------

def flip_sets(near, base):
    """Choices of values to round the other way: those near a tie alone, the nearest two together."""
    sites = [(site, i) for _, site, i in near if (site, i) not in base][:40]
    for one in sites:
        yield base | {one}
    for two in itertools.combinations(sites[:8], 2):
        yield base | frozenset(two)


class Judge:
    """The first logits of a row, for choosing."""

    def __init__(self, model):
        self.head = np.concatenate([part for _, part in model.logits(np.eye(len(model.norm)), PART)],
                                   axis=1)

    def error(self, state, got):
        want = state @ self.head
        return np.abs(got[:PART] - want).max() / (want.max() - want.min())


def settle(forward, judge, token, got, stored):
    """The row of the reference that is nearest to the engine's, and how many values were flipped to
    come near. Keys and values show a difference in front of them before the layers behind enlarge it:
    first more layers must have those stored, then these be nearer, and last the logits."""
    def rank(row):
        return -row.same, judge.error(row.state, got) if row.state is not None else row.off

    best, flips = forward.row(token, stored=stored, whole=False), frozenset()
    least, done = rank(best), (-forward.m.layers if stored else 0, SAME)
    while least > done:
        better = None
        for choice in flip_sets(best.near, flips):
            row = forward.row(token, choice, stored, whole=False)
            this = rank(row)
            if this < least:
                better, least, taken = row, this, choice
            if this <= done:
                break
        if better is None:
            break
        best, flips = better, taken
    if best.state is None:
        best = forward.row(token, flips, stored)
    return best, len(flips)


def states_of(model, ids, logits, memory, tie):
    """(the reference's state behind each id, how many values of each row were flipped, complaints)"""
    forward, judge = Forward(model, tie), Judge(model)
    states, flips, wrong = [], [], []
    for i, (token, got, stored) in enumerate(zip(ids, logits, memory)):
        row, n = settle(forward, judge, token, got, stored)
        forward.keep(row.kept)
        states.append(row.state)
        flips.append(n)
        if stored and row.same < model.layers:
            wrong.append(f"row {i}: bnd stored other keys or values in layer {row.same}")
    return np.stack(states), flips, wrong


# ---- all rows ---------------------------------------------------------------------------------

class Rows:
    """What is left of the reference's logits, gathered part by part: their best two, their range, and
    how far the engine's are from them."""

    def __init__(self, n):
        self.best = np.zeros(n, int)
        self.first, self.second = np.full(n, -np.inf), np.full(n, -np.inf)
        self.low, self.far = np.full(n, np.inf), np.zeros(n)

    def take(self, first, want, got):
        self.low = np.minimum(self.low, want.min(axis=1))
        self.far = np.maximum(self.far, np.abs(got - want).max(axis=1))
        at = want.argmax(axis=1)
        two = np.sort(want, axis=1)[:, -2:] if want.shape[1] > 1 else np.repeat(want, 2, axis=1)
        self.second = np.maximum(np.maximum(self.second, two[:, 0]),
                                 np.minimum(self.first, two[:, 1]))
        new = two[:, 1] > self.first
        self.best[new], self.first[new] = first + at[new], two[new, 1]

    def spread(self):
        return self.first - self.low


def compare(model, ids, logits, memory, tie):
    """(Rows, flips of each row, complaints)"""
    states, flips, wrong = states_of(model, ids, logits, memory, tie)
    rows = Rows(len(ids))
    for first, want in model.logits(states):
        rows.take(first, want, logits[:, first:first + want.shape[1]])
    wrong += [f"row {i}: logits differ by {e:.2e} of their spread"
              for i, e in enumerate(rows.far / rows.spread()) if not e <= LIMIT]
    wrong += [f"row {i}: the reference draws {rows.best[i]}, bnd {ids[i + 1]}"
              for i in range(PROMPT - 1, len(ids) - 1) if rows.best[i] != ids[i + 1]]
    return rows, flips, wrong


# ---- falsified references ---------------------------------------------------------------------

class Interleaved(Forward):
    """Rotates neighbours, as Meta's own code and GGUF's llama do."""

    def turn(self, x, position):
        hd = self.m.head_dim
        order = np.concatenate([np.arange(0, hd, 2), np.arange(1, hd, 2)])
        out = np.empty_like(x)
        out[:, order] = super().turn(x[:, order], position)
        return out


class Striped(Forward):
    """Shares key heads in turn instead of in runs."""

    def key_head(self, h):
        return h % self.m.kv_heads


class OtherActivation(Forward):
    def activation(self, x):
        return x / (1 + np.exp(-x)) if self.m.relu2 else np.maximum(x, 0) ** 2


def falsify(model, name):
    """A class of Forward to run instead, after spoiling the model; None: makes no difference here."""
    if name == "eps times ten":
        model.eps *= 10
    elif name == "theta times two":
        model.theta *= 2
    elif name == "neighbours rotated":
        return Interleaved
    elif name == "key heads striped":
        return None if model.kv_heads in (1, model.heads) else Striped
    elif name == "the other activation":
        return OtherActivation
    elif name == "no norm in front of o":
        if model.blocks[0]["attn_sub"] is None:
            return None
        model.blocks[0]["attn_sub"] = None
    elif name == "no norm in front of down":
        if model.blocks[0]["ffn_sub"] is None:
            return None
        model.blocks[0]["ffn_sub"] = None
    else:
        p = name.split()[-1]
        trits, scale = model.blocks[0][p]
        model.blocks[0][p] = ((trits, 1 / scale) if name.startswith("scale") else
                              (np.concatenate([trits[i::4] for i in range(4)]), scale))
    return Forward


MUTANTS = ["eps times ten", "theta times two", "neighbours rotated", "key heads striped",
           "the other activation", "no norm in front of o", "no norm in front of down",
           "scale inverted in v", "scale inverted in down", "rows of neighbours in q",
           "rows of neighbours in gate"]


def survivors(folder, ids, logits):
    """The falsifications that go unnoticed in the first rows."""
    alive = []
    for name in MUTANTS:
        model = Model(folder)
        kind = falsify(model, name)
        if kind is None:
            continue
        forward, judge, worst = kind(model, 0), Judge(model), 0.0
        for token, got in zip(ids[:MUTANT_ROWS], logits):
            row = forward.row(token)
            forward.keep(row.kept)
            worst = max(worst, judge.error(row.state, got))
        print(f"  {name}: {worst:.1e}")
        if worst <= LIMIT:
            alive.append(f"the check does not see it: {name}")
    return alive


# ---- the whole --------------------------------------------------------------------------------

def prompt_of(f, seed):
    """Ordinary tokens: no special ones, no padding."""
    rng = np.random.default_rng(seed)
    return [int(i) for i in rng.integers(f["named"] // 4, f["named"] // 2, PROMPT)]


def run(a, folder):
    f = family(a.family, a.true_size, a.layers)
    seed = zlib.crc32(a.family.encode()) + a.seed
    checkpoint, gguf = os.path.join(folder, "hf"), os.path.join(folder, "model.gguf")
    make(f, checkpoint, seed)
    convert_s, convert_mib, _ = run_child([a.convert, "-q", checkpoint, "-o", gguf])
    if gguf_sizes.of_file(gguf) != gguf_sizes.of_family(f):
        return [f"the file holds {gguf_sizes.of_file(gguf)}, not {gguf_sizes.of_family(f)}"]
    out = os.path.join(folder, "logits")
    _, _, text = run_child([a.logits, gguf, out, str(GREEDY)]
                           + [str(i) for i in prompt_of(f, seed)])
    load_s = float(re.search(r"loaded in ([0-9.]+) s", text)[1])
    ids, logits, memory = read_logits(out)
    if logits.shape != (PROMPT + GREEDY, f["vocab"]):
        return [f"logits of shape {logits.shape}"]
    if a.mutants:
        return survivors(checkpoint, ids, logits)
    rows, flips, wrong = compare(Model(checkpoint), ids, logits, memory, a.tie)
    spread = rows.spread()
    gap = ((rows.first - rows.second) / spread)[PROMPT - 1:-1].min()
    print(f"{a.family}: {f['layers']} layers of {f['dim']} x {f['ffn']}, {f['vocab']} tokens: "
          f"{len(ids)} rows agree to {(rows.far / spread).max():.1e} of their spread, "
          f"{sum(n > 0 for n in flips)} of them behind a rounding tie ({sum(flips)} values); "
          f"{GREEDY} greedy tokens, {len(set(ids[PROMPT:]))} different, nearest second {gap:.1e}; "
          f"converted in {convert_s:.1f} s with {convert_mib:.0f} MiB, loaded in {load_s:.2f} s")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--convert", required=True)
    parser.add_argument("--logits", required=True)
    parser.add_argument("--true-size", action="store_true")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--tie", type=float, default=TIE, help="how near a half is a tie")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bnd-reference-") as folder:
        wrong = run(a, folder)
    for line in wrong:
        print(f"{a.family}: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
