#!/usr/bin/env python3
"""label.py IN.gguf OUT.gguf

Gives a model tokens that can be told apart in any program's output: all become <t0>, <t1>, ... of the
type "user defined", which programs match in prompts and print as they are. Only the 256 byte symbols
and control tokens keep their texts, for programs look for them; their rows of the output matrix become
zero, so that greedy generation never draws one. No BOS is put in front. Everything else is copied: any
I2_S model with a byte-level vocabulary and an F16 output matrix will do, one of bn-make-model, say.
"""
import os
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
UINT32, INT32, BOOL, STRING, ARRAY = 4, 5, 7, 8, 9
F16, USER_DEFINED, CONTROL = 1, 4, 3
TOKENS, TYPES, PRE, BOS = ("tokenizer.ggml." + k
                           for k in ("tokens", "token_type", "pre", "add_bos_token"))


class Gguf:
    """The directory of a file: keys as (type, raw bytes of the value), tensors, where data begins."""

    def __init__(self, f):
        self.f = f
        magic, version, n_tensors, n_keys = struct.unpack("<4sIQQ", f.read(24))
        if magic != b"GGUF" or version != 3:
            sys.exit("label.py: not a GGUF file of version 3")
        self.keys = {}
        for _ in range(n_keys):
            name = self.string()
            kind = self.number("I")
            start = f.tell()
            self.skip(kind)
            end = f.tell()
            f.seek(start)
            self.keys[name] = (kind, f.read(end - start))
        self.tensors = {}
        for _ in range(n_tensors):
            name = self.string()
            dims = [self.number("Q") for _ in range(self.number("I"))]
            self.tensors[name] = (dims, self.number("I"), self.number("Q"))
        self.data = -(-f.tell() // 32) * 32

    def number(self, form):
        return struct.unpack("<" + form, self.f.read(struct.calcsize("<" + form)))[0]

    def string(self):
        return self.f.read(self.number("Q")).decode()

    def skip(self, kind):
        if kind == STRING:
            self.f.seek(self.number("Q"), os.SEEK_CUR)
        elif kind == ARRAY:
            kind, n = self.number("I"), self.number("Q")
            if kind in SIZES:
                self.f.seek(n * SIZES[kind], os.SEEK_CUR)
            else:
                for _ in range(n):
                    self.skip(kind)
        else:
            self.f.seek(SIZES[kind], os.SEEK_CUR)


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def strings_of(raw):
    kind, n = struct.unpack_from("<IQ", raw)
    assert kind == STRING
    out, at = [], 12
    for _ in range(n):
        size = struct.unpack_from("<Q", raw, at)[0]
        out.append(raw[at + 8:at + 8 + size].decode())
        at += 8 + size
    return out


def labels(g):
    """(texts, types, ids that keep their text)"""
    old = strings_of(g.keys[TOKENS][1])
    types = list(struct.unpack_from(f"<{len(old)}i", g.keys[TYPES][1], 12))
    kept = [i for i, t in enumerate(old) if len(t) == 1 or types[i] == CONTROL]
    new = [f"<t{i}>" for i in range(len(old))]
    for i in range(len(old)):
        types[i] = types[i] if i in set(kept) else USER_DEFINED
    for i in kept:
        new[i] = old[i]
    return new, types, kept


def write(g, out, new, types):
    g.keys[TOKENS] = (ARRAY, struct.pack("<IQ", STRING, len(new)) + b"".join(map(text, new)))
    g.keys[TYPES] = (ARRAY, struct.pack(f"<IQ{len(types)}i", INT32, len(types), *types))
    g.keys[PRE] = (STRING, text("llama-bpe"))  # a name that all of them know
    g.keys[BOS] = (BOOL, b"\0")
    out.write(struct.pack("<4sIQQ", b"GGUF", 3, len(g.tensors), len(g.keys)))
    for name, (kind, raw) in g.keys.items():
        out.write(text(name) + struct.pack("<I", kind) + raw)
    for name, (dims, kind, offset) in g.tensors.items():
        out.write(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
    out.write(b"\0" * (-out.tell() % 32))
    data = out.tell()
    g.f.seek(g.data)
    while block := g.f.read(1 << 22):
        out.write(block)
    return data


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as f, open(sys.argv[2], "wb") as out:
        g = Gguf(f)
        if g.keys["tokenizer.ggml.model"][1][8:] != b"gpt2":
            sys.exit("label.py: the vocabulary is not byte-level")
        new, types, kept = labels(g)
        data = write(g, out, new, types)
        dims, kind, offset = g.tensors.get("output.weight", g.tensors["token_embd.weight"])
        if kind != F16:
            sys.exit("label.py: the output matrix is not F16")
        for i in kept:
            out.seek(data + offset + i * dims[0] * 2)
            out.write(b"\0" * (dims[0] * 2))


if __name__ == "__main__":
    main()
