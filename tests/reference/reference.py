"""An independent forward pass of the ternary decoder families, in float64, from a Hugging Face folder.

Written from the papers (BitNet b1.58: arXiv 2402.17764; BitNet b1.58 2B4T: 2504.12285; Llama:
2302.13971; RoPE: 2104.09864; grouped queries: 2305.13245) and the documented layout of checkpoints. It
shares no code with bnd, reads no GGUF, and permutes nothing: heads rotate by halves, as in training.

Two storage decisions of bnd are part of the model it computes, for they are choices and not errors: the
embedding and output matrices are rounded to binary16, and so are the keys and values kept per position.

Activations are quantized to int8, so the model has steps: where x * s lies within float error of a half,
single and double precision may round apart, both rightly, and everything after differs by a per mille or
more. `Forward.row` therefore reports values that close to a tie (`near`) and can be told to round some of
them the other way (`flips`); whoever compares may use that freedom for those values and no others.
"""
import json
import os
import struct

import numpy as np

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8}


class Tensors:
    """The safetensors of a folder, read one tensor at a time."""

    def __init__(self, folder):
        self.where = {}
        index = os.path.join(folder, "model.safetensors.index.json")
        names = ["model.safetensors"]
        if not os.path.exists(os.path.join(folder, names[0])):
            with open(index) as f:
                names = sorted(set(json.load(f)["weight_map"].values()))
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                n = struct.unpack("<Q", f.read(8))[0]
                header = json.loads(f.read(n))
            header.pop("__metadata__", None)
            for tensor, entry in header.items():
                self.where[tensor] = (path, 8 + n, entry)

    def __contains__(self, name):
        return name in self.where

    def raw(self, name):
        path, data, entry = self.where[name]
        begin, end = entry["data_offsets"]
        with open(path, "rb") as f:
            f.seek(data + begin)
            bits = np.frombuffer(f.read(end - begin), DTYPES[entry["dtype"]])
        return bits.reshape(entry["shape"]), entry["dtype"]

    def floats(self, name):
        x, dtype = self.raw(name)
        if dtype == "BF16":
            return (x.astype(np.uint32) << 16).view(np.float32)
        return x.astype(np.float32)


def half(x):
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


def ternary(tensors, name, multiplies):
    """(trits as float32 [out, in], scale) of a projection: W = trits * scale."""
    bits, dtype = tensors.raw(name + ".weight")
    if dtype == "U8":
        trits = np.concatenate([(bits >> (2 * i) & 3) for i in range(4)]).astype(np.float32) - 1
        stored = float(tensors.floats(name + ".weight_scale").reshape(-1)[0])
        return trits, stored if multiplies else 1.0 / stored
    w = tensors.floats(name + ".weight")
    size = np.abs(w)
    values = np.unique(size[size > 0])
    if len(values) == 1:  # already -s, 0, s
        return np.sign(w).astype(np.float32), float(values[0])
    mean = np.float32(size.astype(np.float64).mean())
    factor = np.float32(1) / np.maximum(mean, np.float32(1e-5))
    return np.clip(np.rint(w * factor), -1, 1).astype(np.float32), float(np.float32(1) / factor)


class Model:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as f:
            c = json.load(f)
        t = Tensors(folder)
        self.layers = c["num_hidden_layers"]
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps, self.theta = c["rms_norm_eps"], c["rope_theta"]
        self.relu2 = c["hidden_act"] == "relu2"
        multiplies = c.get("quantization_config", {}).get("linear_class") == "autobitlinear"
        self.embed = t.floats("model.embed_tokens.weight").astype(np.float16)
        self.head = self.embed
        if not c["tie_word_embeddings"]:
            self.head = t.floats("lm_head.weight").astype(np.float16)
        self.norm = t.floats("model.norm.weight").astype(np.float64)
        self.blocks = [self.block(t, f"model.layers.{i}.", multiplies)
                       for i in range(self.layers)]

    @staticmethod
    def block(t, prefix, multiplies):
        names = {"attn_norm": ["input_layernorm"], "ffn_norm": ["post_attention_layernorm"],
                 "attn_sub": ["self_attn.attn_sub_norm", "self_attn.inner_attn_ln"],
                 "ffn_sub": ["mlp.ffn_sub_norm", "mlp.ffn_layernorm"]}
        b = {}
        for key, spellings in names.items():
            b[key] = None
            for s in spellings:
                if prefix + s + ".weight" in t:
                    b[key] = t.floats(prefix + s + ".weight").astype(np.float64)
        for p in ("q", "k", "v", "o"):
            b[p] = ternary(t, f"{prefix}self_attn.{p}_proj", multiplies)
        for p in ("gate", "up", "down"):
            b[p] = ternary(t, f"{prefix}mlp.{p}_proj", multiplies)
        return b


