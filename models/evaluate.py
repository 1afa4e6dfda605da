#!/usr/bin/python3
"""Measures a GGUF model with the numpy reference: bits per byte, stories, how much of them is copied.

    evaluate.py MODEL.gguf DATA_FOLDER [--samples 8] [--prompt "Once upon a time"] [--no-loss]

Bits per byte: the whole text is one sequence of tokens. Windows of the full context (BOS and context - 1 tokens) move on
by half a context; each scores the tokens that no window before it has scored, so all but the first tokens are predicted
from at least half a context. The sum of -log2 p over all tokens is divided by the number of UTF-8 bytes of the text.
Samples are the first ones drawn, seeds 1, 2, 3...: none are left out.
"""
import argparse
import os

import numpy as np

import data
import reference


def bits_per_byte(model, tok, text):
    ids, size = tok.encode(text), model.context - 1
    total, done, start = 0.0, 0, 0
    while done < len(ids):
        window = ids[start:start + size]
        model.clear()
        z = model.forward([tok.bos] + window[:-1]).astype(np.float64)
        z -= z.max(-1, keepdims=True)
        log_p = z[np.arange(len(window)), window] - np.log(np.exp(z).sum(-1))
        total -= log_p[done - start:].sum() / np.log(2)
        done = start + len(window)
        start += model.context // 2
    return total / len(text.encode("utf-8")), len(ids)


class Copies:
    """Longest run of words that a text shares with the training text."""

    def __init__(self, texts):
        self.words = " " + " | ".join(" ".join(data.words(t)) for t in texts) + " "

    def longest(self, text):
        w, best = data.words(text), 0
        for i in range(len(w)):
            while i + best < len(w) and " " + " ".join(w[i:i + best + 1]) + " " in self.words:
                best += 1
        return best, len(w)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("data")
    a.add_argument("--samples", type=int, default=8)
    a.add_argument("--tokens", type=int, default=250)
    a.add_argument("--prompt", default="Once upon a time")
    a.add_argument("--temperature", type=float, default=0.7)
    a.add_argument("--top-p", type=float, default=0.9)
    a.add_argument("--no-loss", action="store_true")
    a = a.parse_args()
    gguf = reference.Gguf(a.model)
    tok, model = reference.tokenizer(gguf), reference.Reference(gguf)
    sources = data.load(a.data)
    if not a.no_loss:
        with open(os.path.join(a.data, "fairytaleqa.test.txt"), encoding="utf-8", newline="") as f:
            test = f.read()
        tidy = "\n\n".join(data.paragraphs(data.clean(test)))
        for name, text in (("fairytaleqa.test.txt, whole file as it is", test),
                           ("fairytaleqa.test.txt, cleaned like the training text", tidy),
                           ("held-out TinyStories", "\n\n".join(sources["tiny.val"]))):
            bits, count = bits_per_byte(model, tok, text)
            print(f"{name}: {bits:.4f} bits per byte ({count} tokens)", flush=True)
    copies = Copies([d for s in ("tiny", "fairy", "books") for d in sources[s]])
    for seed in range(1, a.samples + 1):
        out = model.generate([tok.bos] + tok.encode(a.prompt), a.tokens, a.temperature, a.top_p, seed, tok.eos)
        text = a.prompt + tok.decode(out)
        run, count = copies.longest(text)
        print(f"\n=== seed {seed}: {len(out)} tokens, {'ended by itself' if len(out) < a.tokens else 'cut'}, "
              f"longest run copied from the training text {run} of {count} words\n{text}", flush=True)


if __name__ == "__main__":
    main()
