#!/usr/bin/python3
"""Byte-level BPE in the Llama-3 manner: training, encoding, decoding.

Text is cut into pieces with the Llama-3 regular expression, each piece is written in the GPT-2 byte alphabet (one
visible character per byte), and merges join symbols inside a piece. As in Llama-3, a piece that is itself a token is
used whole; otherwise the merge of lowest rank goes first, leftmost on ties.

Vocabulary: 0..255 the byte symbols in GPT-2 order, then one token per merge, then the two control tokens.
Needs the Debian package python3-regex (for \\p{L} and \\p{N}).
"""
import heapq
import json

import regex

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


def byte_alphabet():
    """GPT-2's table, byte -> character, in the order in which the byte symbols get their ids."""
    visible = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    table = {b: chr(b) for b in visible}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(visible))
    return table


class Tokenizer:
    def __init__(self, merges):
        """merges: list of (left, right) pairs of token strings, best first."""
        self.to_char = byte_alphabet()
        self.to_byte = {c: b for b, c in self.to_char.items()}
        self.merges = [tuple(m) for m in merges]
        self.tokens = list(self.to_char.values()) + [a + b for a, b in self.merges] + [BOS, EOS]
        self.id = {t: i for i, t in enumerate(self.tokens)}
        assert len(self.id) == len(self.tokens)
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.bos, self.eos = self.id[BOS], self.id[EOS]
        self.pattern = regex.compile(PATTERN)
        self.cache = {}

    def __len__(self):
        return len(self.tokens)

    def encode_piece(self, piece):
        ids = self.cache.get(piece)
        if ids is not None:
            return ids
        text = "".join(self.to_char[b] for b in piece.encode("utf-8"))
        if text in self.id:
            ids = [self.id[text]]
        else:
            symbols = list(text)
            while len(symbols) > 1:
                best = min(range(len(symbols) - 1),
                           key=lambda i: self.rank.get((symbols[i], symbols[i + 1]), 1 << 30))
                if (symbols[best], symbols[best + 1]) not in self.rank:
                    break
                symbols[best:best + 2] = [symbols[best] + symbols[best + 1]]
            ids = [self.id[s] for s in symbols]
        if len(self.cache) < 200000:
            self.cache[piece] = ids
        return ids

    def encode(self, text):
        ids = []
        for piece in self.pattern.findall(text):
            ids += self.encode_piece(piece)
        return ids

    def token_bytes(self, i):
        if i in (self.bos, self.eos):
            return b""
        return bytes(self.to_byte[c] for c in self.tokens[i])

    def decode(self, ids):
        return b"".join(self.token_bytes(i) for i in ids).decode("utf-8", "replace")

    def save(self, path):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"merges": [f"{a} {b}" for a, b in self.merges]}, f, ensure_ascii=False, indent=0)

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as f:
            return cls([tuple(m.split(" ")) for m in json.load(f)["merges"]])


def train(weighted_texts, size):
    """weighted_texts: list of (text, weight). Returns a Tokenizer with `size` tokens, the two control tokens included."""
    pattern = regex.compile(PATTERN)
    to_char = byte_alphabet()
    counts = {}
    for text, weight in weighted_texts:
        for piece in pattern.findall(text):
            counts[piece] = counts.get(piece, 0) + weight
    words = [["".join(to_char[b] for b in p.encode("utf-8")), c] for p, c in sorted(counts.items())]
    symbols = [list(w) for w, _ in words]
    freq = [c for _, c in words]
    pairs, where = {}, {}
    for i, s in enumerate(symbols):
        for pair in zip(s, s[1:]):
            pairs[pair] = pairs.get(pair, 0) + freq[i]
            where.setdefault(pair, set()).add(i)
    heap = [(-c, p) for p, c in pairs.items()]
    heapq.heapify(heap)
    merges, seen = [], set(to_char.values())
    while len(merges) < size - 256 - 2 and heap:
        negative, pair = heapq.heappop(heap)
        if pairs.get(pair, 0) != -negative:
            continue                                    # an outdated entry; a newer one is in the heap
        joined = pair[0] + pair[1]
        touched = set()
        for i in where.pop(pair):
            s, n, k = symbols[i], [], 0
            for p in zip(s, s[1:]):
                pairs[p] -= freq[i]
                touched.add(p)
            while k < len(s):
                if k + 1 < len(s) and s[k] == pair[0] and s[k + 1] == pair[1]:
                    n.append(joined)
                    k += 2
                else:
                    n.append(s[k])
                    k += 1
            symbols[i] = n
            for p in zip(n, n[1:]):
                pairs[p] = pairs.get(p, 0) + freq[i]
                where.setdefault(p, set()).add(i)
                touched.add(p)
        for p in touched:
            if pairs.get(p, 0) > 0 and p != pair:
                heapq.heappush(heap, (-pairs[p], p))
        pairs.pop(pair, None)
        if joined not in seen:                          # two different pairs may spell the same token
            seen.add(joined)
            merges.append(pair)
    return Tokenizer(merges)
