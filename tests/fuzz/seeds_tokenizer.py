#!/usr/bin/env python3
"""Writes the seeds of fuzz_tokenizer: tests/fuzz/corpus/tokenizer/seed-*.

The files are committed; run this again only after adding to the lists.
"""
import pathlib

HERE = pathlib.Path(__file__).resolve().parent / "corpus" / "tokenizer"

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def seed(choice, tokens, text):
    out = bytes([choice, len(tokens)])
    for kind, spelling in tokens:
        spelling = spelling.encode() if isinstance(spelling, str) else spelling
        out += bytes([kind, len(spelling)]) + spelling
    return out + (text.encode() if isinstance(text, str) else text)


WORDS = [(NORMAL, w) for w in ("th", "Ġt", "Ġthe", "AA", "AAAA", "in", "<|im_start|>", "ĊĊ")]
PIECES = [(NORMAL, w) for w in ("▁", "▁t", "▁the", "▁▁", "aa", "th", "he", "</s>")]
SPECIAL = [(CONTROL, "<|eot_id|>"), (CONTROL, "<a>"), (CONTROL, "<a><b>"),
           (USER_DEFINED, "\n\n"), (USER_DEFINED, "▁▁"), (USER_DEFINED, ""), (UNUSED, "x"),
           (UNKNOWN, "<unk>"), (CONTROL, b"\xe2\x96"), (BYTE, "<0x41>"),
           (CONTROL, "<|begin_of_text|><|eom_id|>")]
TEXTS = [
    "the thin AAAAA\n\n  in", "I'LL pay $1234,\r\n\r\n ok'ſ \t\n", "<|im_end|><a><b><|eot_id|>x",
    "  the  the ", "é 👩‍💻 e\u0301 镇 ▁the", b"\xff\xc3(\xed\xa0\x80\xf0\x9f", "", "<0x41></s><s>",
]
# For splitters that compose first.
COMPOSED = ["cafe\u0301 q\u0307\u0323 \u1112\u1161\u11ab \u212b\n\n\u0301", "a" + "\u0315\u0323" * 200,
            "I'LL pay $1234,\r\n\r\n ok'\u017f \t\n", "<|im_end|>\u0301<|eot_id|>x"]

if __name__ == "__main__":
    HERE.mkdir(parents=True, exist_ok=True)
    n = 0
    for choice, tokens in ((0x00, WORDS), (0x44, WORDS + SPECIAL), (0x01, PIECES),
                           (0x11, PIECES + SPECIAL), (0x03, PIECES), (0x0a, WORDS),
                           (0x29, SPECIAL)):
        for text in TEXTS:
            (HERE / f"seed-{n:03}").write_bytes(seed(choice, tokens, text))
            n += 1
    for choice, tokens in ((0x20, WORDS), (0x24, WORDS + SPECIAL)):
        for text in COMPOSED:
            (HERE / f"seed-{n:03}").write_bytes(seed(choice, tokens, text))
            n += 1
