"""An independent forward pass of the ternary decoder families, in float64, from a Hugging Face folder.

It shares no code with bnd, reads no GGUF, and permutes nothing. Where each fact comes from:

  packed trits       transformers integrations/bitnet.py, pack_weights and unpack_weights: value + 1
                     in two bits; the bits 2i of byte row r are output row i * (out / 4) + r
  scale, divides     the same file, BitLinear.forward: y = (x_q W) / (input_scale * weight_scale)
  scale, multiplies  the same file, AutoBitLinear.forward (quantization_config.linear_class
                     "autobitlinear"), which multiplies by weight_scale
  ternarizing        the same file, WeightQuant, and 1bitLLM's utils_quant.py: 1 / mean |W| floored at
                     1e-5, round half to even, clamp to -1 .. 1; b1.58: arXiv 2402.17764, (1) to (3)
  activations        the same file, ActQuant: 127 / max |x| of the token, floored at 1e-5, half to even
  where they are     modeling_bitnet.py and 1bitLLM's modeling_bitnet.py: in front of all seven
                     projections; embedding and output matrix are not quantized
  order in a layer   modeling_bitnet.py, BitNetDecoderLayer; attn_sub_norm in front of o_proj,
                     ffn_sub_norm in front of down_proj: BitNetAttention, BitNetMLP, 2504.12285
  RMS norm           modeling_llama.py, LlamaRMSNorm: eps inside the root, then the gain; 1910.07467
  rotation           modeling_llama.py, rotate_half: pairs (i, i + head / 2), angle
                     position * theta^(-2i / head); 2104.09864. Checkpoints are never permuted
  grouped heads      modeling_llama.py, repeat_kv: query head h reads key head h // (heads / kv heads);
                     1 / sqrt(head) on the scores; 2305.13245, 1706.03762
  feed forward       LlamaMLP: down(act(gate) * up); 2002.05202. config.json's hidden_act: silu, or
                     relu2 = max(0, x)^2 (2B-4T: 2504.12285)
  order of the norms modeling_llama.py, LlamaDecoderLayer: before attention and feed forward, and once
                     in front of the output matrix, which is the embedding where tie_word_embeddings

Two storage decisions of bnd are part of the model it computes, for they are choices and not errors: the
embedding and output matrices are rounded to binary16, and so are the keys and values kept per position.

Activations are quantized to int8, keys and values to binary16, so the model has steps: where a value
lies within float error of the middle between two of them, single and double precision may round apart,
both rightly, and everything after differs by a per mille or more. `Forward.row` therefore reports
activations that close to a tie (`near`) and can be told to round some of them the other way (`flips`);
whoever compares may use that freedom for those values and no others. Keys and values that somebody else
stored for a row can be given to it (`stored`): where all of a layer's are its own but for float error in
front of the rounding, it goes on with those, and says in which layers they were not.

Memory: the trits as float32, and a few rows of everything else; tables stay in their files.
"""
import json
import os
import struct

import numpy as np

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U8": np.uint8}
CHUNK = 1 << 24  # elements of a table looked at together
STORED = 1e-6    # error of keys and values before they are rounded, of the largest of the row


class Tensors:
    """The safetensors of a folder, mapped."""

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
        return np.memmap(path, DTYPES[entry["dtype"]], "r", data + entry["data_offsets"][0],
                         tuple(entry["shape"]))

    def floats(self, name):
        return widen(self.raw(name))


def widen(bits):
    """Stored numbers as float32; uint16 are bfloat16, the upper half of one."""
    if bits.dtype == np.uint16:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float32)


def half(x):
    return x.astype(np.float32).astype(np.float16).astype(np.float64)


def one_size(w):
    """The size of all values that are not zero, or None when they have several: latent weights."""
    size = np.abs(w)
    s = size.max()
    return float(s) if s > 0 and bool(np.all((size == s) | (size == 0))) else None


