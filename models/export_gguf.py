#!/usr/bin/python3
"""Writes a checkpoint of train.py as a GGUF v3 file: architecture bitnet-b1.58, I2_S projections, F16 embedding, F32 norms.

    export_gguf.py CHECKPOINT.pt TOKENIZER.json OUT.gguf
"""
import argparse
import struct

import numpy as np
import torch

import bpe

ARCH = "bitnet-b1.58"
F32, F16, I2_S = 0, 1, 36
ALIGN = 32
MATRICES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
            "down": "ffn_down"}
NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")
DESCRIPTION = ("A very small ternary (BitNet b1.58) model that tells short children's stories in English. Trained from "
               "scratch on public domain children's books, FairytaleQA and a part of TinyStories.")


def u32(v):
    return 4, struct.pack("<I", v)


def f32(v):
    return 6, struct.pack("<f", v)


def boolean(v):
    return 7, struct.pack("<?", v)


def text(v):
    b = v.encode("utf-8")
    return 8, struct.pack("<Q", len(b)) + b


def array(items):
    return 9, struct.pack("<IQ", items[0][0], len(items)) + b"".join(data for _, data in items)


def i32(v):
    return 5, struct.pack("<i", v)


def i2_s(w):
    """Ternarizes w [out, in] with the absmean of the whole tensor and packs it; see reference.py for the way back."""
    mean = np.float32(max(np.abs(w).mean(dtype=np.float64), 1e-5))
    codes = (np.clip(np.rint(w * (np.float32(1) / mean)), -1, 1) + 1).astype(np.uint8).reshape(-1, 4, 32)
    packed = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
    return packed.tobytes() + struct.pack("<f", mean) + bytes(28)


def tensors(p, layers):
    """Yields name, ggml dims ([in, out]), type, bytes."""
    def norm(name, v):
        return name + ".weight", list(v.shape), F32, v.astype("<f4").tobytes()

    e = p["embed"]
    yield "token_embd.weight", list(e.shape[::-1]), F16, e.astype("<f2").tobytes()
    for n in range(layers):
        for key in NORMS:
            yield norm(f"blk.{n}.{key}", p[f"{n}.{key}"])
        for key, name in MATRICES.items():
            w = p[f"{n}.{key}"]
            assert w.shape[1] % 128 == 0
            yield f"blk.{n}.{name}.weight", list(w.shape[::-1]), I2_S, i2_s(w)
    yield norm("output_norm", p["output_norm"])


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("checkpoint")
    a.add_argument("tokenizer")
    a.add_argument("out")
    a.add_argument("--name", default="bnd storyteller 7M")
    a = a.parse_args()
    state, tok = torch.load(a.checkpoint, map_location="cpu"), bpe.Tokenizer.load(a.tokenizer)
    c, p = state["config"], {k: v.numpy() for k, v in state["params"].items()}
    assert len(tok) == c["vocab"]
    kv = {
        "general.architecture": text(ARCH),
        "general.name": text(a.name),
        "general.description": text(DESCRIPTION),
        "general.license": text("mit"),
        "general.languages": array([text("en")]),
        "general.alignment": u32(ALIGN),
        "general.file_type": u32(40),
        "general.quantization_version": u32(2),
        ARCH + ".vocab_size": u32(c["vocab"]),
        ARCH + ".context_length": u32(c["context"]),
        ARCH + ".embedding_length": u32(c["dim"]),
        ARCH + ".block_count": u32(c["layers"]),
        ARCH + ".feed_forward_length": u32(c["ffn"]),
        ARCH + ".rope.dimension_count": u32(c["head_dim"]),
        ARCH + ".rope.freq_base": f32(c["theta"]),
        ARCH + ".attention.head_count": u32(c["heads"]),
        ARCH + ".attention.head_count_kv": u32(c["kv_heads"]),
        ARCH + ".attention.layer_norm_rms_epsilon": f32(c["eps"]),
        "tokenizer.ggml.model": text("gpt2"),
        "tokenizer.ggml.pre": text("llama-bpe"),
        "tokenizer.ggml.tokens": array([text(t) for t in tok.tokens]),
        "tokenizer.ggml.token_type": array([i32(3 if i in (tok.bos, tok.eos) else 1) for i in range(len(tok))]),
        "tokenizer.ggml.merges": array([text(f"{x} {y}") for x, y in tok.merges]),
        "tokenizer.ggml.bos_token_id": u32(tok.bos),
        "tokenizer.ggml.eos_token_id": u32(tok.eos),
        "tokenizer.ggml.add_bos_token": boolean(True),
    }
    infos, data = b"", b""
    entries = list(tensors(p, c["layers"]))
    for name, dims, kind, raw in entries:
        infos += text(name)[1] + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(kv))
    for key, (kind, raw) in kv.items():
        head += text(key)[1] + struct.pack("<I", kind) + raw
    head += infos
    head += bytes(-len(head) % ALIGN)
    with open(a.out, "wb") as f:
        f.write(head + data)
    print(f"{a.out}: {len(head) + len(data)} bytes, {len(entries)} tensors, {state['info']}")


if __name__ == "__main__":
    main()
