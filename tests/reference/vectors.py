"""An independent forward pass of BitNet-embedding, in float64, from a Hugging Face folder.

Written from the papers (Qwen3: arXiv 2505.09388; Gemma 3: 2503.19786; norms of heads: 2302.05442;
GELU: 1606.08415; BitNet b1.58: 2402.17764, with an RMS norm inside each BitLinear) and the documented
layout of checkpoints. Like reference.py it shares no code with bnd and reads no GGUF; what that file says
about storage and about rounding ties holds here too. A text passes as a whole, layer after layer, with a
mask, where the engine goes row by row with a cache.

The tokenizers are the textbook's: all merges tried again and again, best rank first, on one list of
symbols. They know just enough of the splitters for the texts of check_vectors.py.
"""
import json
import os
import unicodedata

import numpy as np

from reference import Tensors, half, ternary


class VectorModel:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as f:
            c = json.load(f)
        with open(os.path.join(folder, "1_Pooling", "config.json")) as f:
            self.mean = json.load(f)["pooling_mode_mean_tokens"]
        t = Tensors(folder)
        self.prefix = "" if "norm.weight" in t else "model."
        self.gemma = c["model_type"] == "gemma3_text"
        self.layers, self.dim = c["num_hidden_layers"], c["hidden_size"]
        self.heads, self.kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim, self.eps, self.theta = c["head_dim"], c["rms_norm_eps"], c["rope_theta"]
        self.window = c.get("sliding_window")
        self.local_theta = c.get("rope_local_base_freq")
        self.types = c.get("layer_types") or ["full_attention"] * self.layers
        self.embed = t.floats(self.prefix + "embed_tokens.weight").astype(np.float16)
        self.norm = self.gain(t, "norm.weight", own=True)
        self.blocks = [self.block(t, f"layers.{i}.") for i in range(self.layers)]

    def gain(self, t, name, own):
        """Gemma multiplies by 1 + w in its own norms; those of BitLinear are ordinary."""
        w = t.floats(self.prefix + name).astype(np.float64)
        return w + 1 if own and self.gemma else w

    def block(self, t, layer):
        names = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm",
                 "self_attn.k_norm"]
        if self.gemma:
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        b = {n.split(".")[-1]: self.gain(t, f"{layer}{n}.weight", own=True) for n in names}
        for p in ("q", "k", "v", "o"):
            b[p] = self.linear(t, f"{layer}self_attn.{p}_proj")
        for p in ("gate", "up", "down"):
            b[p] = self.linear(t, f"{layer}mlp.{p}_proj")
        return b

    def linear(self, t, name):
        return ternary(t, self.prefix + name, False) + (self.gain(t, name + ".norm.weight", False),)


