#!/usr/bin/python3
"""An independent reading of a `bitnet-b1.58` GGUF file: the definition of what inference must compute. numpy only.

    reference.py MODEL.gguf "prompt" [--tokens 200] [--temperature 0.7] [--top-p 0.9] [--seed 1]
    reference.py MODEL.gguf --golden OUT.json          greedy continuations of fixed prompts, for the tests

Arithmetic: the input of every projection is quantized per token, s = 127 / max(max|x|, 1e-5), rounded half to even,
clamped to -128..127; weights are -1, 0, 1 with one scale per tensor; sums are exact integers; result = sum / s * scale.
Everything else is float32 (or float64, --double). Embedding and head are the same F16 matrix and are not quantized.
"""
import argparse
import json
import struct

import numpy as np

import bpe

GOLDEN_PROMPTS = ["Once upon a time", "The little fox looked at the moon and said, \"", "\"Good morning,\" said the old woman.",
                  "Once there was a princess who", "The king had three sons, and the youngest",
                  "Deep in the forest there lived", "Lily was sad. She", "Once there was a little",
                  "One day, Max went to the park with his", "Ben and Mia are friends. They like to",
                  "Tom and his dog went to the park.", "There was once a poor woodcutter who had"]
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = f.read()
        self.at = 0
        magic, version, tensors, keys = struct.unpack("<4sIQQ", self.take(24))
        assert magic == b"GGUF" and version == 3
        self.kv = {}
        for _ in range(keys):
            key = self.string()
            self.kv[key] = self.value(self.number("I"))
        infos = []
        for _ in range(tensors):
            name = self.string()
            dims = [self.number("Q") for _ in range(self.number("I"))]
            infos.append((name, dims, self.number("I"), self.number("Q")))
        align = self.kv.get("general.alignment", 32)
        base = (self.at + align - 1) // align * align
        self.tensors = {name: self.tensor(dims, kind, base + offset) for name, dims, kind, offset in infos}

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self):
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            inner = self.number("I")
            return [self.value(inner) for _ in range(self.number("Q"))]
        return self.number(SCALARS[kind])

    def tensor(self, dims, kind, at):
        """Arrays in numpy order [out, in]. I2_S becomes (int8 array of -1, 0, 1; scale)."""
        shape, n = dims[::-1], int(np.prod(dims))
        if kind == 0:
            return np.frombuffer(self.data, "<f4", n, at).reshape(shape)
        if kind == 1:
            return np.frombuffer(self.data, "<f2", n, at).reshape(shape)
        assert kind == 36, f"tensor type {kind}"
        packed = np.frombuffer(self.data, np.uint8, n // 4, at).reshape(-1, 32)
        codes = np.stack([packed >> 6 & 3, packed >> 4 & 3, packed >> 2 & 3, packed & 3], 1)
        assert codes.max() <= 2
        return codes.reshape(shape).astype(np.int8) - np.int8(1), np.frombuffer(self.data, "<f4", 1, at + n // 4)[0]


def tokenizer(gguf):
    return bpe.Tokenizer([tuple(m.split(" ")) for m in gguf.kv["tokenizer.ggml.merges"]])


class Reference:
    def __init__(self, gguf, dtype=np.float32):
        kv = gguf.kv
        assert kv["general.architecture"] == "bitnet-b1.58"
        get = lambda key: kv["bitnet-b1.58." + key]
        self.t, self.dtype = gguf.tensors, dtype
        self.layers, self.dim, self.context = get("block_count"), get("embedding_length"), get("context_length")
        self.heads, self.kv_heads = get("attention.head_count"), get("attention.head_count_kv")
        self.hd, self.eps = get("rope.dimension_count"), dtype(get("attention.layer_norm_rms_epsilon"))
        self.freq = get("rope.freq_base") ** (-np.arange(0, self.hd, 2) / self.hd)
        self.embed = self.t["token_embd.weight"].astype(dtype)
        # Ternary matrices as float: sums stay below 2^24, so float32 products of whole numbers are exact.
        self.w = {k: (v[0].astype(np.float32), v[1]) for k, v in self.t.items() if isinstance(v, tuple)}
        self.clear()

    def clear(self):
        self.k = [np.zeros((0, self.kv_heads, self.hd), self.dtype) for _ in range(self.layers)]
        self.v = [np.zeros((0, self.kv_heads, self.hd), self.dtype) for _ in range(self.layers)]

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + self.eps) * self.t[name].astype(self.dtype)

    def linear(self, x, name):
        w, scale = self.w[name]
        s = self.dtype(127) / np.maximum(np.abs(x).max(-1, keepdims=True), self.dtype(1e-5))
        q = np.clip(np.rint(x * s), -128, 127).astype(np.float32)
        return (q @ w.T).astype(self.dtype) / s * self.dtype(scale)

    def rope(self, x, start):
        angle = (start + np.arange(len(x)))[:, None] * self.freq
        c, s = np.cos(angle).astype(self.dtype)[:, None], np.sin(angle).astype(self.dtype)[:, None]
        a, b = x[..., :self.hd // 2], x[..., self.hd // 2:]
        return np.concatenate([a * c - b * s, b * c + a * s], -1)

    def forward(self, ids):
        """Appends tokens; returns their logits [len(ids), vocab]."""
        x = self.embed[ids]
        n, start, group = len(ids), len(self.k[0]), self.heads // self.kv_heads
        for i in range(self.layers):
            b = f"blk.{i}."
            a = self.norm(x, b + "attn_norm.weight")
            q = self.linear(a, b + "attn_q.weight").reshape(n, self.heads, self.hd)
            k = self.linear(a, b + "attn_k.weight").reshape(n, self.kv_heads, self.hd)
            v = self.linear(a, b + "attn_v.weight").reshape(n, self.kv_heads, self.hd)
            self.k[i] = np.concatenate([self.k[i], self.rope(k, start)])
            self.v[i] = np.concatenate([self.v[i], v])
            q = self.rope(q, start).reshape(n, self.kv_heads, group, self.hd).transpose(1, 2, 0, 3)
            s = q @ self.k[i].transpose(1, 2, 0)[:, None] / self.dtype(np.sqrt(self.hd))
            s = np.where(np.arange(start + n) > start + np.arange(n)[:, None], self.dtype(-np.inf), s)
            p = np.exp(s - s.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            o = (p @ self.v[i].transpose(1, 0, 2)[:, None]).transpose(2, 0, 1, 3).reshape(n, self.heads * self.hd)
            x = x + self.linear(self.norm(o, b + "attn_sub_norm.weight"), b + "attn_output.weight")
            a = self.norm(x, b + "ffn_norm.weight")
            h = np.square(np.maximum(self.linear(a, b + "ffn_gate.weight"), 0)) * self.linear(a, b + "ffn_up.weight")
            x = x + self.linear(self.norm(h, b + "ffn_sub_norm.weight"), b + "ffn_down.weight")
        return self.norm(x, "output_norm.weight") @ self.embed.T

    def generate(self, ids, count, temperature=0.0, top_p=1.0, seed=1, stop=None):
        """Returns the new tokens, the stop token not included."""
        self.clear()
        rng, out = np.random.default_rng(seed), []
        logits = self.forward(ids)[-1]
        while len(out) < count:
            if temperature <= 0:
                token = int(np.argmax(logits))
            else:
                z = logits.astype(np.float64) / temperature
                p = np.exp(z - z.max())
                p /= p.sum()
                order = np.argsort(-p, kind="stable")
                keep = np.cumsum(p[order]) - p[order] < top_p
                p = p[order][keep]
                token = int(order[rng.choice(len(p), p=p / p.sum())])
            if token == stop:
                break
            out.append(token)
            if len(out) < count:
                logits = self.forward([token])[-1]
        return out


class Shaken(Reference):
    """The reference with every normed vector off by about two float32 roundings, as another order of sums may be."""

    def shake(self, seed):
        self.rng = np.random.default_rng(seed)
        return self

    def norm(self, x, name):
        y = super().norm(x, name)
        return y * (1 + self.rng.standard_normal(y.shape).astype(self.dtype) * self.dtype(2e-7))


def golden(gguf, path, wanted=3, trials=12):
    """Greedy continuations that do not hang on rounding. A value next to a rounding edge of the int8 quantizer can turn
    the other way and move the logits by some hundredths, so a case is taken only if float32, float64 and `trials` shaken
    runs all give the same tokens. `margin` is the smallest lead (in logits) of the winner over the second."""
    tok, cases, shaken = tokenizer(gguf), [], Shaken(gguf)
    models = Reference(gguf, np.float64), Reference(gguf)
    for prompt in GOLDEN_PROMPTS:
        if len(cases) == wanted:
            break
        ids = [tok.bos] + tok.encode(prompt)
        out = models[0].generate(ids, 48)
        stable = tok.eos not in out and models[1].generate(ids, 48) == out
        stable = stable and all(shaken.shake(i).generate(ids, 48) == out for i in range(trials))
        models[0].clear()
        top = np.sort(models[0].forward(ids + out)[len(ids) - 1:-1], -1)
        margin = float((top[:, -1] - top[:, -2]).min())
        print(f"{prompt!r}: {'stable' if stable else 'not taken'}, margin {margin:.4f}", flush=True)
        if stable:
            cases.append({"prompt": prompt, "prompt_ids": ids, "greedy_ids": out, "text": tok.decode(out),
                          "margin": round(margin, 4)})
    assert len(cases) == wanted
    lines = [",\n".join(f"   {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in c.items()) for c in cases]
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'{{\n "model": {json.dumps(gguf.kv["general.name"])},\n "written_by": "models/reference.py --golden",\n'
                ' "cases": [\n  {\n' + "\n  },\n  {\n".join(lines) + "\n  }\n ]\n}\n")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    a.add_argument("prompt", nargs="?")
    a.add_argument("--tokens", type=int, default=200)
    a.add_argument("--temperature", type=float, default=0.7)
    a.add_argument("--top-p", type=float, default=0.9)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--double", action="store_true")
    a.add_argument("--golden")
    a = a.parse_args()
    gguf = Gguf(a.model)
    if a.golden:
        golden(gguf, a.golden)
    if a.prompt is not None:
        tok = tokenizer(gguf)
        ids = [tok.bos] + tok.encode(a.prompt)
        out = Reference(gguf, np.float64 if a.double else np.float32).generate(ids, a.tokens, a.temperature, a.top_p,
                                                                               a.seed, tok.eos)
        print(a.prompt + tok.decode(out))


if __name__ == "__main__":
    main()
