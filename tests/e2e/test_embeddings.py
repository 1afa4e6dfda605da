"""embeddings: vectors over the socket, alone, in crowds, too long, cancelled, refused."""

import json
import os
import struct
import subprocess
import time

from harness import SLOW, Daemon, fails, main, make_model, tool, until

TEXTS = ["query: what is a bit", "a", "the quick brown fox jumps over the lazy dog",
         "caf\u00e9 42", "", "one two three four five six seven eight nine ten", "zz top", "b"]


def config(**more):
    full = {"memory": {"budget": "256MiB"}, "workers": {"cores": 2},
            "models": [{"name": "qwen", "path": make_model("qwen", vectors="qwen3")},
                       {"name": "gemma", "path": make_model("gemma", vectors="gemma3",
                                                            pooling=1)},
                       {"name": "text", "path": make_model("text", context=4096)}]}
    full.update(more)
    return full


def floats(data):
    return struct.unpack("<%df" % (len(data) // 4), data)


def embed(c, model, texts, **more):
    return c.call("embeddings", dict({"model": model, "input": texts}, **more))


def idle(c):
    """Nothing of any request is left: no KV, nobody running or waiting."""
    s = c.call("server.status")
    return (s["requests"]["running"] == 0 and s["requests"]["queued"] == 0 and
            s["memory"]["kv_bytes"] == 0)


def test_vectors_have_length_one_and_both_encodings_carry_the_same():
    with Daemon(config()) as d, d.client() as c:
        for model in ("qwen", "gemma"):
            got = embed(c, model, TEXTS)
            assert got["dim"] == 128 and len(got["data"]) == len(TEXTS)
            assert got["model"] == model and len(got["digest"]) == 64 and got["kernel"]
            vectors = [floats(v) for v in got["data"]]
            for v in vectors:
                assert abs(sum(x * x for x in v) - 1) < 1e-5
            assert len({v for v in vectors}) == len(TEXTS)
            same = embed(c, model, TEXTS, encoding="float")
            assert [tuple(v) for v in same["data"]] == vectors
            alone = embed(c, model, TEXTS[2])
            assert alone["data"] == [got["data"][2]]
            # What was counted is what tokenize counts, end token included.
            n = sum(c.call("tokenize", {"model": model, "content": t, "add_special": True})["n"]
                    for t in TEXTS)
            assert got["usage"]["prompt_tokens"] == n, (got["usage"], n)
        until(lambda: idle(c))


def test_composed_and_decomposed_letters_are_one_text():
    with Daemon(config()) as d, d.client() as c:
        a, b = embed(c, "qwen", ["caf\u00e9", "cafe\u0301"])["data"]
        assert a == b


def test_the_same_bytes_alone_and_in_a_crowd():
    with Daemon(config()) as d, d.client() as c, d.client() as other:
        alone = [embed(c, "qwen", t)["data"][0] for t in TEXTS]
        calls = [other.send("embeddings", {"model": "qwen", "input": TEXTS[::-1] * 9})
                 for _ in range(3)]
        running = other.send("completions", {"model": "text", "prompt": "abc", "max_tokens": 300})
        for _ in range(5):
            assert embed(c, "qwen", TEXTS)["data"] == alone
        for call in calls:
            assert other.wait(call)["data"] == alone[::-1] * 9
        other.wait(running)
        until(lambda: idle(c))


def test_more_texts_than_wait_at_once_come_in_their_order():
    texts = ["text %d" % i for i in range(700)]
    with Daemon(config()) as d, d.client() as c:
        data = embed(c, "qwen", texts)["data"]
        assert len(data) == 700 and len(set(data)) == 700
        for i in (0, 17, 350, 699):
            assert embed(c, "qwen", texts[i])["data"][0] == data[i]


def test_a_short_queue_makes_a_long_call_wait_not_fail():
    texts = ["text %d" % i for i in range(60)]
    with Daemon(config()) as d, d.client() as c:
        wanted = embed(c, "qwen", texts)["data"]
    with Daemon(config(limits={"queue_per_user": 2})) as d, d.client() as c:
        assert embed(c, "qwen", texts)["data"] == wanted


def test_too_long_a_text_names_its_tokens_or_is_cut():
    long = "word " * 400
    with Daemon(config()) as d, d.client() as c:
        error = fails(413, embed, c, "qwen", ["short", long])
        tokens = c.call("tokenize", {"model": "qwen", "content": long, "add_special": True})["n"]
        assert "input[1]" in error.text and "truncate" in error.text, error.text
        assert error.data["limit"] == 256 and error.data["actual"] == tokens, error.data
        assert str(tokens) in error.text and "256" in error.text
        got = embed(c, "qwen", ["short", long], truncate=True)
        assert got["truncated"] == [1]
        assert got["data"][0] == embed(c, "qwen", "short")["data"][0]
        # Cut behind the same token, the end token kept: what is cut off does not matter.
        assert got["data"][1] == embed(c, "qwen", long + "other words", truncate=True)["data"][0]
        assert embed(c, "qwen", "short", truncate=True)["truncated"] == []
        huge = "word " * 200000  # a megabyte: cut before it is tokenized
        assert embed(c, "qwen", huge, truncate=True)["data"][0] == got["data"][1]
        fails(413, embed, c, "qwen", huge)
        until(lambda: idle(c))


def test_each_kind_of_model_refuses_what_the_other_does():
    with Daemon(config()) as d, d.client() as c:
        error = fails(501, embed, c, "text", "a")
        assert "makes no embeddings" in error.text, error.text
        error = fails(501, c.call, "completions", {"model": "qwen", "prompt": "a"})
        assert "generates no text" in error.text, error.text
        error = fails(501, c.call, "chat.completions", {
            "model": "gemma", "messages": [{"role": "user", "content": "a"}]})
        assert "bnctl embed" in error.text, error.text
        assert c.call("models.show", {"model": "qwen"})["pooling"] == "last"
        assert c.call("models.show", {"model": "gemma"})["pooling"] == "mean"
        assert "pooling" not in c.call("models.show", {"model": "text"})
        until(lambda: idle(c))


def test_bad_parameters_are_named():
    with Daemon(config()) as d, d.client() as c:
        for params, words in [
                ({"model": "qwen"}, "input"), ({"model": "qwen", "input": []}, "input"),
                ({"model": "qwen", "input": 5}, "input"),
                ({"model": "qwen", "input": ["a", 5]}, "input"),
                ({"model": "qwen", "input": "a", "encoding": "base64"}, "encoding"),
                ({"model": "qwen", "input": "a", "temperature": 1}, "temperature"),
                ({"model": "qwen", "input": ["a"] * 2049}, "2048")]:
            assert words in fails(400, c.call, "embeddings", params).text
        fails(404, embed, c, "nobody", "a")
        # 128 numbers and a header each, 65536 values in a message: 500 do not fit as floats.
        error = fails(413, embed, c, "qwen", ["a"] * 600, encoding="float")
        assert "encoding bin" in error.text, error.text
        assert len(embed(c, "qwen", ["a"] * 2048)["data"]) == 2048
        until(lambda: idle(c))


def test_a_call_can_be_cancelled_or_left_and_leaves_nothing():
    texts = ["some words to read %d " % i * 8 for i in range(2000)]
    with Daemon(config()) as d, d.client() as c:
        call = c.send("embeddings", {"model": "qwen", "input": texts, "id": "e"})
        time.sleep(0.05)
        assert c.call("cancel", {"id": "e"})["cancelled"] == ["e"]
        fails(499, c.wait, call)
        until(lambda: idle(c))
        with d.client() as gone:
            gone.send("embeddings", {"model": "gemma", "input": texts})
            time.sleep(0.05)
        until(lambda: idle(c))
        call = c.send("embeddings", {"model": "qwen", "input": texts, "deadline_ms": 1})
        error = fails(408, c.wait, call)
        assert "input[" in error.text, error.text
        until(lambda: idle(c))
        assert len(embed(c, "qwen", "still here")["data"]) == 1


def test_a_long_call_does_not_starve_another_connection():
    texts = ["some words to read %d " % i * 8 for i in range(2000)]
    with Daemon(config()) as d, d.client() as c, d.client() as other:
        call = c.send("embeddings", {"model": "qwen", "input": texts})
        got = other.call("completions", {"model": "text", "prompt": "abc", "max_tokens": 20})
        assert got["usage"]["completion_tokens"] > 0
        assert call not in c.results
        c.send("cancel", {"all": True})
        fails(499, c.wait, call)


def test_bnctl_prints_vectors_lines_and_similarities():
    with Daemon(config()) as d, d.client() as c:
        env = dict(os.environ, BND_SOCKET=d.socket)
        path = tool("BN_BNCTL", "client", "bnctl")

        def run(*argv, stdin=""):
            return subprocess.run([path, "embed", *argv], input=stdin, capture_output=True,
                                  text=True, env=env, timeout=30 * SLOW)

        wanted = [floats(v) for v in embed(c, "qwen", ["one", "two"])["data"]]
        for got in (run("qwen", "one", "two"), run("qwen", stdin="one\ntwo\n"),
                    run("qwen", "-", stdin="one\r\ntwo")):
            assert got.returncode == 0 and got.stderr == "", got
            lines = [[float(x) for x in line.split()] for line in got.stdout.splitlines()]
            assert [len(v) for v in lines] == [128, 128]
            assert all(abs(a - b) < 1e-6 for v, w in zip(lines, wanted) for a, b in zip(v, w))
        reply = json.loads(run("qwen", "one", "two", "--json").stdout)
        assert reply["dim"] == 128 and len(reply["data"][1]) == 128
        near = run("qwen", "one", "two", "one", "--similar")
        table = [line.split(None, 1) for line in near.stdout.splitlines()]
        assert [t for _, t in table] == ["one", "two", "one"], near
        cosine = sum(a * b for a, b in zip(*wanted))
        assert abs(float(table[0][0]) - 1) < 1e-4 and abs(float(table[1][0]) - cosine) < 1e-3
        assert run("text", "one").returncode == 1
        gap = run("qwen", stdin="one\n\ntwo").stdout.splitlines()
        assert len(gap) == 3, "the n-th vector belongs to the n-th line"
        assert run("qwen", stdin="").returncode == 66
        zero = run("qwen", stdin="one\ntw\0o\n")
        assert zero.returncode == 66 and "line 2" in zero.stderr, zero
        told = json.loads(run("qwen", "one", "two", "one", "--similar", "--json").stdout)
        assert told["model"] == "qwen" and len(told["similar"]) == 3, told
        assert abs(told["similar"][1] - cosine) < 1e-5 and abs(told["similar"][2] - 1) < 1e-5, told
        cut = run("qwen", "short", "word " * 400, "--truncate")
        assert cut.returncode == 0 and "text 2 " in cut.stderr, cut
        many = run("qwen", stdin="".join("line %d\n" % i for i in range(600)))
        assert many.returncode == 0 and len(many.stdout.splitlines()) == 600


if __name__ == "__main__":
    main(globals())
