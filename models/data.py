#!/usr/bin/python3
"""Reads the raw corpora, cleans them, drops what overlaps the test text, and splits them into documents.

    data.py DATA_FOLDER OUT_FOLDER [--vocab 4096] [--variants 12]

DATA_FOLDER holds children.txt, fairytaleqa.{train,val,test}.txt and tinystories-0.94MB.txt. OUT_FOLDER receives
tokenizer.json (the merges) and tokens.npz: per source one array of token ids, every document as BOS ... EOS, and the
start of every document. fairytaleqa.test.txt is only used to know which passages to leave out of the training text.
"""
import argparse
import os
import re

import numpy as np

import bpe

OPENING = re.compile(r"^[\"']?(Once upon a time|Once,? (there|on|in|when|long)|There (was|were|lived) once|There once|"
                     r"Long,? long ago|Long ago|In (the )?(old|olden|ancient) |A long time ago|There was a |There were |"
                     r"There lived|Many years ago|One day,? (a|there)|In a )")
MOJIBAKE = [("\u00e2\u20ac\u2122", "'"), ("\u00e2\u20ac\u02dc", "'"), ("\u00e2\u20ac\u0153", '"'),
            ("\u00e2\u20ac\u009d", '"'), ("\u00e2\u20ac\u201d", "--"), ("\u00e2\u20ac\u201c", "--"),
            ("\u00e2\u20ac\u00a6", "..."), ("\u00e2\u20ac", '"')]
PLAIN = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-", "\u2026": "...",
         "\u00a0": " ", "\u200b": "", "\ufeff": "", "\r": "\n", "\t": " ", "_": "", "*": "", "|": "", "`": "'"}


def clean(text):
    """One character set for quotes and dashes, no mark-up, no spaces left by removed italics."""
    for bad, good in MOJIBAKE:
        text = text.replace(bad, good)
    for bad, good in PLAIN.items():
        text = text.replace(bad, good)
    text = re.sub(r"\[[^\]\n]{0,200}\]|\{[^}\n]{0,200}\}|<[^>\n]{0,40}>", "", text)   # captions, notes, tags
    text = text.replace("''", '"')
    text = re.sub(r" (n't|'(?:ll|ve|re|s|d|m))\b", r"\1", text)                         # "did n't" -> "didn't"
    text = re.sub(r" +([,;:.!?])(?=[\s\"'])", r"\1", text)                              # "kapa , or" -> "kapa, or"
    return re.sub(r" {2,}", " ", text)


def paragraphs(text):
    """Joins hard-wrapped lines: a line that ends without closing punctuation runs on, and so does a line after a wrap."""
    result = []
    for block in re.split(r"\n\s*\n", text):
        run = []
        for line in (l.strip() for l in block.split("\n")):
            if not line:
                continue
            wrapped = run and (run[-1][-1] not in ".!?\"':;" or line[0].islower())
            if wrapped:
                run[-1] += " " + line
            else:
                run.append(line)
        result += run
    return result


# Exchangeable words: a story stays a story when one is put for another throughout.
GIRLS = ("Lily Mia Anna Sara Lucy Jane Molly Sarah Lila Sue Jill Daisy Sally Amy Mary Emma Jenny Grace Lulu Emily Annie "
         "Ella Rachel Kate Alice Sophie Nora Rita Ruby Betty Lola Suzy").split()
BOYS = ("Ben Tom Timmy Jack Tim Sam Max John Bob Joe Tommy Billy Jimmy Benny Andy James Jake Jim Frank George Charlie "
        "Danny Peter Henry Gary Ted Thomas Paul Mike Leo Fred Pete").split()
BEASTS = "dog cat rabbit bear fox mouse lion pig squirrel puppy kitten horse".split()
COLOURS = "red blue green yellow pink purple white black brown".split()
MOTHERS, FATHERS = "mom mommy mother mama".split(), "dad daddy father papa".split()
SAME = ["big large huge".split(), "happy glad cheerful".split(), "little small tiny".split(), "pretty beautiful lovely".split(),
        "scared frightened".split(), "shouted yelled cried".split(), "kind friendly".split(),
        "thankful grateful".split(), "began started".split(), "replied answered".split()]


def vary(story, rng):
    """Another telling of a story: other names, beasts, colours and near-synonyms, each exchanged throughout."""
    swap = {}

    def exchange(group, chance):
        present = [w for w in group if re.search(rf"\b{w}\b", story)]
        if present and rng.random() < chance:
            for old, new in zip(present, rng.choice(group, len(present), replace=False)):
                swap[old] = str(new)

    exchange(GIRLS, 0.85)
    exchange(BOYS, 0.85)
    if not re.search(r"bark|meow|purr|woof|roar|tail|squeak|neigh|oink", story):
        exchange(BEASTS, 0.5)
    exchange(COLOURS, 0.5)
    for group in [MOTHERS, FATHERS] + SAME:
        present = [w for w in group if re.search(rf"\b{w}\b", story, re.I)]
        if present and rng.random() < 0.4:
            new = str(rng.choice(group))
            swap.update((w, new) for w in present)
            swap.update((w.capitalize(), new.capitalize()) for w in present)
    if not swap:
        return story
    return re.sub(r"\b(" + "|".join(map(re.escape, swap)) + r")\b", lambda m: swap[m.group(1)], story)


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


