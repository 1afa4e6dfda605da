#!/usr/bin/python3
"""Clients that die, do not read, send garbage, change their mind or ask for too much."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import harness
import msgpack
from harness import Client, Daemon, fails, make_model, until

# Big enough that loading and every step take a while that a test can hit.
SLOW_MODEL = {"layers": 8, "dim": 1024, "ffn": 4096, "heads": 8, "kv_heads": 4, "vocab": 32000,
              "context": 8192}


def config(models=None, **more):
    models = models or [{"name": "ann", "path": make_model("small", context=100000)}]
    return dict({"memory": {"budget": "512MiB"}, "models": models}, **more)


def slow_config(**more):
    return config([{"name": "ann", "path": make_model("slow", **SLOW_MODEL)}], **more)


def ask(**more):
    return dict({"model": "ann", "prompt": [1, 2, 3, 4], "max_tokens": 8, "temperature": 0,
                 "ignore_eos": True}, **more)


def endless(**more):
    return ask(**dict({"max_tokens": 50000, "stream": True}, **more))


def idle(c):
    s = c.call("server.status")
    return s["requests"]["running"] == 0 and s["requests"]["queued"] == 0 and \
        s["memory"]["kv_bytes"] == 0


VICTIM = """
import sys
sys.path.insert(0, %r)
from harness import Client
import time
c = Client(%r)
c.send("completions", eval(sys.argv[1]))
print("sent", flush=True)
while True:
    c.pump(60)
