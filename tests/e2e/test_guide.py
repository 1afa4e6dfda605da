"""The guide as a command: bnctl models and bnctl recommend, with a daemon, without, in a pipe, on a
narrow terminal; and kernels the guide forbids, as a user meets them."""

import fcntl
import json
import os
import platform
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time

from harness import SLOW, Daemon, Skip, main, make_model, tool

NOWHERE = "/nonexistent/bnd.sock"
X86 = platform.machine() in ("x86_64", "AMD64")
GIB = 1 << 30

# Bytes of tensor data of the published I2_S files; of the two that make vectors, with norms in F32.
FILE_BYTES = {
    "bitnet-b1.58-2B-4T": 1179449920, "bitnet-b1.58-2B-4T-bf16": 1179449920,
    "bitnet_b1_58-large": 269026560, "bitnet_b1_58-3B": 1012104384,
    "Llama3-8B-1.58-100B-tokens": 3847248896, "Falcon3-1B-Instruct-1.58bit": 1357164480,
    "Falcon3-3B-Instruct-1.58bit": 2216723264, "Falcon3-7B-Instruct-1.58bit": 3273836672 + 98304,
    "Falcon3-10B-Instruct-1.58bit": 3986641664, "Falcon-E-1B-Instruct": 665203968,
    "Falcon-E-1B-Base": 665203968, "Falcon-E-3B-Instruct": 998784000, "Falcon-E-3B-Base": 998784000,
    "bitnet-embedding-0.6b": 422680704, "bitnet-embedding-270m": 361291200,
}
VECTORS = {"bitnet-embedding-0.6b": 1024, "bitnet-embedding-270m": 640}


def bnctl_path():
    return tool("BN_BNCTL", "client", "bnctl")


def run(socket, *argv, stdin=""):
    env = dict(os.environ, BND_SOCKET=socket, TERM="xterm")
    return subprocess.run([bnctl_path(), *argv], input=stdin, capture_output=True, text=True,
                          env=env, timeout=30 * SLOW)


def ask(socket, *argv):
    done = run(socket, *argv, "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def by_name(guide):
    return {m["name"]: m for m in guide["models"]}


def config(**more):
    full = {"memory": {"budget": "3GiB"}, "workers": {"cores": 2},
            "models": [{"name": "tiny", "path": make_model("tiny")}]}
    full.update(more)
    return full


def on_terminal(argv, socket, columns, answers=()):
    """Exit code and screen of bnctl on a terminal of that width; answers as prompts appear."""
    try:
        pid, fd = pty.fork()
    except OSError as e:
        raise Skip("no pseudo terminals here: %s" % e) from None
    if pid == 0:
        env = dict(os.environ, BND_SOCKET=socket, TERM="xterm", COLUMNS=str(columns))
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        os.execve(bnctl_path(), [bnctl_path(), *argv], env)
    screen, left = b"", list(answers)
    end = time.monotonic() + 30 * SLOW
    while time.monotonic() < end:
        if left and left[0][0] in screen:
            os.write(fd, left.pop(0)[1])
        if not select.select([fd], [], [], 0.05)[0]:
            continue
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        screen += data
    assert not left, screen
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, re.sub(r"\033\[[0-9;]*m", "", screen.decode()).replace("\r\n", "\n")


def test_without_a_daemon_it_measures_this_machine():
    guide = ask(NOWHERE, "models")
    models = by_name(guide)
    assert guide["source"] == "machine" and guide["budget_bytes"] >= 0, guide
    assert {n: m["bytes"]["i2_s_file"] for n, m in models.items()} == FILE_BYTES
    for m in models.values():
        assert m["repo"].endswith("/" + m["name"]) and m["configured"] == []
        assert (m["kind"] == "embedding") == (m["name"] in VECTORS) == (m["stops"] == []), m
        assert m.get("dimensions") == VECTORS.get(m["name"]), m
        assert (m["kind"] == "chat") == m["chats"], m
        b = m["bytes"]
        if "kernel" in m:
            assert b["total"] == b["weights"] + b["vocabulary"] + b["scratch"] + b["kv"], m
            assert m["fits"] == (b["total"] <= guide["budget_bytes"]), m
            # an F16 embedding, trits at two bits or less, norms: the file, give or take padding
            assert 0.8 < b["weights"] / b["i2_s_file"] < 1.01, m
            assert m["kernel"].split(".")[0].replace("i2s", "i2_s") in m["kernels"]
        else:
            assert not m["fits"] and m["fits_context"] == 0 and m["kernels"] == []
        assert b["kv"] >= b["kv_per_token"] * m["context"]
    third = models["bitnet_b1_58-3B"]
    assert "i2_s" not in third["kernels"] and third["chats"] is False and third["kind"] == "text"
    for name in VECTORS:
        m = models[name]
        assert m["kernels"] == ["i2_s"] and m["pooling"] == "last" and m["licence"] == "MIT", m
        assert m["context"] == 32768, m
    assert models["bitnet-b1.58-2B-4T"]["kernels"][0] == "i2_s"
    assert models["bitnet-b1.58-2B-4T"]["licence"] == "MIT"
    assert "licence" not in models["Llama3-8B-1.58-100B-tokens"]  # its card names none


def test_a_pipe_gets_every_column_and_no_colours():
    done = run(NOWHERE, "models")
    assert done.returncode == 0 and done.stderr == "" and "\033" not in done.stdout, done
    head = done.stdout.splitlines()[0].split()
    assert head == ["MODEL", "FOR", "PARAMS", "MEMORY", "FITS", "KERNELS", "CONTEXT", "LICENCE"], head
    assert "a daemon would take of this machine" in done.stdout
    rows = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()[1:16]}
    assert rows.keys() == FILE_BYTES.keys()
    assert {n for n, kind in rows.items() if kind == "embedding"} == VECTORS.keys(), rows
    quiet = run(NOWHERE, "models", "-q").stdout
    assert len(quiet.splitlines()) == len(FILE_BYTES) + 1


