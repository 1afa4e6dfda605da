"""What a GGUF file of these families holds, counted from its own directory and from the dimensions.

Reads no tensor and knows three types only. It shares no code with bnd.
"""
import os
import struct

F32, F16, I2_S = 0, 1, 36
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def tensor_bytes(kind, elements):
    """I2_S: two bits each, blocks of 128 over the whole tensor, and 32 bytes with the scale."""
    if kind == I2_S:
        return -(-elements // 128) * 32 + 32
    return elements * {F32: 4, F16: 2}[kind]


class Reader:
    def __init__(self, f):
        self.f = f

    def number(self, form):
        return struct.unpack("<" + form, self.f.read(struct.calcsize("<" + form)))[0]

    def string(self):
        return self.f.read(self.number("Q"))

    def skip_value(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            kind, n = self.number("I"), self.number("Q")
            if kind in NUMBERS:
                self.f.seek(n * struct.calcsize("<" + NUMBERS[kind]), os.SEEK_CUR)
            else:
                for _ in range(n):
                    self.skip_value(kind)
        else:
            self.number(NUMBERS[kind])


def of_file(path):
    """(F32 tensors, F16, I2_S, bytes of tensor data) of a file; every tensor must lie in it."""
    counts, total = {F32: 0, F16: 0, I2_S: 0}, 0
    with open(path, "rb") as f:
        r = Reader(f)
        assert f.read(4) == b"GGUF" and r.number("I") == 3
        tensors, keys = r.number("Q"), r.number("Q")
        for _ in range(keys):
            r.string()
            r.skip_value(r.number("I"))
        end = 0
        for _ in range(tensors):
            r.string()
            elements = 1
            for _ in range(r.number("I")):
                elements *= r.number("Q")
            kind, offset = r.number("I"), r.number("Q")
            size = tensor_bytes(kind, elements)
            counts[kind] += 1
            total += size
            end = max(end, offset + size)
        data = -(-f.tell() // 32) * 32
    assert data + end <= os.path.getsize(path) <= data + end + 31
    return counts[F32], counts[F16], counts[I2_S], total


def of_family(f):
    """The same from dimensions: the tensors a model of this family has."""
    dim, ffn, tables = f["dim"], f["ffn"], 1 if f["tied"] else 2
    q, kv = f["heads"] * f["head_dim"], f["kv_heads"] * f["head_dim"]
    norms = [dim, dim] + ([q, ffn] if f.get("sub_norms") else [])
    if "pooling" in f:  # in front of each projection; of heads; Gemma's two behind
        norms += 5 * [dim] + [q, ffn] + 2 * [f["head_dim"]]
        norms += 2 * [dim] if f["model_type"] == "gemma3_text" else []
    ternary = [q * dim, kv * dim, kv * dim, dim * q, ffn * dim, ffn * dim, dim * ffn]
    total = tables * tensor_bytes(F16, f["vocab"] * dim) + tensor_bytes(F32, dim)
    total += f["layers"] * (sum(tensor_bytes(F32, n) for n in norms)
                            + sum(tensor_bytes(I2_S, n) for n in ternary))
    return f["layers"] * len(norms) + 1, tables, f["layers"] * len(ternary), total
