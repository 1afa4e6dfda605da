#!/usr/bin/env python3
"""compare.py MODEL.gguf --logits BN_LOGITS PEER... [--prompt N] [--tokens N] [--seed N]

Lets other programs and bnd continue the same random prompt of token ids greedily, from the same file,
and compares token by token. PEER is NAME=PATH of a llama-server or a llama-cli of that peer (told apart
by "server" in the file's name), and behind a space options that it needs; with `-m FILE` among them it
reads that file instead, its own encoding of the model, say. label.py made the model, so that tokens can
be read from either.

    bn-make-model --preset falcon-e-1b --layers 4 --out plain.gguf
    label.py plain.gguf labelled.gguf
    compare.py labelled.gguf --logits build/release/tests/reference/bn-logits \\
        bitnet.cpp=.../llama-cli "ik=.../llama-server -no-fug"

Programs that round elsewhere may part where the two best tokens are nearly equal. That is printed with
its distance, as a part of the spread of bnd's logits at that place, and the peer goes on from bnd's own
token; a distance above --tie is a difference, and the exit status 1.
"""
import argparse
import json
import os
import re
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from label import CONTROL, TOKENS, TYPES, Gguf, strings_of

LABEL = re.compile(r"<t(\d+)>")


# ---- bnd --------------------------------------------------------------------------------------

def run_bnd(a, prompt):
    """(ids [prompt and drawn], function(position) -> logits behind ids 0 .. position)"""
    out = tempfile.NamedTemporaryFile(prefix="bnd-peers-")
    subprocess.run([a.logits, a.model, out.name, str(a.tokens)] + [str(i) for i in prompt],
                   check=True, stdout=subprocess.DEVNULL)
    with open(out.name, "rb") as f:
        rows, vocab = struct.unpack("<2I", f.read(8))
        ids = list(struct.unpack(f"<{rows}I", f.read(4 * rows)))
    start = 8 + 4 * rows

    def logits(position):
        out.seek(start + 4 * position * vocab)
        return struct.unpack(f"<{vocab}f", out.read(4 * vocab))

    return ids, logits


# ---- peers ------------------------------------------------------------------------------------

def with_model(command, a):
    return command if "-m" in command else command + ["-m", a.model]


class Dead(Exception):
    """A peer that gave up instead of answering."""


class Cli:
    """One process for each question."""

    def __init__(self, command, a):
        self.command, self.a = command, a

    def more(self, ids, n):
        done = subprocess.run(
            with_model(self.command, self.a)
            + ["-p", "".join(f"<t{i}>" for i in ids), "-n", str(n), "--temp", "0",
               "--no-display-prompt", "--ignore-eos", "-t", str(self.a.threads), "-c",
               str(len(ids) + n + 8), "-s", "1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=self.a.timeout)
        if done.returncode != 0:
            raise Dead(f"it ended with {done.returncode}; run it by hand to see why")
        return [int(i) for i in LABEL.findall(done.stdout.decode(errors="replace"))][:n]

    def stop(self):
        pass


class Server:
    """One process for all."""

    def __init__(self, command, a):
        self.a = a
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(
            with_model(command, a)
            + ["--host", "127.0.0.1", "--port", str(self.port), "-t", str(a.threads), "-c",
               str(a.prompt + a.tokens + 8)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait()

    def ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=self.a.timeout) as answer:
            return json.load(answer)

    def wait(self):
        end = time.monotonic() + self.a.timeout
        while True:
            try:
                if self.ask("/health").get("status") == "ok":
                    return
            except (urllib.error.URLError, ConnectionError):
                pass
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise Dead("the server does not come up; run it by hand to see why")
            time.sleep(0.2)

    def more(self, ids, n):
        answer = self.ask("/completion", {
            "prompt": ids, "n_predict": n, "temperature": 0, "top_k": 1, "ignore_eos": True,
            "cache_prompt": False, "return_tokens": True, "stream": False})
        tokens = answer.get("tokens")
        return (tokens if tokens else [int(i) for i in LABEL.findall(answer["content"])])[:n]

    def stop(self):
        self.process.terminate()
        self.process.wait()


# ---- comparing --------------------------------------------------------------------------------

def follow(peer, name, ids, first, logits, tie):
    """Along bnd's ids from `first` on: (tokens that are the same, near ties, complaints)"""
    same, ties, at = 0, 0, first
    while at < len(ids):
        got = peer.more(ids[:at], len(ids) - at)
        if not got:
            return same, ties, [f"{name}: printed no token behind {at} of them"]
        for token in got:
            if token != ids[at]:
                break
            same, at = same + 1, at + 1
        else:
            continue
        row = logits(at - 1)
        gap = (row[ids[at]] - row[token]) / (max(row) - min(row))
        print(f"{name}: token {at - first} is {token}, bnd's {ids[at]}; bnd has them {gap:.1e} "
              "of the spread apart")
        if gap > tie:
            return same, ties, [f"{name}: another token, and no near tie"]
        ties, at = ties + 1, at + 1
    return same, ties, []


def prompt_of(a):
    """Ids that have a label, from a generator that needs no library."""
    with open(a.model, "rb") as f:
        g = Gguf(f)
    texts = strings_of(g.keys[TOKENS][1])
    types = struct.unpack_from(f"<{len(texts)}i", g.keys[TYPES][1], 12)
    usable = [i for i, t in enumerate(texts) if t == f"<t{i}>" and types[i] != CONTROL]
    if len(usable) < 100:
        sys.exit("compare.py: the model's tokens have no labels; see label.py")
    x, ids = a.seed, []
    for _ in range(a.prompt):
        x = (x * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        ids.append(usable[(x >> 33) % len(usable)])
    return ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("model")
    parser.add_argument("peers", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--logits", required=True, help="bn-logits of tests/reference")
    parser.add_argument("--prompt", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tie", type=float, default=2e-3)
    parser.add_argument("--timeout", type=float, default=600)
    a = parser.parse_args()
    prompt = prompt_of(a)
    ids, logits = run_bnd(a, prompt)
    wrong = []
    print(f"bnd: {a.tokens} tokens, {len(set(ids[len(prompt):]))} different")
    for one in a.peers:
        name, _, rest = one.partition("=")
        command = shlex.split(rest)
        try:
            peer = (Server if "server" in os.path.basename(command[0]) else Cli)(command, a)
            try:
                same, ties, complaints = follow(peer, name, ids, len(prompt), logits, a.tie)
            finally:
                peer.stop()
        except Dead as why:
            wrong.append(f"{name}: {why}")
            continue
        print(f"{name}: {same} of {a.tokens} tokens the same, {ties} near ties")
        wrong += complaints
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
