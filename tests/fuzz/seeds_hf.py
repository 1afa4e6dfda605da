#!/usr/bin/env python3
"""Writes the seeds of fuzz_hfconfig, fuzz_hfvocab and fuzz_sentencepiece: corpus/<name>/seed-*.

The files are committed; run this again only after adding to the lists. Folders are one input each:
files with 0x1E between them (folder.h).
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent / "corpus"
SEPARATOR = b"\x1e"


def dump(value):
    return json.dumps(value, ensure_ascii=False).encode()


def write(target, seeds):
    folder = HERE / target
    folder.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        (folder / f"seed-{i:03}").write_bytes(seed)


# ---- config.json ------------------------------------------------------------------------------

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
    "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "vocab_size": 300, "bos_token_id": 290,
    "eos_token_id": [291, 292], "quantization_config": {
        "quant_method": "bitnet", "modules_to_not_convert": ["lm_head"]}}
BITNET = dict(LLAMA, architectures=["BitNetForCausalLM"], hidden_act="relu2",
              tie_word_embeddings=True, _name_or_path="who/what", quantization_config={
                  "quant_method": "bitnet", "linear_class": "autobitlinear",
                  "quantization_mode": "offline", "use_rms_norm": False})
ODD = dict(LLAMA, head_dim=32, rope_scaling={"rope_type": "default"}, attention_bias=False,
           mlp_bias=None, sliding_window=None, num_experts=0, pad_token_id=-1, weight_bits=1,
           rope_parameters={"rope_type": "default", "rope_theta": 5e5})


def configs():
    generation = dump({"eos_token_id": [291, 299], "do_sample": True})
    for config in (LLAMA, BITNET, ODD, dict(LLAMA, rope_scaling={"type": "linear", "factor": 2}),
                   dict(LLAMA, attention_bias=True), dict(LLAMA, hidden_size=126)):
        yield dump(config)
        yield dump(config) + SEPARATOR + generation


# ---- tokenizer.model --------------------------------------------------------------------------

def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def piece(text, score=0.0, kind=1):
    out = field(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score)
    return field(1, out if kind == 1 else out + varint(3 << 3) + varint(kind))


def sentencepiece(pieces, model=2, dummy=1, charsmap=b"", ids=((41, 1),)):
    trainer = varint(3 << 3) + varint(model)
    trainer += b"".join(varint(k << 3) + varint(v) for k, v in ids)
    normalizer = (field(2, charsmap) if charsmap else b"") + varint(3 << 3) + varint(dummy)
    return b"".join(pieces) + field(2, trainer) + field(3, normalizer)


SPECIAL = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)]
BYTES = [piece(f"<0x{b:02X}>", 0, 6) for b in (0x0A, 0x41, 0xE2)]
WORDS = [piece("\u2581", -9), piece("a", -8), piece("b", -7), piece("ab", -1),
         piece("\u2581ab", -2), piece("\u2581\u2581", -3, 4), piece("x", -4, 5)]


def models():
    yield sentencepiece(SPECIAL + WORDS)
    yield sentencepiece(SPECIAL + BYTES + WORDS, dummy=0)
    yield sentencepiece(SPECIAL + WORDS, ids=((40, 0), (41, 1), (42, 2), (43, (1 << 64) - 1)))
    yield sentencepiece(SPECIAL + WORDS, model=1)
    yield sentencepiece(SPECIAL + WORDS, charsmap=b"\x01\x02")
    yield sentencepiece(SPECIAL) + field(9, b"later")
    yield sentencepiece(SPECIAL + [piece("", 1)])
    yield b"IQ== 0\nIg== 1\n"


# ---- folders with a tokenizer -----------------------------------------------------------------

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
         r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
PROGRAMS = [
    BYTE_LEVEL,
    {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated"},
        dict(BYTE_LEVEL, use_regex=False)]},
    {"type": "Sequence", "pretokenizers": [
        {"type": "Punctuation", "behavior": "Contiguous"}, BYTE_LEVEL,
        {"type": "Digits", "individual_digits": True}]},
]


def byte_level(program, pairs=False, alphabet=False):
    symbols = ["a", "b", "Ġ", "1", "2", "Ċ"]
    if alphabet:
        kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
        symbols = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    vocab = {t: i for i, t in enumerate(symbols + ["ab", "Ġab"])}
    added = [{"id": len(vocab) + i, "content": t, "special": i < 2}
             for i, t in enumerate(("<|begin_of_text|>", "<|eot_id|>", "\n\n"))]
    merges = [("a", "b"), ("Ġ", "ab")]
    return {"added_tokens": added, "normalizer": None, "pre_tokenizer": program,
            "post_processor": {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<|begin_of_text|>"}}, {"Sequence": {"id": "A"}}]},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": vocab,
                      "merges": [list(m) if pairs else " ".join(m) for m in merges]}}


SPM_JSON = {
    "added_tokens": [{"id": 0, "content": "<unk>", "special": True},
                     {"id": 8, "content": "<x>", "special": False}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}]},
    "model": {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "vocab": {
        "<unk>": 0, "<s>": 1, "<0x0A>": 2, "a": 3, "b": 4, "ab": 5, "\u2581ab": 6, "\u2581": 7},
        "merges": ["a b", "\u2581 ab"]}}


def vocabs():
    config = dump({"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|eot_id|>"},
                   "add_bos_token": True, "chat_template": [{"name": "default", "template": "x"}],
                   "added_tokens_decoder": {"11": {"content": "<|q|>", "special": True}}})
    plain = dump({"bos_token": "<s>", "unk_token": "<unk>", "add_bos_token": False})
    added = dump({"<pad>": 10, "<more>": 11})
    for rows, program in ((2, PROGRAMS[0]), (2, PROGRAMS[1]), (2, PROGRAMS[2]), (65, PROGRAMS[1])):
        for pairs in (False, True):
            text = dump(byte_level(program, pairs, rows == 65))
            yield bytes([rows]) + text
            yield bytes([rows]) + text + SEPARATOR + config
    yield bytes([2]) + SEPARATOR.join((dump(SPM_JSON), plain, added))
    yield bytes([2]) + SEPARATOR.join((dump(SPM_JSON), b"", dump({"<y>": 9})))
    for model in models():
        yield bytes([3]) + SEPARATOR.join((b"", plain, added, model))
        yield bytes([1]) + SEPARATOR * 3 + model


if __name__ == "__main__":
    write("hfconfig", configs())
    write("sentencepiece", models())
    write("hfvocab", vocabs())