def test_a_narrow_terminal_gets_fewer_columns():
    heads = {}
    for columns in (60, 80, 100, 140):
        code, screen = on_terminal(["models"], NOWHERE, columns)
        assert code == 0, screen
        lines = screen.splitlines()[:len(FILE_BYTES) + 1]
        assert max(len(line) for line in lines) <= columns, screen
        heads[columns] = lines[0].split()
    assert heads[60] == ["MODEL", "PARAMS", "MEMORY", "FITS"], heads
    assert heads[80][-1] == "KERNELS" and heads[100][-1] == "CONTEXT", heads
    assert heads[140][-1] == "LICENCE" and heads[140][1] == "FOR", heads


def test_with_a_daemon_it_measures_the_daemons_budget():
    here = by_name(ask(NOWHERE, "models"))
    with Daemon(config()) as d:
        guide = ask(d.socket, "models")
        assert guide["source"] == "daemon" and guide["budget_bytes"] == 3 * GIB
        for name, m in by_name(guide).items():
            assert m["bytes"].get("weights") == here[name]["bytes"].get("weights")
            assert m["bytes"]["kv"] == here[name]["bytes"]["kv"]
            if "kernel" in m:
                assert m["fits"] == (m["bytes"]["total"] <= 3 * GIB), m
        ten = by_name(guide)["Falcon3-10B-Instruct-1.58bit"]
        assert ten["fits_context"] == 0 and not ten["fits"]
        assert "3.0 GiB" in run(d.socket, "models").stdout
        # only so much context
        three = by_name(guide)["Falcon3-3B-Instruct-1.58bit"]
        assert 0 < three["fits_context"] < three["context"] and three["fits_context"] % 256 == 0
        assert "%d tokens" % three["fits_context"] in run(d.socket, "models").stdout


def test_configured_models_are_found_by_name_and_by_path():
    tiny = make_model("tiny")
    with Daemon(config()) as d:
        folder = os.path.join(d.folder, "1bitLLM", "bitnet_b1_58-large")
        os.makedirs(folder)
        shutil.copy(tiny, os.path.join(folder, "ggml-model-i2_s.gguf"))
        d.write_config(config(models=[
            {"name": "falcon-e-1b-instruct", "path": tiny},
            {"name": "second", "path": tiny, "aliases": ["bitnet-2b"]},
            {"name": "third", "path": os.path.join(folder, "ggml-model-i2_s.gguf")},
            {"name": "other", "path": tiny}]))
        assert d.stop() == 0
        with Daemon(d.config, folder=d.folder) as e:
            models = by_name(ask(e.socket, "models"))
            found = {n: m["configured"] for n, m in models.items() if m["configured"]}
            assert found == {"Falcon-E-1B-Instruct": ["falcon-e-1b-instruct"],
                             "bitnet-b1.58-2B-4T": ["second"],
                             "bitnet_b1_58-large": ["third"]}, found
            assert "HERE AS" in run(e.socket, "models").stdout
            answer = ask(e.socket, "recommend", "--use", "edge")
            assert answer["commands"] == ["bnctl chat falcon-e-1b-instruct"], answer