class Embedding:
    """One text. `flips` are the (layer, projection, token, column) rounded the other way."""

    def __init__(self, model, tie):
        self.m, self.tie = model, tie

    def rms(self, x, gain):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.m.eps) * gain

    def product(self, i, name, x):
        """BitLinear: norm, int8 with one scale for each token, ternary product."""
        trits, scale, gain = self.m.blocks[i][name]
        x = self.rms(x, gain)
        s = 127.0 / np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-5)
        y = x * s
        q = np.rint(y)
        margin = np.abs(np.abs(y - np.floor(y)) - 0.5)
        for token, column in np.argwhere(margin < self.tie):
            site = (i, name, int(token), int(column))
            self.near.append((margin[token, column], site))
            if site in self.flips:
                v = y[token, column]
                q[token, column] = np.floor(v) + np.ceil(v) - q[token, column]
        return (np.clip(q, -128, 127) @ trits.T.astype(np.float64)) / s * scale

    def turn(self, x, theta):
        """x [tokens, heads, head_dim], by halves."""
        n, hd = len(x), self.m.head_dim
        angle = np.outer(np.arange(n), theta ** (-2.0 * np.arange(hd // 2) / hd))[:, None, :]
        a, b, c, s = x[..., :hd // 2], x[..., hd // 2:], np.cos(angle), np.sin(angle)
        return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)

    def attention(self, i, h):
        m, n = self.m, len(h)
        b, local = m.blocks[i], m.types[i] == "sliding_attention"
        theta = m.local_theta if local else m.theta
        q = self.product(i, "q", h).reshape(n, m.heads, -1)
        k = self.product(i, "k", h).reshape(n, m.kv_heads, -1)
        v = half(self.product(i, "v", h)).reshape(n, m.kv_heads, -1)
        q = self.turn(self.rms(q, b["q_norm"]), theta)
        k = half(self.turn(self.rms(k, b["k_norm"]), theta))
        distance = np.subtract.outer(np.arange(n), np.arange(n))
        seen = distance >= 0
        if local:
            seen &= distance < m.window
        out = np.empty((n, m.heads, m.head_dim))
        for head in range(m.heads):
            g = head // (m.heads // m.kv_heads)
            score = np.where(seen, q[:, head] @ k[:, g].T / np.sqrt(m.head_dim), -np.inf)
            p = np.exp(score - score.max(axis=1, keepdims=True))
            out[:, head] = (p / p.sum(axis=1, keepdims=True)) @ v[:, g]
        return self.product(i, "o", out.reshape(n, -1))

    def feed_forward(self, i, h):
        gate, up = self.product(i, "gate", h), self.product(i, "up", h)
        if self.m.gemma:
            act = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate ** 3)))
        else:
            act = gate / (1 + np.exp(-gate))
        return self.product(i, "down", act * up)

    def vector(self, ids, flips=frozenset()):
        """(vector [dim], values near a tie)."""
        m, self.near, self.flips = self.m, [], flips
        x = m.embed[ids].astype(np.float64)
        if m.gemma:
            x = x * np.sqrt(m.dim)
        for i in range(m.layers):
            b = m.blocks[i]
            added = self.attention(i, self.rms(x, b["input_layernorm"]))
            if m.gemma:
                added = self.rms(added, b["post_attention_layernorm"])
            x = x + added
            before = b["pre_feedforward_layernorm" if m.gemma else "post_attention_layernorm"]
            added = self.feed_forward(i, self.rms(x, before))
            if m.gemma:
                added = self.rms(added, b["post_feedforward_layernorm"])
            x = x + added
        x = self.rms(x, m.norm)
        v = x.mean(axis=0) if m.mean else x[-1]
        return v / np.linalg.norm(v), sorted(self.near)


class Tokenizer:
    def __init__(self, folder):
        with open(os.path.join(folder, "tokenizer.json")) as f:
            t = json.load(f)
        self.qwen = t["normalizer"]["type"] == "NFC"
        self.vocab = dict(t["model"]["vocab"])
        self.vocab.update({a["content"]: a["id"] for a in t["added_tokens"]})
        pairs = (tuple(m.split(" ")) if isinstance(m, str) else tuple(m)
                 for m in t["model"]["merges"])
        self.rank = {pair: i for i, pair in enumerate(pairs)}

    def merge(self, symbols):
        while len(symbols) > 1:
            ranks = [self.rank.get(p, 1 << 60) for p in zip(symbols, symbols[1:])]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == 1 << 60:
                break
            symbols = symbols[:best] + [symbols[best] + symbols[best + 1]] + symbols[best + 2:]
        return symbols

    def encode(self, text):
        if not self.qwen:
            symbols = [c if c in self.vocab else None for c in text.replace(" ", "\u2581")]
            ids = [self.vocab["<bos>"]]
            assert None not in symbols, "a text with bytes is for the C tests"
            return ids + [self.vocab[s] for s in self.merge(symbols)] + [self.vocab["<eos>"]]
        from make_checkpoint import byte_alphabet
        alphabet, ids = byte_alphabet(), []
        # Words with the space in front of them, digits alone.
        pieces, piece = [], ""
        for c in unicodedata.normalize("NFC", text):
            if piece and (c == " " or c.isdigit() or piece[-1].isdigit()):
                pieces.append(piece)
                piece = ""
            if c.isdigit() and piece == " ":
                pieces.append(piece)
                piece = ""
            piece += c
        for p in pieces + [piece]:
            ids += [self.vocab[s] for s in self.merge([alphabet[b] for b in p.encode()])]
        return ids + [self.vocab["<|endoftext|>"]]
