#!/usr/bin/env python3
"""Writes the seeds of fuzz_frame and fuzz_message: tests/fuzz/corpus/{frame,message}/seed-*.

Needs python3-msgpack. The files are committed; run this again only after adding to the lists.
"""
import pathlib

import msgpack

HERE = pathlib.Path(__file__).resolve().parent / "corpus"


def call(method, *params, msgid=7):
    return msgpack.packb([0, msgid, method, list(params)])


def notify(method, *params):
    return msgpack.packb([2, method, list(params)])


GENERATION = {
    "model": "m", "id": "a1", "stream": True, "return_progress": True, "max_tokens": 64,
    "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "typical_p": 1.0,
    "repeat_penalty": 1.1, "repeat_last_n": 64, "presence_penalty": 0.5,
    "frequency_penalty": -0.5, "seed": 81, "stop": ["\n", "END"], "stop_token_ids": [1, 2],
    "ignore_eos": False, "logit_bias": {5: -100, 70000: 1.5}, "logprobs": 5, "num_ctx": 512,
    "queue": "fail", "autoload": True, "keep_alive": "1h30m", "deadline_ms": 20000,
    "ttft_deadline_ms": 5000, "priority": "batch", "user": "u", "cache": "off",
}

MESSAGES = {
    "server.info": call("server.info"),
    "server.health": call("server.health", {}),
    "server.status": call("server.status", {}),
    "completions": call("completions", {**GENERATION, "prompt": "Once upon a time", "echo": True}),
    "completions-ids": call("completions", {"model": "m", "prompt": [1, 2, 70000]}),
    "completions-bin": call("completions", {"model": "m", "prompt": b"\1\0\0\0\2\0\0\0"}),
    "completions-stop": call("completions", {"model": "m", "prompt": "x", "stop": "y",
                                             "keep_alive": -1, "n_predict": 5}),
    "chat": call("chat.completions", {**GENERATION, "messages": [
        {"role": "system", "content": "be brief"}, {"role": "user", "content": "gr\u00fc\u00df dich"}]}),
    "embeddings": call("embeddings", {"model": "m", "input": ["one", "", "gr\u00fc\u00df"], "id": "e",
                                      "encoding": "float", "truncate": True, "queue": "wait",
                                      "deadline_ms": 9, "priority": "batch", "user": "u"}),
    "embeddings-one": call("embeddings", {"model": "m", "input": "one text"}),
    "embeddings-mixed": call("embeddings", {"model": "m", "input": ["one", 2]}),
    "tokenize": call("tokenize", {"model": "m", "content": "abc", "add_special": True,
                                  "parse_special": False, "with_pieces": True}),
    "detokenize": call("detokenize", {"model": "m", "tokens": [1, 2, 3]}),
    "cancel": call("cancel", {"id": "a1"}),
    "cancel-notify": notify("cancel", {"all": True}),
    "models.list": call("models.list"),
    "models.ps": call("models.ps"),
    "models.show": call("models.show", {"model": "m"}),
    "models.load": call("models.load", {"model": "m", "keep_alive": 300, "pin": True,
                                        "dry_run": False, "wait": True, "id": "l"}),
    "models.unload": call("models.unload", {"model": "m", "force": True, "timeout_ms": 1000}),
    "pynvim": notify(b"nvim_set_client_info", "p", {}, "remote", {}, {}),
    "unknown-field": call("completions", {"model": "m", "prompt": "x", "temprature": 1}),
    "range": call("completions", {"model": "m", "prompt": "x", "top_p": 1.7}),
    "nan": call("completions", {"model": "m", "prompt": "x", "top_p": float("nan")}),
    "nil": call("completions", {"model": "m", "prompt": "x", "top_p": None}),
    "big": call("completions", {"model": "m", "prompt": "x", "seed": 2**64 - 1}),
    "positional": call("tokenize", "m", "abc"),
    "result": msgpack.packb([1, 7, None, {"text": "Hello", "usage": {"prompt_tokens": 3}}]),
    "error": msgpack.packb([1, 7, [404, "no model 'x'"], None]),
    "error-data": msgpack.packb([1, 7, [507, "no room", {"kind": "insufficient_memory",
                                                         "need_bytes": 1 << 40}], None]),
    "error-text": msgpack.packb([1, 7, "bad", None]),
    "queued": notify("stream", {"id": "a1", "seq": 0, "event": "queued", "position": 2, "eta_ms": 9}),
    "status": notify("stream", {"id": "a1", "seq": 1, "event": "status", "state": "loading",
                                "model": "m", "progress": 0.42}),
    "progress": notify("stream", {"id": "a1", "seq": 2, "event": "progress", "processed": 1,
                                  "total": 9, "cached": 0}),
    "delta": notify("stream", {"id": "a1", "seq": 3, "event": "delta", "text": "Hello", "n": 1,
                               "tokens": b"\1\0\0\0", "logprobs": b"\0\0\0\xbf"}),
    "event-newer": notify("stream", {"id": "a1", "seq": 4, "event": "thought", "text": "hm"}),
    "pipeline": call("server.health", msgid=1) + call("models.ps", msgid=2),
}

# What only the guard walk sees.
STREAMS = {
    "bomb-array": bytes.fromhex("940001a161ddffffffff"),
    "bomb-map": bytes.fromhex("940001a161dfffffffff"),
    "bomb-str": bytes.fromhex("940001a161dbffffffff"),
    "bomb-nest": bytes.fromhex("940001a161") + b"\x91" * 40,
    "bomb-wide": bytes.fromhex("940001a161") + b"\xdc\xff\xff" * 10,
    "reserved": bytes.fromhex("940001a161c1"),
    "ext": bytes.fromhex("940001a161d600112233"),
    "utf8": bytes.fromhex("940001a16191a2c328"),
    "twin": bytes.fromhex("940001a1619182a161c0a161c0"),
    "twin-int": bytes.fromhex("940001a161918205c0cc05c0"),
    "many-keys": bytes.fromhex("940001a16191de0050") + b"".join(
        b"\xcc" + bytes([200 - i]) + b"\xc0" for i in range(80)),
    "many-twins": bytes.fromhex("940001a16191de0050") + b"".join(
        b"\xcc" + bytes([i * 7 % 79]) + b"\xc0" for i in range(80)),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "json": b'{"method":"completions"}',
    "widest": bytes.fromhex("dc0004cf0000000000000000ce00000001db0000000161dd00000001df00000000"),
    "cut": bytes.fromhex("940001a1619181a5"),
}

for folder, seeds in (("message", MESSAGES), ("frame", {**MESSAGES, **STREAMS})):
    (HERE / folder).mkdir(parents=True, exist_ok=True)
    for i, (name, data) in enumerate(seeds.items()):
        # The first byte of a frame seed chooses the size of the pieces.
        prefix = bytes([i * 5 % 128]) if folder == "frame" else b""
        (HERE / folder / f"seed-{name}").write_bytes(prefix + data)
