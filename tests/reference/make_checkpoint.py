#!/usr/bin/env python3
"""make_checkpoint.py FAMILY FOLDER [--true-size] [--layers N] [--seed N] [--hollow]

Writes a synthetic checkpoint in the layout of the family's Hugging Face repository: config.json,
generation_config.json, tokenizer_config.json, tokenizer.json or tokenizer.model, safetensors in one
file or shards, README.md. Weights are random trits, or random floats that training code would round;
the same numbers give the same bytes everywhere. It does not speak sense.

--hollow leaves everything but the scales zero, in sparse files: any size takes a second and no room.
"""
import argparse
import json
import os
import struct

import numpy as np

from families import FAMILIES, VECTORS, family

QWEN_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# ---- numbers as bytes -------------------------------------------------------------------------

def to_bf16(x):
    """float32 array to bfloat16 bits, to nearest even."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def encode(x, dtype):
    if dtype == "BF16":
        return to_bf16(x)
    return np.ascontiguousarray(x, {"F32": np.float32, "F16": np.float16}[dtype])


# ---- tensors ----------------------------------------------------------------------------------

WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
CHUNK = 1 << 22  # elements drawn at a time


class Tensor:
    """A tensor that is drawn when it is written, some rows at a time, so that its size costs no
    memory. `draw(rng, rows)` gives stored rows; None leaves zeros, and a hole in the file. Each has a
    generator of its own: the same numbers whatever the shards, and whatever else is drawn."""

    def __init__(self, dtype, shape, rng, draw):
        self.dtype, self.shape, self.rng, self.draw = dtype, shape, rng, draw
        self.nbytes = int(np.prod(shape)) * WIDTHS[dtype]

    def write(self, f):
        if self.draw is None:
            f.seek(self.nbytes, os.SEEK_CUR)
            return
        step = max(1, CHUNK // int(np.prod(self.shape[1:])))
        for row in range(0, self.shape[0], step):
            f.write(self.draw(self.rng, min(step, self.shape[0] - row)).tobytes())


# ---- safetensors ------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    """tensors: list of (name, Tensor)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, t in tensors:
        header[name] = {"dtype": t.dtype, "shape": list(t.shape),
                        "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, t in tensors:
            t.write(f)
        f.truncate(8 + len(text) + at)


def write_shards(folder, shards, tensors):
    """One file, or so many of about as many tensors each, and their index."""
    if shards == 1:
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        return
    share, places = -(-len(tensors) // shards), {}
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = tensors[i * share:(i + 1) * share]
        assert part
        places.update({tensor: name for tensor, _ in part})
        write_safetensors(os.path.join(folder, name), part)
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": sum(t.nbytes for _, t in tensors)},
                   "weight_map": places}, f)


# ---- weights ----------------------------------------------------------------------------------

# Sizes of the residual stream and of the embedding, by whether the embedding is the output as well.
# The stream is much smaller than 1, so that eps of the norms counts in every logit; a tied embedding is
# much smaller than what the layers add, or every token would follow itself.
STREAM, EMBEDDING = {True: 0.05, False: 0.01}, {True: 0.001, False: 0.01}
# 2 bits of a random byte -> the code of a trit: -1, 0, 0, 1.
CODES = np.array([sum((0, 1, 1, 2)[b >> s & 3] << s for s in (0, 2, 4, 6)) for b in range(256)],
                 np.uint8)


def projection_shapes(f):
    """(name, rows, columns, size of the output for an input of size 1)"""
    q, kv = f["heads"] * f["head_dim"], f["kv_heads"] * f["head_dim"]
    d, n, stream = f["dim"], f["ffn"], STREAM[f["tied"]]
    return [("self_attn.q_proj", q, d, 1), ("self_attn.k_proj", kv, d, 1),
            ("self_attn.v_proj", kv, d, 1), ("self_attn.o_proj", d, q, stream),
            ("mlp.gate_proj", n, d, 1), ("mlp.up_proj", n, d, 1),
            ("mlp.down_proj", d, n, stream)]