def test_masked_features_of_the_daemon_count():
    if not X86:
        raise Skip("masks x86 features")
    with Daemon(config(workers={"cores": 1, "mask_features": ["avx2"]})) as d:
        model = by_name(ask(d.socket, "models"))["bitnet-b1.58-2B-4T"]
        assert model["kernel"].endswith(".scalar"), model


def test_one_model_is_told_in_full():
    for word in ("bitnet-3b", "bitnet_b1_58-3B", "1bitllm/BITNET_b1_58-3b"):
        text = run(NOWHERE, "models", word)
        assert text.returncode == 0 and "1bitLLM/bitnet_b1_58-3B" in text.stdout, text
        assert ("tl2" if X86 else "tl1") in text.stdout and "i2s" not in text.stdout, text
    one = ask(NOWHERE, "models", "falcon-e-1b")
    assert [m["name"] for m in one["models"]] == ["Falcon-E-1B-Instruct"]
    assert "<|im_end|>, <|end_of_text|>" in run(NOWHERE, "models", "falcon-e-1b").stdout
    vectors = run(NOWHERE, "models", "embedding-270m").stdout
    assert "640 numbers, pooled: last" in vectors and "microsoft/bitnet-embedding-270m" in vectors
    assert "stops at" not in vectors and "chat template" not in vectors, vectors
    wrong = run(NOWHERE, "models", "bitnet-2c")
    assert wrong.returncode == 1 and "did you mean 'bitnet-2b'" in wrong.stderr, wrong
    wrong = run(NOWHERE, "models", "gpt-5")
    assert wrong.returncode == 1 and "bnctl ls" in wrong.stderr, wrong


def test_a_socket_that_was_named_must_answer():
    for verb in (["models"], ["recommend", "--use", "edge"]):
        done = run(NOWHERE, *verb, "--socket", NOWHERE)
        assert done.returncode == 69 and NOWHERE in done.stderr and done.stdout == "", done


def test_recommendations_are_the_guides():
    wanted = {"testing": "bitnet_b1_58-large", "general": "bitnet-b1.58-2B-4T",
              "edge": "Falcon-E-1B-Instruct", "quality": "Falcon3-7B-Instruct-1.58bit",
              "maximum": "Falcon3-10B-Instruct-1.58bit", "embedding": "bitnet-embedding-0.6b"}
    verbs = {"testing": "bnctl run ", "embedding": "bnctl embed "}
    for use, name in wanted.items():
        answer = ask(NOWHERE, "recommend", "--use", use, "--ram", "64GiB")
        assert answer["model"]["name"] == answer["wanted"] == name and answer["found"], answer
        assert answer["budget_bytes"] == 64 * GIB
        assert answer["commands"][0] == "bnctl pull " + answer["model"]["repo"]
        text = run(NOWHERE, "recommend", "-u", use, "--ram", "64 GiB").stdout
        assert name in text and "bnctl pull" in text and "- name: " + name.lower() in text, text
        command = verbs.get(use, "bnctl chat ") + name.lower()
        assert command in text and "context:" not in text, text
        assert answer["commands"][-1] == command, answer


def test_what_fits_instead_is_said_with_bytes():
    answer = ask(NOWHERE, "recommend", "--use", "maximum", "--ram", "4GiB")
    assert answer["wanted"] == "Falcon3-10B-Instruct-1.58bit"
    assert answer["model"]["name"] == "Falcon3-7B-Instruct-1.58bit"
    assert 2048 <= answer["context"] < 32768
    text = run(NOWHERE, "recommend", "--use", "maximum", "--ram", "4GiB").stdout
    assert "Falcon3-10B-Instruct-1.58bit" in text and "does not fit" in text, text
    assert "context: %d" % answer["context"] in text and "4.0 GiB given" in text, text
    none = run(NOWHERE, "recommend", "--use", "testing", "--ram", "100MB")
    assert none.returncode == 1 and none.stdout == "", none
    assert "bitnet_b1_58-large" in none.stderr and "MiB" in none.stderr, none
    none = run(NOWHERE, "recommend", "--use", "testing", "--ram", "100MB", "--json")
    assert none.returncode == 1
    reply = json.loads(none.stdout)
    assert reply["found"] is False and reply["least_bytes"] > 100e6, reply