"""


def victim(d, params):
    """A client in a process of its own, to be killed."""
    code = VICTIM % (os.path.dirname(os.path.abspath(__file__)), d.socket)
    p = subprocess.Popen([sys.executable, "-c", code, repr(params)], stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"sent\n"
    return p


def kill(p):
    p.send_signal(signal.SIGKILL)
    p.wait()
    p.stdout.close()
    return time.monotonic()


def stops_soon(c, condition, limit):
    """How long until condition() holds; no more than `limit` seconds."""
    begin = time.monotonic()
    until(condition, timeout=limit)
    return time.monotonic() - begin


def test_client_killed_in_any_phase_stops_its_work_and_nobody_elses():
    neighbour = ask(prompt=list(range(1, 60)), max_tokens=60, seed=4, temperature=0.8)
    with Daemon(slow_config(workers={"max_batch": 2})) as d, d.client(timeout=120) as c:
        # Load: nobody else wants the model, so the load itself must stop.
        p = victim(d, endless())
        until(lambda: c.call("models.ps")["models"])
        assert c.call("models.ps")["models"][0]["state"] == "loading"
        kill(p)
        load = stops_soon(c, lambda: c.call("models.ps")["models"] == [], 2)
        assert c.call("server.status")["memory"]["used_bytes"] == 0
        want = c.call("completions", neighbour)["text"]
        until(lambda: idle(c))

        # Prefill: a long prompt, killed after the first pieces of it.
        i = c.send("completions", neighbour)
        p = victim(d, endless(prompt=[5] * 6000, max_tokens=100))
        until(lambda: c.call("server.status")["requests"]["running"] == 2)
        time.sleep(0.2)
        kill(p)
        prefill = stops_soon(c, lambda: c.call("server.status")["requests"]["running"] <= 1, 2)
        assert c.wait(i)["text"] == want
        until(lambda: idle(c))

        # Decode.
        i = c.send("completions", neighbour)
        p = victim(d, endless(max_tokens=8000))
        until(lambda: c.call("server.status")["own"]["running"] == 2)
        time.sleep(0.2)
        kill(p)
        decode = stops_soon(c, lambda: c.call("server.status")["requests"]["running"] <= 1, 2)
        assert c.wait(i)["text"] == want
        until(lambda: idle(c))

        # Queue: two long ones have the places, the third never begins.
        with d.client() as other:
            for k in range(2):
                other.send("completions", endless(max_tokens=8000, id="l%d" % k))
            until(lambda: c.call("server.status")["requests"]["running"] == 2)
            p = victim(d, endless(max_tokens=100))
            until(lambda: c.call("server.status")["totals"]["requests"] >= 6)
            kill(p)
            queue = stops_soon(c, lambda: c.call("server.status")["own"]["queued"] +
                               c.call("server.status")["own"]["running"] == 2, 2)
        until(lambda: idle(c))
        assert c.call("completions", neighbour)["text"] == want
        limits = {"load": load, "prefill": prefill, "decode": decode, "queue": queue}
        print("  stopped after ms: %s" % {k: round(v * 1000) for k, v in limits.items()})
        assert all(v < 0.5 * harness.PATIENT for v in limits.values()), limits


def test_killing_many_clients_at_random_moments_leaves_nothing():
    with Daemon(config()) as d, d.client(timeout=60) as c:
        neighbour = ask(prompt=list(range(1, 100)), max_tokens=400, seed=4, temperature=0.8)
        want = c.call("completions", neighbour)["text"]
        stop = threading.Event()
        wrong = []

        def go_on():
            with d.client(timeout=60) as mine:
                while not stop.is_set():
                    if mine.call("completions", neighbour)["text"] != want:
                        wrong.append(1)

        thread = threading.Thread(target=go_on)
        thread.start()
        for k in range(60):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            s.connect(d.socket)
            params = endless(prompt=[7] * (1 + 40 * (k % 5)), id="x%d" % k)
            s.sendall(msgpack.packb([0, 1, "completions", [params]]))
            time.sleep(0.002 * (k % 9))
            s.close()  # with unread data: a reset, as after SIGKILL
        stop.set()
        thread.join()
        assert not wrong
        until(lambda: idle(c))
        until(lambda: c.call("server.status")["connections"] == 1)


def test_half_closed_client_still_gets_its_answer():
    with Daemon(config()) as d:
        with Client(d.socket) as c:
            i = c.send("completions", ask())
            c.sock.shutdown(socket.SHUT_WR)
            assert c.wait(i)["finish_reason"] == "length"


def test_cancel_by_id_by_all_and_as_notification():
    with Daemon(config()) as d, d.client() as c, d.client() as other:
        def begin(name):
            i = c.send("completions", endless(id=name))
            c.wait_note(lambda m, p: p["id"] == name and p["event"] == "delta")
            return i

        one, two, three, four = [begin(n) for n in ("one", "two", "three", "four")]
        assert c.call("cancel", {"id": "one"})["cancelled"] == ["one"]
        fails(499, c.wait, one)
        c.notify("cancel", {"id": "two"})
        fails(499, c.wait, two)
        assert other.call("cancel", {"all": True})["cancelled"] == []
        # We run as the daemon's user, an administrator: any connection's.
        assert other.call("cancel", {"id": "three"})["cancelled"] == ["three"]
        fails(499, c.wait, three)
        assert c.call("cancel", {"all": True})["cancelled"] == ["four"]
        fails(499, c.wait, four)
        assert c.call("cancel", {"id": "never"})["cancelled"] == []
        fails(400, c.call, "cancel", {})
        until(lambda: idle(c))
        assert c.call("server.status")["totals"]["cancelled"] == 4


def test_cancel_reaches_a_request_that_waits_for_its_model():
    with Daemon(slow_config()) as d, d.client() as c:
        i = c.send("completions", endless(id="x"))
        until(lambda: c.call("models.ps")["models"])
        assert c.call("cancel", {"id": "x"})["cancelled"] == ["x"]
        fails(499, c.wait, i)
        until(lambda: c.call("models.ps")["models"] == [])


def test_ids_are_unique_while_they_live():
    with Daemon(config()) as d, d.client() as c, d.client() as other:
        i = c.send("completions", endless(id="x"))
        c.wait_note(lambda m, p: p["event"] == "delta")
        error = fails(409, c.call, "completions", ask(id="x"))
        assert error.data["param"] == "id"
        assert other.call("completions", ask(id="x"))["id"] == "x", "another connection's names"
        c.call("cancel", {"id": "x"})
        fails(499, c.wait, i)
        assert c.call("completions", ask(id="x"))["id"] == "x"
        made = {c.call("completions", ask())["id"] for _ in range(3)}
        assert len(made) == 3


def test_deadlines_hold_in_every_phase():
    with Daemon(slow_config(workers={"max_batch": 1})) as d, d.client(timeout=60) as c:
        error = fails(408, c.call, "completions", ask(deadline_ms=20))
        assert "model" in error.text and error.data["deadline_ms"] == 20, error.args
        c.call("models.load", {"model": "ann"})
        begin = time.monotonic()
        error = fails(408, c.call, "completions", endless(max_tokens=8000, deadline_ms=300))
        spent = time.monotonic() - begin
        assert 0.29 < spent < 1.0 * harness.PATIENT, spent
        assert "computed" in error.text, error.args
        fails(408, c.call, "completions", ask(prompt=[5] * 8000, ttft_deadline_ms=50))
        i = c.send("completions", endless(max_tokens=8000, id="long"))
        c.wait_note(lambda m, p: p["event"] == "delta" and p["id"] == "long")
        begin = time.monotonic()
        error = fails(408, c.call, "completions", ask(ttft_deadline_ms=200))
        assert time.monotonic() - begin < 1.0 * harness.PATIENT
        assert "turn" in error.text, error.args
        r = c.send("completions", ask(deadline_ms=20000, max_tokens=2))
        c.call("cancel", {"id": "long"})
        fails(499, c.wait, i)
        assert c.wait(r)["finish_reason"] == "length"
        until(lambda: idle(c))


def test_slow_reader_is_paused_then_cut_and_others_do_not_notice():
    limits = {"output_soft": "16KiB", "output_hard": "64KiB", "stall_timeout": "1s"}
    with Daemon(config(limits=limits)) as d, d.client(timeout=60) as c:
        neighbour = ask(max_tokens=200, seed=9, temperature=0.9)
        want = c.call("completions", neighbour)["text"]
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(d.socket)
        s.sendall(msgpack.packb([0, 1, "completions", [endless(id="deaf", logprobs=20)]]))

        def produced():
            return c.call("server.status")["totals"]["completion_tokens"]

        # It is paused: the count stops growing although it has 50,000 tokens to go.
        def stands():
            before = produced()
            time.sleep(0.2)
            return produced() == before and before > 200

        until(stands, timeout=10)
        assert produced() < 40000
        for _ in range(3):
            assert c.call("completions", neighbour)["text"] == want
        until(lambda: c.call("server.status")["connections"] == 1, timeout=10)
        until(lambda: idle(c))
        s.close()


def test_reader_that_catches_up_gets_everything():
    limits = {"output_soft": "16KiB", "output_hard": "1MiB"}
    with Daemon(config(limits=limits)) as d, d.client(timeout=60) as c:
        i = c.send("completions", ask(max_tokens=6000, stream=True, id="slow", seed=3,
                                      temperature=1.0, logprobs=5))
        for _ in range(40):
            time.sleep(0.02)
            c.pump(0)
        r = c.wait(i)
        deltas = c.events("slow", "delta")  # asserts that seq has no hole
        assert sum(e["n"] for e in deltas) == r["usage"]["completion_tokens"] == 6000


def test_queues_are_bounded_and_say_so():
    limits = {"queue_per_user": 4, "queue_per_model": 8}
    with Daemon(slow_config(limits=limits)) as d, d.client(timeout=60) as c:
        ids = [c.send("completions", endless(max_tokens=50, id="q%d" % k)) for k in range(6)]
        refused = []
        for i in ids:
            try:
                c.wait(i)
            except harness.RpcError as e:
                assert e.code == 429 and e.data["limit"] == 4 and "4 of 4" in e.text, e.args
                assert e.data["retry_after_ms"] > 0
                refused.append(i)
        assert len(refused) == 2, refused


def test_bad_parameters_are_named():
    with Daemon(config()) as d, d.client() as c:
        def bad(params, param, word):
            error = fails(400, c.call, "completions", params)
            assert error.data["param"] == param, error.args
            assert word in error.text, error.args

        bad(ask(max_tokns=3), "max_tokns", "max_tokens")
        bad(ask(temperature=-1), "temperature", "-1")
        bad(ask(temperature=float("nan")), "temperature", "")
        bad(ask(top_k=1.5), "top_k", "")
        bad(ask(max_tokens=0), "max_tokens", "0")
        bad(ask(seed=1 << 63), "seed", "")
        bad(ask(stop=["x"] * 17), "stop", "16")
        bad(ask(stop=[""]), "stop", "")
        bad(ask(prompt=[1, 99999999]), "prompt", "99999999")
        bad(ask(prompt=[]), "prompt", "")
        bad({"model": "ann"}, "prompt", "")
        bad(ask(id="x" * 65), "id", "64")
        bad(ask(logit_bias={"99999999": 1.0}), "logit_bias", "")
        error = fails(404, c.call, "completions", ask(model="anne"))
        assert error.data["suggestions"] == "ann", error.args
        error = fails(413, c.call, "completions", ask(max_tokens=200000))
        assert error.data["limit"] == 100000 and error.data["actual"] == 200004, error.args
        error = fails(413, c.call, "completions", ask(num_ctx=16, prompt=[1] * 20))
        assert "num_ctx" in error.text, error.args
        error = fails(-32601, c.call, "completion", {})
        assert "completions" in error.text, error.args
        assert c.call("completions", ask(num_ctx=16))["usage"]["completion_tokens"] == 8


def raw(d, data, wait=2.0):
    """Sends bytes and returns everything that comes back until the daemon closes."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(wait * harness.PATIENT)
    s.connect(d.socket)
    s.sendall(data)
    out = b""
    closed = False
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                closed = True
                break
            out += piece
    except socket.timeout:
        pass
    except ConnectionResetError:
        closed = True
    s.close()
    return out, closed