def ternary(tensors, name, multiplies):
    """(trits as float32 [out, in], scale) of a projection: W = trits * scale."""
    bits = tensors.raw(name + ".weight")
    if bits.dtype == np.uint8:
        rows = len(bits)
        trits = np.empty((4 * rows, bits.shape[1]), np.float32)
        for i in range(4):
            trits[i * rows:(i + 1) * rows] = bits >> (2 * i) & 3
        trits -= 1
        stored = float(tensors.floats(name + ".weight_scale").reshape(-1)[0])
        return trits, stored if multiplies else 1.0 / stored
    w = widen(bits)
    size = one_size(w)
    if size is not None:  # already -s, 0, s
        return np.sign(w), size
    mean = np.float32(np.abs(w).mean(dtype=np.float64))
    factor = np.float32(1) / np.maximum(mean, np.float32(1e-5))
    return np.clip(np.rint(w * factor), -1, 1), float(np.float32(1) / factor)


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
        self.embed = t.raw("model.embed_tokens.weight")
        self.head = self.embed if c["tie_word_embeddings"] else t.raw("lm_head.weight")
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

    def logits(self, x, most=None):
        """Of normed states x [rows, dim], an iterator over (first token, [rows, some tokens]): the
        output matrix is most of a model, and is gone through once."""
        tokens = len(self.head) if most is None else min(most, len(self.head))
        step = max(1, CHUNK // self.head.shape[1])
        for first in range(0, tokens, step):
            part = half(widen(self.head[first:min(first + step, tokens)]))
            yield first, x @ part.T


class Row:
    """One token's way through the model: the normed state that the output matrix takes, activations
    near a tie as (distance, site, index), what keep() wants; how many layers from the first on have
    the keys and values that were stored, and how far they are from those in the last one visited."""

    def __init__(self):
        self.state, self.near, self.kept, self.same, self.off = None, [], [], 0, 0.0


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
        # Float errors are relative: a large value may lie that much farther from the tie.
        margin = np.abs(np.abs(y - np.floor(y)) - 0.5) / np.maximum(1, np.abs(y) / 16)
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

    def key_head(self, h):
        return h // (self.m.heads // self.m.kv_heads)

    def attend(self, layer, q, k, v):
        m, hd = self.m, self.m.head_dim
        keys = np.stack(self.k[layer] + [k])    # [positions, kv_heads, hd]
        values = np.stack(self.v[layer] + [v])
        out = np.empty((m.heads, hd))
        for h in range(m.heads):
            g = self.key_head(h)
            score = keys[:, g] @ q[h] / np.sqrt(hd)
            p = np.exp(score - score.max())
            out[h] = (p / p.sum()) @ values[:, g]
        return out.reshape(-1)

    def activation(self, x):
        return np.maximum(x, 0) ** 2 if self.m.relu2 else x / (1 + np.exp(-x))

    @staticmethod
    def remember(k, v, stored):
        """The keys and values of this row as they are kept, and how far the stored ones are from
        those computed: 0 when float error in front of the rounding explains it."""
        own = half(k), half(v)
        if stored is None:
            return own, np.inf
        for x, was in zip((k, v), stored):
            ulp = 2.0 ** np.maximum(np.frexp(x)[1] - 11, -24)
            if np.any(np.abs(was - x) > 0.5 * ulp + STORED * np.abs(x).max()):
                return own, np.sqrt(np.mean((stored[0] - k) ** 2) + np.mean((stored[1] - v) ** 2))
        return stored, 0.0

    def layer(self, i, x, position, row, flips, stored, whole):
        m, b, near = self.m, self.m.blocks[i], row.near
        h = self.quantize(self.rms(x, b["attn_norm"]), (i, "attn"), flips, near)
        q = self.turn(self.product(b["q"], h).reshape(m.heads, -1), position)
        k = self.turn(self.product(b["k"], h).reshape(m.kv_heads, -1), position)
        (k, v), row.off = self.remember(k, self.product(b["v"], h).reshape(m.kv_heads, -1), stored)
        row.kept.append((k, v))
        if row.off > 0 and not whole:
            return None
        row.same += row.off == 0 and row.same == i
        a = self.attend(i, q, k, v)
        if b["attn_sub"] is not None:
            a = self.rms(a, b["attn_sub"])
        x = x + self.product(b["o"], self.quantize(a, (i, "o"), flips, near))
        h = self.quantize(self.rms(x, b["ffn_norm"]), (i, "ffn"), flips, near)
        f = self.activation(self.product(b["gate"], h)) * self.product(b["up"], h)
        if b["ffn_sub"] is not None:
            f = self.rms(f, b["ffn_sub"])
        return x + self.product(b["down"], self.quantize(f, (i, "down"), flips, near))

    def row(self, token, flips=frozenset(), stored=None, whole=True):
        """What follows this token; keeps nothing itself. `stored`: (k, v) of each layer, [kv heads,
        head] each. Not `whole`: only up to the first layer that has others."""
        position, row = len(self.k[0]), Row()
        x = half(widen(self.m.embed[token]))
        for i in range(self.m.layers):
            x = self.layer(i, x, position, row, flips, stored[i] if stored else None,
                           whole or not stored)
            if x is None:
                break
        row.near.sort()
        if x is not None:
            row.state = self.rms(x, self.m.norm)
        return row

    def keep(self, kept):
        for i, (k, v) in enumerate(kept):
            self.k[i].append(k)
            self.v[i].append(v)