def test_scripts_are_told_which_options_to_give():
    done = run(NOWHERE, "recommend")
    assert done.returncode == 64 and done.stdout == "", done
    assert "--use" in done.stderr and "--ram" in done.stderr and "edge" in done.stderr, done
    for argv, word in ((["--use", "gaming"], "gaming"), (["--use", "edge", "--ram", "4"], "4GiB"),
                       (["--use", "edge", "--ram", "lots"], "lots"),
                       (["--use", "edge", "--ram", "-1GiB"], "900MiB"),
                       (["--use", "edge", "--ram", "nanGiB"], "900MiB")):
        done = run(NOWHERE, "recommend", *argv)
        assert done.returncode == 64 and word in done.stderr, (argv, done)


def test_on_a_terminal_it_asks():
    code, screen = on_terminal(["recommend"], NOWHERE, 80,
                               [(b"Memory", b"plenty\n"), (b"no size", b"2GiB\n"),
                                (b"Use:", b"fun\n"), (b"none of them", b"maximum\n")])
    assert code == 0 and "bitnet-b1.58-2B-4T" in screen and "2.0 GiB given" in screen, screen
    code, screen = on_terminal(["recommend", "--ram", "3GiB"], NOWHERE, 80, [(b"Use:", b"\n")])
    assert code == 0 and "the general-purpose model" in screen and "Memory" not in screen, screen
    code, screen = on_terminal(["recommend"], NOWHERE, 80, [(b"Memory", b"\x04")])
    assert code == 130, (code, screen)


def test_what_it_says_is_what_the_daemon_reserves():
    path = make_model("large", preset="large")  # the true dimensions, random weights
    with Daemon(config(models=[{"name": "l", "path": path}])) as d:
        dry = ask(d.socket, "load", "l", "--dry-run")
        said = by_name(ask(d.socket, "models"))["bitnet_b1_58-large"]["bytes"]
        assert 0 <= dry["bytes"]["weights"] - said["weights"] <= said["vocabulary"], (dry, said)
        assert 0 <= dry["bytes"]["scratch"] - said["scratch"] <= 4096, (dry, said)
        assert dry["bytes"]["kv"] == said["kv_per_token"] * 2048 == said["kv"], (dry, said)
        assert run(d.socket, "load", "l").returncode == 0
        shown = ask(d.socket, "show", "l")
        assert shown["known"] == "bitnet_b1_58-large" and shown["template"] == "none", shown
        guide = by_name(ask(d.socket, "models"))
        assert guide["bitnet_b1_58-large"]["configured"] == ["l"]
        refused = run(d.socket, "chat", "l", stdin="hello\n")
        assert refused.returncode == 1 and "an instruct model" in refused.stderr, refused


def test_what_it_says_of_vectors_is_what_the_daemon_reserves():
    for preset, name in (("embedding-0.6b", "bitnet-embedding-0.6b"),
                         ("embedding-270m", "bitnet-embedding-270m")):
        path = make_model(preset, preset=preset)  # the true dimensions, random weights
        with Daemon(config(models=[{"name": "v", "path": path}])) as d:
            dry = ask(d.socket, "load", "v", "--dry-run")
            m = by_name(ask(d.socket, "models"))[name]
            said = m["bytes"]
            assert 0 <= dry["bytes"]["weights"] - said["weights"] <= said["vocabulary"], (dry, said)
            assert 0 <= dry["bytes"]["scratch"] - said["scratch"] <= 4096, (dry, said)
            assert dry["bytes"]["kv"] == said["kv_per_token"] * m["context"], (dry, said)
            assert run(d.socket, "load", "v").returncode == 0
            assert ask(d.socket, "show", "v")["known"] == name
            assert by_name(ask(d.socket, "models"))[name]["configured"] == ["v"]
            answer = ask(d.socket, "recommend", "--use", "embedding", "--ram", "64GiB")
            if answer["model"]["name"] == name:
                assert answer["commands"] == ["bnctl embed v"], answer
            assert run(d.socket, "embed", "v", "a text", "-q").returncode == 0


def test_forbidden_kernels_are_refused_with_those_that_work():
    bad = "tl1" if X86 else "tl2"
    models = [{"name": "a", "path": make_model("tiny"), "kernels": [bad]},
              {"name": "b", "path": make_model("tiny"), "kernels": [bad, "i2_s"]},
              {"name": "c", "path": make_model("tiny"), "kernels": [bad + ".scalar"]}]
    with Daemon(config(models=models)) as d:
        for name in ("a", "c"):
            done = run(d.socket, "load", name)
            assert done.returncode == 1 and bad in done.stderr, done
            assert "i2_s (i2s." in done.stderr and ("x86" if X86 else "arm") in done.stderr, done
        done = run(d.socket, "load", "b")
        assert done.returncode == 0 and "kernel i2s." in done.stdout, done


if __name__ == "__main__":
    main(globals())