def test_protocol_garbage_is_answered_and_cut():
    with Daemon(config()) as d, d.client() as c:
        for data in (b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\xdd\xff\xff\xff\xff",
                     b"\xdf\xff\xff\xff\xff", b"\x91" * 100, b"\x94\x00\x01\xc6\xff\xff\xff\xff",
                     msgpack.packb([3, 1, "x", []]), msgpack.packb({"a": 1}),
                     msgpack.packb([0, -1, "server.info", []]),
                     msgpack.packb([1, 5, None, {}])):
            out, closed = raw(d, data)
            assert closed, data
            answers = feed(out)
            assert len(answers) == 1, (data, answers)
            assert answers[0][0] == 1 and answers[0][2][0] in (-32700, -32600, 413), answers
        assert c.call("server.health")["live"]


def feed(data):
    u = msgpack.Unpacker(raw=False)
    u.feed(data)
    return list(u)


def test_unknown_notifications_and_odd_params_do_no_harm():
    with Daemon(config()) as d, d.client() as c:
        c.notify("nvim_set_client_info", {"x": 1})
        c.send_raw(msgpack.packb([2, b"something", [1, 2, 3]], use_bin_type=True))
        c.notify("completions", ask())
        c.send_raw(msgpack.packb([0, 500, b"server.health", []], use_bin_type=True))
        assert c.wait(500)["live"]
        c.send_raw(msgpack.packb([0, 501, "server.health", [1]]))
        fails(-32602, c.wait, 501)
        c.send_raw(msgpack.packb([0, 502, "server.health", [{}, {}]]))
        fails(-32602, c.wait, 502)
        assert c.call("server.status")["totals"]["requests"] == 0


def test_pipelined_calls_are_all_answered_once():
    with Daemon(config()) as d, d.client(timeout=60) as c:
        ids = []
        for k in range(300):
            ids.append(c.send("server.health") if k % 3 else
                       c.send("completions", ask(max_tokens=2)))
        for i in ids:
            c.wait(i)


def test_prompts_never_reach_the_log():
    canary = "zebra-quartz-77"
    setup = config(log={"level": "debug"})
    with Daemon(setup) as d, d.client() as c:
        c.call("completions", ask(prompt=canary, user=canary, stop=[canary]))
        fails(413, c.call, "completions", ask(prompt=canary * 20000, num_ctx=16))
        fails(404, c.call, "tokenize", {"model": "no", "content": canary})
        c.call("tokenize", {"model": "ann", "content": canary})
        assert canary not in d.log_text()


if __name__ == "__main__":
    harness.main(globals())