class Forward:
    """One sequence: row after row, with its keys and values."""

    def __init__(self, model, tie):
        self.m, self.tie = model, tie
        self.k = [[] for _ in range(model.layers)]
        self.v = [[] for _ in range(model.layers)]

    def rms(self, x, gain):
        return x / np.sqrt(np.mean(x * x) + self.m.eps) * gain

    def quantize(self, x, site, flips, near):
        s = 127.0 / max(np.abs(x).max(), 1e-5)
        y = x * s
        q = np.rint(y)
        margin = np.abs(np.abs(y - np.floor(y)) - 0.5)
        for i in np.flatnonzero(margin < self.tie):
            other = np.floor(y[i]) + np.ceil(y[i]) - q[i]
            near.append((margin[i], site, int(i)))
            if (site, int(i)) in flips:
                q[i] = other
        # Products of integers below 2^24 in sum: exact in float32.
        return np.clip(q, -128, 127).astype(np.float32), s

    @staticmethod
    def product(w, x):
        trits, scale = w
        q, s = x
        return (trits @ q).astype(np.float64) / s * scale

    def turn(self, x, position):
        hd = self.m.head_dim
        angle = position * self.m.theta ** (-2.0 * np.arange(hd // 2) / hd)
        a, b = x[:, :hd // 2], x[:, hd // 2:]
        c, s = np.cos(angle), np.sin(angle)
        return np.concatenate([a * c - b * s, b * c + a * s], axis=1)

    def attend(self, layer, q, k, v):
        m, hd = self.m, self.m.head_dim
        keys = np.stack(self.k[layer] + [k])    # [positions, kv_heads, hd]
        values = np.stack(self.v[layer] + [v])
        out = np.empty((m.heads, hd))
        for h in range(m.heads):
            g = h // (m.heads // m.kv_heads)
            score = keys[:, g] @ q[h] / np.sqrt(hd)
            p = np.exp(score - score.max())
            out[h] = (p / p.sum()) @ values[:, g]
        return out.reshape(-1)

    def layer(self, i, x, position, flips, near):
        m, b = self.m, self.m.blocks[i]
        h = self.quantize(self.rms(x, b["attn_norm"]), (i, "attn"), flips, near)
        q = self.turn(self.product(b["q"], h).reshape(m.heads, -1), position)
        k = half(self.turn(self.product(b["k"], h).reshape(m.kv_heads, -1), position))
        v = half(self.product(b["v"], h).reshape(m.kv_heads, -1))
        a = self.attend(i, q, k, v)
        if b["attn_sub"] is not None:
            a = self.rms(a, b["attn_sub"])
        x = x + self.product(b["o"], self.quantize(a, (i, "o"), flips, near))
        h = self.quantize(self.rms(x, b["ffn_norm"]), (i, "ffn"), flips, near)
        gate, up = self.product(b["gate"], h), self.product(b["up"], h)
        act = np.maximum(gate, 0) ** 2 if m.relu2 else gate / (1 + np.exp(-gate))
        f = act * up
        if b["ffn_sub"] is not None:
            f = self.rms(f, b["ffn_sub"])
        return x + self.product(b["down"], self.quantize(f, (i, "down"), flips, near)), k, v

    def row(self, token, flips=frozenset(), vocab=None):
        """(logits [vocab], near, what keep() wants) of the next token; keeps nothing itself. With
        `vocab` only the first so many logits: the output matrix is most of the work."""
        position, near, kept = len(self.k[0]), [], []
        x = self.m.embed[token].astype(np.float64)
        for i in range(self.m.layers):
            x, k, v = self.layer(i, x, position, flips, near)
            kept.append((k, v))
        x = self.rms(x, self.m.norm)
        head = self.m.head[:vocab]
        logits = np.concatenate([head[r:r + 8192].astype(np.float64) @ x
                                 for r in range(0, len(head), 8192)])
        return logits, sorted(near), kept

    def keep(self, kept):
        for i, (k, v) in enumerate(kept):
            self.k[i].append(k)
            self.v[i].append(v)