class Weights:
    """The tensors of a family in the order of its repository."""

    def __init__(self, f, seed):
        self.f, self.seed, self.list = f, seed, []

    def add(self, name, dtype, shape, draw):
        rng = np.random.default_rng([self.seed, len(self.list)])
        self.list.append((name, Tensor(dtype, shape, rng, draw)))

    def norm(self, name, n, gain):
        dtype = self.f["dtype"]
        self.add(name, dtype, (n,), None if self.f["hollow"] else lambda rng, rows: encode(
            gain * (1 + 0.2 * rng.standard_normal(rows, np.float32)), dtype))

    def table(self, name, size):
        dtype, dim = self.f["dtype"], self.f["dim"]
        self.add(name, dtype, (self.f["vocab"], dim),
                 None if self.f["hollow"] else lambda rng, rows: encode(
                     rng.standard_normal((rows, dim), np.float32) * np.float32(size), dtype))

    def projection(self, name, rows, cols, size):
        f, dtype = self.f, self.f["dtype"]
        rng = np.random.default_rng([self.seed, len(self.list), 1])
        mean = np.float32(rng.uniform(0.9, 1.1) * 1.4 / cols ** 0.5 * size)

        def latent(rng, n):
            return encode(rng.standard_normal((n, cols), np.float32) * (mean / 2), dtype)

        def dequantized(rng, n):
            trits = rng.integers(0, 4, (n, cols), np.uint8)
            return encode(np.array([-1, 0, 0, 1], np.float32)[trits] * mean, dtype)

        def packed(rng, n):
            return CODES[rng.integers(0, 256, (n, cols), np.uint8)]

        draw = {"latent": latent, "dequantized": dequantized}.get(f["weights"], packed)
        if draw is not packed:
            self.add(name + ".weight", dtype, (rows, cols), None if f["hollow"] else draw)
            return
        # 2B-4T stores mean |W| near 1 (its norms have small gains), the others its reciprocal.
        stored = 1.0 / mean
        if f["weights"] == "packed-multiply":
            stored = np.float32(rng.uniform(0.96, 2.16))
        self.add(name + ".weight", "U8", (rows // 4, cols), None if f["hollow"] else packed)
        self.add(name + ".weight_scale", dtype, (1,),
                 lambda rng, n: encode(np.array([stored]), dtype))


def write_weights(f, folder, seed):
    names = {"microsoft": ("self_attn.attn_sub_norm", "mlp.ffn_sub_norm"),
             "1bitllm": ("self_attn.inner_attn_ln", "mlp.ffn_layernorm"), None: ()}[f["sub_norms"]]
    w = Weights(f, seed)
    # The gains make up for scales near 1; those in front of o and down carry the size of the stream.
    multiplies = f["weights"] == "packed-multiply"
    stream = STREAM[f["tied"]]
    small = 1.0 / f["dim"] ** 0.5 if multiplies else 1.0
    # With a norm behind it, attention has one size however much it averages: keep it down, or the
    # mean of the context decides every token.
    quiet = 0.05 * (small * stream if multiplies else 1.0)
    w.table("model.embed_tokens.weight", EMBEDDING[f["tied"]])
    for i in range(f["layers"]):
        layer = f"model.layers.{i}."
        w.norm(layer + "input_layernorm.weight", f["dim"], small)
        for name, rows, cols, size in projection_shapes(f):
            w.projection(layer + name, rows, cols, size)
        w.norm(layer + "post_attention_layernorm.weight", f["dim"], small)
        if names:
            w.norm(layer + names[0] + ".weight", f["heads"] * f["head_dim"], quiet)
            w.norm(layer + names[1] + ".weight", f["ffn"],
                   stream / f["ffn"] ** 0.5 if multiplies else 1.0)
    w.norm("model.norm.weight", f["dim"], 1.0)
    if not f["tied"]:
        w.table("lm_head.weight", 0.5)
    write_shards(folder, f["shards"], w.list)


def write_vector_weights(f, folder, seed):
    """BitNet-embedding: a backbone whose projections each have a norm of their own in front."""
    gemma, prefix, dtype = f["model_type"] == "gemma3_text", f.get("prefix", ""), f["dtype"]
    own = 0.0 if gemma else 1.0  # Gemma's gains are stored less one, BitNet's are not
    w = Weights(f, seed)

    def norm(name, n, gain):
        w.add(prefix + name, dtype, (n,), None if f["hollow"] else lambda rng, rows: encode(
            gain + 0.2 * rng.standard_normal(rows, np.float32), dtype))

    w.table(prefix + "embed_tokens.weight", 0.05)
    for i in range(f["layers"]):
        layer = f"layers.{i}."
        norm(layer + "input_layernorm.weight", f["dim"], own)
        norm(layer + "post_attention_layernorm.weight", f["dim"], own)
        if gemma:
            norm(layer + "pre_feedforward_layernorm.weight", f["dim"], own)
            norm(layer + "post_feedforward_layernorm.weight", f["dim"], own)
        norm(layer + "self_attn.q_norm.weight", f["head_dim"], own)
        norm(layer + "self_attn.k_norm.weight", f["head_dim"], own)
        for name, rows, cols, _ in projection_shapes(f):
            w.projection(prefix + layer + name, rows, cols, 1)
            norm(layer + name + ".norm.weight", cols, 1.0)
    norm("norm.weight", f["dim"], own)
    write_shards(folder, f["shards"], w.list)


# ---- tokenizers -------------------------------------------------------------------------------

def byte_alphabet():
    """GPT-2's printable characters for the 256 bytes."""
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in kept else chr(256 + extra)
        extra += b not in kept
    return table


def words(n):
    """n distinct merges, each from two tokens that exist: a letter pair at a time."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    known, out = list(letters), []
    i = 0
    while len(out) < n:
        left, right = known[i // 26], letters[i % 26]
        out.append((left, right))
        known.append(left + right)
        i += 1
    return out


def special_names(f):
    kind, n = f["tokenizer"], f["named"]
    if kind == "qwen":
        return ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|added_{i}|>"
                                                                  for i in range(23)]
    if kind == "llama3":
        names = ["<|begin_of_text|>", "<|end_of_text|>"]
        names += [f"<|reserved_special_token_{i}|>" for i in range(4)]
        names += ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>",
                  "<|eot_id|>"]
        names += [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]
        return names if n >= 128256 else names[:16]
    if kind == "falcon3":
        names = [">>TITLE<<", ">>ABSTRACT<<", ">>INTRODUCTION<<", ">>SUMMARY<<", ">>COMMENT<<",
                 ">>ANSWER<<", ">>QUESTION<<", ">>DOMAIN<<", ">>EMAIL_ADDRESS<<",
                 ">>IP_ADDRESS<<", "<|startoftext|>", "<|endoftext|>", ">>SUFFIX<<", ">>PREFIX<<"]
        count = 2024 if n >= 131072 else 24
        names += [f">>UNUSED_{i}<<" for i in range(len(names), count - 1)]
        return names + ["<|pad|>"]
    names = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|end_of_text|>"]
    count = 524 if n >= 32768 else 24
    return names + [f">>UNUSED_{i}<<" for i in range(len(names), count)]


def pre_tokenizer(kind):
    split = {"type": "Split", "pattern": {"Regex": LLAMA3_REGEX}, "behavior": "Isolated",
             "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}
    if kind in ("llama3", "qwen"):
        split["pattern"]["Regex"] = QWEN_REGEX if kind == "qwen" else LLAMA3_REGEX
        return {"type": "Sequence", "pretokenizers": [split, byte_level]}
    # Falcon cuts contiguous punctuation and single digits first.
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Punctuation", "behavior": "Contiguous"}, dict(byte_level, use_regex=True),
        {"type": "Digits", "individual_digits": True}]}


def write_byte_level(f, folder):
    kind, n = f["tokenizer"], f["named"]
    specials = special_names(f)
    alphabet = byte_alphabet()
    symbols = [alphabet[b] for b in range(256)]
    if kind == "falcon-e":  # no symbols for bytes that no UTF-8 text has
        symbols = [alphabet[b] for b in range(256) if b not in (0xC0, 0xC1) and b < 0xF5]
    symbols.sort()
    merges = words(n - len(specials) - len(symbols))
    text = symbols + [a + b for a, b in merges]
    # Llama-3's specials come last and are added tokens only; Falcon's come first, in both lists.
    if kind in ("llama3", "qwen"):
        vocab = {t: i for i, t in enumerate(text)}
        first = len(text)
    else:
        vocab = {t: i for i, t in enumerate(specials + text)}
        first = 0
    ids = {t: first + i for i, t in enumerate(specials)}
    added = [{"id": ids[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for t in specials]
    post = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
            "use_regex": True}
    if kind == "llama3":
        bos = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}
        post = {"type": "Sequence", "processors": [post, {
            "type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"<|begin_of_text|>": {
                "id": "<|begin_of_text|>", "ids": [ids["<|begin_of_text|>"]],
                "tokens": ["<|begin_of_text|>"]}}}]}
    if kind == "qwen":
        end = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
        post = {"type": "Sequence", "processors": [post, {
            "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
            "pair": [], "special_tokens": {}}]}
    # Older files write merges as one string, newer ones as pairs: one of each.
    pairs = kind == "falcon-e"
    with open(os.path.join(folder, "tokenizer.json"), "w") as out:
        json.dump({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "NFC"} if kind == "qwen" else None,
            "pre_tokenizer": pre_tokenizer(kind), "post_processor": post,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                        "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": kind == "llama3", "vocab": vocab,
                      "merges": [list(m) if pairs else " ".join(m) for m in merges]},
        }, out, ensure_ascii=False)
    return ids


def varint(n):
    out = b""
    while True:
        out += bytes([n & 127 | (128 if n > 127 else 0)])
        n >>= 7
        if n == 0:
            return out


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def write_sentencepiece(f, folder):
    """tokenizer.model with 2 rows less than the embedding: the others are added tokens."""
    n = f["vocab"] - 2
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{b:02X}>", 0.0, 6) for b in range(256)]
    letters = ["\u2581"] + [chr(c) for c in range(33, 127)]
    merges = words(n - len(pieces) - len(letters))
    pieces += [(a + b, -float(i), 1) for i, (a, b) in enumerate(merges)]
    pieces += [(c, -1e6 - i, 1) for i, c in enumerate(letters)]
    out = b""
    for text, score, kind in pieces:
        p = field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
        if kind != 1:
            p += varint(3 << 3) + varint(kind)
        out += field(1, p)
    trainer = varint(3 << 3) + varint(2) + varint(4 << 3) + varint(n)
    trainer += b"".join(varint(k << 3) + varint(v) for k, v in ((40, 0), (41, 1), (42, 2)))
    trainer += varint(43 << 3) + varint((1 << 64) - 1)
    out += field(2, trainer)
    out += field(3, field(1, b"identity") + varint(3 << 3) + varint(1))
    with open(os.path.join(folder, "tokenizer.model"), "wb") as file:
        file.write(out)
    with open(os.path.join(folder, "added_tokens.json"), "w") as file:
        json.dump({"<pad>": n, "</line>": n + 1}, file)
    return {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": n}


def write_gemma(f, folder):
    """SentencePiece BPE as tokenizer.json has it: spaces are U+2581, merges instead of scores."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["\u2581"] + [chr(c) for c in range(33, 127)]
    merges = [("\u2581", chr(c)) for c in range(97, 123)]
    merges += words(f["vocab"] - len(specials) - 256 - len(letters) - len(merges))
    text = specials + [f"<0x{b:02X}>" for b in range(256)] + [a + b for a, b in merges] + letters
    ids = {t: i for i, t in enumerate(text)}
    assert len(ids) == f["vocab"]
    # As the published file: every way to make a token, tokens in their order.
    merges = [(t[:i], t[i:]) for t in (a + b for a, b in merges) for i in range(1, len(t))
              if t[:i] in ids and t[i:] in ids]

    def special(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    with open(os.path.join(folder, "tokenizer.json"), "w") as out:
        # Indented, as the published file is: its size decides what may be read.
        json.dump({
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False,
                              "rstrip": False, "normalized": False, "special": True}
                             for i, t in enumerate(specials)],
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            "pre_tokenizer": {"type": "Split", "pattern": {"String": " "},
                              "behavior": "MergedWithPrevious", "invert": False},
            "post_processor": {"type": "TemplateProcessing", "single": [
                special("<bos>"), {"Sequence": {"id": "A", "type_id": 0}}, special("<eos>")],
                "pair": [], "special_tokens": {}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True,
                      "byte_fallback": True, "ignore_merges": False, "vocab": ids,
                      "merges": [list(m) for m in merges]},
        }, out, ensure_ascii=False, indent=2)
    return ids


CHAT_TEMPLATES = {
    "bitnet-2b-4t": "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = message['role'] | capitalize + ': '+ message['content'] | trim + '<|eot_id|>' %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
    "llama3": "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}",
    "falcon3": "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% endfor %}"
    "{{ '<|user|>' }}{{ '<|assistant|>\\n' }}",
    "falcon-e": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>\\n' }}{% endfor %}",
}


def write_tokenizer_config(f, folder, ids):
    kind = f["tokenizer"]
    config = {"clean_up_tokenization_spaces": True, "model_max_length": f["context"]}
    if kind == "qwen":
        config.update(eos_token="<|im_end|>", pad_token="<|endoftext|>", add_bos_token=False,
                      tokenizer_class="Qwen2Tokenizer")
    elif kind == "gemma":
        config.update(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
                      add_bos_token=True, add_eos_token=False, tokenizer_class="GemmaTokenizer")
    if kind in ("qwen", "gemma"):
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
            json.dump(config, out, indent=2)
        return
    template = CHAT_TEMPLATES.get("bitnet-2b-4t" if f["act"] == "relu2" else kind)
    if template:
        config["chat_template"] = template
    if kind == "llama3":
        config.update(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
                      tokenizer_class="PreTrainedTokenizerFast")
    elif kind == "falcon3":
        config.update(eos_token="<|endoftext|>", pad_token="<|pad|>",
                      tokenizer_class="PreTrainedTokenizerFast")
    elif kind == "falcon-e":
        config.update(eos_token="<|im_end|>", pad_token="<|pad|>",
                      tokenizer_class="PreTrainedTokenizerFast")
    else:
        config.update(bos_token={"content": "<s>"}, eos_token={"content": "</s>"},
                      unk_token={"content": "<unk>"}, add_bos_token=True, add_eos_token=False,
                      added_tokens_decoder={str(ids["<pad>"]): {"content": "<pad>",
                                                                "special": True}},
                      tokenizer_class="BitnetTokenizer")
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as out:
        json.dump(config, out, indent=2)


# ---- configuration ----------------------------------------------------------------------------

def end_ids(f, ids):
    """The family's end tokens at the ids this vocabulary gives them."""
    names = {128001: "<|end_of_text|>", 128009: "<|eot_id|>", 2: "</s>", 11: "<|endoftext|>"}
    return [ids[names.get(e, e)] for e in f["eos"]]


def write_config(f, folder, ids):
    ends = end_ids(f, ids)
    config = {
        "architectures": [f["cls"]], "model_type": f["model_type"], "hidden_act": f["act"],
        "hidden_size": f["dim"], "intermediate_size": f["ffn"],
        "num_attention_heads": f["heads"], "num_key_value_heads": f["kv_heads"],
        "num_hidden_layers": f["layers"], "max_position_embeddings": f["context"],
        "rms_norm_eps": f["eps"], "rope_theta": f["theta"], "vocab_size": f["vocab"],
        "tie_word_embeddings": f["tied"], "use_cache": True, "initializer_range": 0.02,
        "torch_dtype": {"BF16": "bfloat16", "F32": "float32", "F16": "float16"}[f["dtype"]],
        "eos_token_id": ends[0],
    }
    if f["tokenizer"] == "llama3":
        config["bos_token_id"] = ids["<|begin_of_text|>"]
    if f["sub_norms"] == "1bitllm":
        config.update(weight_bits=1, input_bits=8, rope_scaling=None, attention_bias=False,
                      pad_token_id=ids["<pad>"], bos_token_id=1, pretraining_tp=1)
    elif f["sub_norms"] == "microsoft":
        config["quantization_config"] = {
            "quant_method": "bitnet", "linear_class": "autobitlinear",
            "quantization_mode": "online" if f["weights"] == "latent" else "offline"}
    elif f["weights"] == "packed-divide":
        config.update(is_bitnet_config=True, rope_scaling=None, attention_bias=False,
                      mlp_bias=False, pretraining_tp=1,
                      quantization_config={"quant_method": "bitnet",
                                           "modules_to_not_convert": ["lm_head"]})
    if f["tokenizer"] == "falcon3":
        config["head_dim"] = f["head_dim"]
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(config, out, indent=2)
    with open(os.path.join(folder, "generation_config.json"), "w") as out:
        json.dump({"eos_token_id": ends if len(ends) > 1 else ends[0], "do_sample": True,
                   "temperature": 0.6, "top_p": 0.9}, out, indent=2)
    with open(os.path.join(folder, "README.md"), "w") as out:
        out.write("---\nlicense: mit\nlibrary_name: transformers\n---\n# A synthetic checkpoint\n")


def write_vector_config(f, folder, ids):
    gemma = f["model_type"] == "gemma3_text"
    config = {
        "architectures": ["Gemma3TextModel" if gemma else "Qwen3Model"],
        "model_type": f["model_type"], "hidden_size": f["dim"], "intermediate_size": f["ffn"],
        "num_attention_heads": f["heads"], "num_key_value_heads": f["kv_heads"],
        "head_dim": f["head_dim"], "num_hidden_layers": f["layers"], "attention_bias": False,
        "max_position_embeddings": f["context"], "rms_norm_eps": f["eps"],
        "rope_theta": f["theta"], "rope_scaling": None, "vocab_size": f["vocab"],
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": False,
    }
    if gemma:
        config.update(hidden_activation=f["act"], query_pre_attn_scalar=f["head_dim"],
                      bos_token_id=ids["<bos>"], eos_token_id=ids["<eos>"],
                      attn_logit_softcapping=None, final_logit_softcapping=None)
    else:
        config.update(hidden_act=f["act"], sliding_window=None, use_sliding_window=False,
                      eos_token_id=ids["<|im_end|>"])
    if "window" in f:
        config.update(sliding_window=f["window"], rope_local_base_freq=10000.0, layer_types=[
            "full_attention" if (i + 1) % 6 == 0 else "sliding_attention"
            for i in range(f["layers"])])
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(config, out, indent=2)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    with open(os.path.join(folder, "modules.json"), "w") as out:
        json.dump([{"idx": i, "name": str(i), "path": path,
                    "type": f"sentence_transformers.models.{kind}"}
                   for i, (kind, path) in enumerate(kinds)], out)
    os.makedirs(os.path.join(folder, "1_Pooling"), exist_ok=True)
    with open(os.path.join(folder, "1_Pooling", "config.json"), "w") as out:
        json.dump({"word_embedding_dimension": f["dim"], "pooling_mode_cls_token": False,
                   "pooling_mode_mean_tokens": f["pooling"] == "mean",
                   "pooling_mode_lasttoken": f["pooling"] == "lasttoken"}, out)


def make(f, folder, seed, hollow=False):
    f = dict(f, hollow=hollow)
    os.makedirs(folder, exist_ok=True)
    if "pooling" in f:
        ids = write_gemma(f, folder) if f["tokenizer"] == "gemma" else write_byte_level(f, folder)
        write_tokenizer_config(f, folder, ids)
        write_vector_config(f, folder, ids)
        write_vector_weights(f, folder, seed)
        return
    ids = write_sentencepiece(f, folder) if f["tokenizer"] == "spm" else write_byte_level(f, folder)
    write_tokenizer_config(f, folder, ids)
    write_config(f, folder, ids)
    write_weights(f, folder, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("family", choices=sorted(FAMILIES | VECTORS))
    parser.add_argument("folder")
    parser.add_argument("--true-size", action="store_true", help="the published dimensions")
    parser.add_argument("--layers", type=int, help="cut the depth to this many layers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hollow", action="store_true", help="zeros in sparse files")
    a = parser.parse_args()
    make(family(a.family, a.true_size, a.layers), a.folder, a.seed, a.hollow)


if __name__ == "__main__":
    main()
