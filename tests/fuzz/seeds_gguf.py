#!/usr/bin/env python3
"""Writes seeds of fuzz_gguf: tests/fuzz/corpus/gguf/trits-* (one tensor of each ternary type, all
zeros) and model-* (every tensor of a one-layer model).

The files are committed; run this again only after adding to the lists. The others in the folder
were made by hand.
"""
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent / "corpus" / "gguf"
U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def value(v):
    if isinstance(v, str):
        return struct.pack("<I", STRING) + text(v)
    if isinstance(v, float):
        return struct.pack("<If", F32, v)
    if isinstance(v, list):
        return struct.pack("<IIQ", ARRAY, I32, len(v)) + struct.pack(f"<{len(v)}i", *v)
    return struct.pack("<II", U32, v)


def pad(data, to=32):
    return data + bytes(-len(data) % to)


def gguf(keys, tensors):
    """tensors: (name, cols, rows or None, type number, data)"""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, v in keys.items():
        out += text(key) + value(v)
    offset, body = 0, b""
    for name, cols, rows, number, data in tensors:
        dims = (cols,) if rows is None else (cols, rows)
        out += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
        body += pad(data)
        offset = len(body)
    return pad(out) + body


TAIL = struct.pack("<f", 0.5) + bytes(28)
HALF = b"\0\x38"


def tl2(rows, cols):
    size = (cols - 256) * rows // 3 * 5 // 8 + 256 * rows // 2 * 4 // 8
    three = cols - cols % 96
    data = bytes(rows * three * 5 // 24) + b"\x44" * (rows * (cols - three) // 4)
    return pad(data + bytes(size - len(data))) + TAIL


TYPES = {  # name: (number, cols, rows, data of zeros)
    "i2_s": (36, 64, 32, b"\x55" * 512 + TAIL),
    "tl1": (38, 64, 32, b"\x44" * 512 + TAIL),
    "tl2": (42, 288, 32, tl2(32, 288)),
    "tl2-rest": (39, 320, 32, tl2(32, 320)),
    "tq1_0": (34, 512, 2, (b"\x80" * 48 + b"\x7f" * 4 + HALF) * 4),
    "tq2_0": (35, 512, 2, (b"\x55" * 64 + HALF) * 4),
    "iq1_bn": (134, 128, 3, (HALF + (b"\x80" * 12 + b"\x2b") * 2) * 3),
    "iq2_bn": (135, 128, 3, (struct.pack("<f", 0.5) + b"\x55" * 32) * 3),
}


def key_of(name, cols, rows):
    kind = name.split("-")[0]
    tiles = [rows, cols, 32, 96 if kind == "tl2" else 32, 32]
    return {f"bnd.{kind}.tiles": tiles} if kind in ("tl1", "tl2") else {}


def model(number, data, keys):
    arch = "bitnet-b1.58"
    keys = {"general.architecture": arch, f"{arch}.context_length": 32,
            f"{arch}.embedding_length": 64, f"{arch}.block_count": 1,
            f"{arch}.feed_forward_length": 64, f"{arch}.attention.head_count": 2, **keys}
    norm = struct.pack("<64f", *[1.0] * 64)
    tensors = [("token_embd.weight", 64, 4, 1, bytes(512)), ("output_norm.weight", 64, None, 0, norm)]
    for part in ("attn_norm", "ffn_norm", "attn_sub_norm", "ffn_sub_norm"):
        tensors.append((f"blk.0.{part}.weight", 64, None, 0, norm))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        tensors.append((f"blk.0.{part}.weight", 64, 64, number, data))
    return gguf(keys, tensors)


if __name__ == "__main__":
    for name, (number, cols, rows, data) in TYPES.items():
        kind = {"general.file_type": 39} if name.startswith("tl2") else {}
        tensors = [("blk.0.ffn_down.weight", cols, rows, number, data)]
        seed = gguf({**kind, **key_of(name, cols, rows)}, tensors)
        (HERE / f"trits-{name}").write_bytes(seed)
    (HERE / "model-i2_s").write_bytes(model(36, b"\x55" * 1024 + TAIL, {}))
    (HERE / "model-tl1").write_bytes(
        model(38, b"\x44" * 1024 + TAIL, {"bnd.tl1.tiles": [64, 64, 32, 32, 32]}))
    (HERE / "model-iq2_bn").write_bytes(
        model(135, (struct.pack("<f", 0.5) + b"\x55" * 16) * 64, {}))
    (HERE / "model-iq1_bn").write_bytes(
        model(134, (HALF + b"\x80" * 12 + b"\x2b") * 64, {}))