class TestOverlap:
    """Finds paragraphs that share 13 words in a row with the test text."""
    N = 13

    def __init__(self, test_text):
        w = words(test_text)
        self.grams = {hash(tuple(w[i:i + self.N])) for i in range(len(w) - self.N + 1)}
        self.dropped = 0

    def split(self, paras):
        """Drops overlapping paragraphs, and short runs between two of them; returns the runs that remain."""
        flat, owner = [], []
        for i, p in enumerate(paras):
            w = words(p)
            flat += w
            owner += [i] * len(w)
        bad = set()
        for i in range(len(flat) - self.N + 1):
            if hash(tuple(flat[i:i + self.N])) in self.grams:
                bad.update(range(owner[i], owner[i + self.N - 1] + 1))
        last = None
        for i in sorted(bad):
            if last is not None and i - last <= 6:
                bad.update(range(last, i))
            last = i
        self.dropped += sum(len(paras[i]) for i in bad)
        runs = [[]]
        for i, p in enumerate(paras):
            if i in bad:
                if runs[-1]:
                    runs.append([])
            else:
                runs[-1].append(p)
        return [r for r in runs if r]


def documents(runs, limit=24000):
    """Cuts runs of paragraphs at openings of tales, and anything longer than `limit` characters."""
    docs, size = [], 0
    for run in runs:
        docs.append([])
        size = 0
        for p in run:
            if docs[-1] and (size > limit or size > 1500 and OPENING.match(p)):
                docs.append([])
                size = 0
            docs[-1].append(p)
            size += len(p)
    return ["\n\n".join(d) for d in docs if d]


def load(folder):
    """Returns {source: [document, ...]}; keys ending in .val are held out."""
    def read(name):
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
            return f.read()

    overlap = TestOverlap(read("fairytaleqa.test.txt"))
    out = {}
    tiny = clean(re.sub(r"(?<!\n)\n(?!\n)", "\x00", read("tinystories-0.94MB.txt").replace("\r", "")))
    tiny = [re.sub(r"\s*\n\s*", "\n\n", s.strip()) for s in tiny.split("\x00") if len(s.strip()) > 150]
    tiny = [s for s in tiny if s[-1] in ".!?\"'" and overlap.split([s])]
    out["tiny"] = [s for i, s in enumerate(tiny) if i % 20 != 7]
    out["tiny.val"] = [s for i, s in enumerate(tiny) if i % 20 == 7]
    for name in ("train", "val"):
        runs = overlap.split(paragraphs(clean(read(f"fairytaleqa.{name}.txt"))))
        out["fairy" if name == "train" else "fairy.val"] = documents(runs)
    books = documents(overlap.split(paragraphs(clean(read("children.txt")))), 8000)

    # How plain is a passage? The mean log frequency of its words in the simple sources.
    counts = {}
    for weight, source in ((4, "tiny"), (1, "fairy")):
        for d in out[source]:
            for w in words(d):
                counts[w] = counts.get(w, 0) + weight
    plain = [np.mean([np.log(counts.get(w, 0) + 0.5) for w in words(d)] or [0]) for d in books]
    edge = np.quantile(plain, 0.70)
    out["books"] = books
    out["plain"] = [d for d, s in zip(books, plain) if s >= edge]
    print("characters dropped because they overlap the test text:", overlap.dropped)
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("data")
    a.add_argument("out")
    a.add_argument("--vocab", type=int, default=4096)
    a.add_argument("--variants", type=int, default=12, help="tellings of every TinyStories story, the original included")
    a = a.parse_args()
    os.makedirs(a.out, exist_ok=True)
    sources = load(a.data)
    weights = {"tiny": 8, "fairy": 3, "books": 1}
    tok = bpe.train([(d, w) for s, w in weights.items() for d in sources[s]], a.vocab)
    tok.save(os.path.join(a.out, "tokenizer.json"))
    arrays = {}
    rng = np.random.default_rng(1)
    sources["tiny"] += [vary(d, rng) for _ in range(a.variants - 1) for d in sources["tiny"]]
    for name, docs in sources.items():
        ids, starts = [], []
        for d in docs:
            starts.append(len(ids))
            ids += [tok.bos] + tok.encode(d) + [tok.eos]
        arrays[name] = np.array(ids, np.uint16)
        arrays[name + ".starts"] = np.array(starts, np.int64)
        size = sum(len(d.encode()) for d in docs)
        print(f"{name}: {len(docs)} documents, {size} bytes, {len(ids)} tokens, {size / len(ids):.2f} bytes per token")
    np.savez(os.path.join(a.out, "tokens.npz"), **arrays)


if __name__ == "__main__":
    main()
