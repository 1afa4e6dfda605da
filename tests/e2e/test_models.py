#!/usr/bin/python3
"""Models come, share the budget, take turns and leave; broken ones are told apart."""

import os
import random
import shutil
import subprocess
import threading
import time

import harness
from harness import Daemon, fails, make_model, real_model, until

# Some 43 MB each: one fits a budget of 64 MiB, two do not.
HALF = {"layers": 2, "dim": 512, "ffn": 1024, "heads": 8, "kv_heads": 4, "vocab": 40000,
        "context": 512}
BUDGET = 64 << 20


def half(seed):
    return make_model("half", seed=seed, **HALF)


def config(models, budget="64MiB", **more):
    return dict({"memory": {"budget": budget}, "models": models}, **more)


class Watch:
    """Polls server.status and keeps the highest use seen; asserts that the ledger holds."""

    def __init__(self, d):
        self.client = d.client()
        self.peak = 0
        self.polls = 0
        self.stop = False
        self.failure = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stop:
                memory = self.client.call("server.status")["memory"]
                parts = sum(memory[k] for k in ("weights_bytes", "kv_bytes", "scratch_bytes"))
                assert parts == memory["used_bytes"], memory
                assert memory["used_bytes"] <= memory["budget_bytes"], memory
                self.peak = max(self.peak, memory["used_bytes"])
                self.polls += 1
                time.sleep(0.002)
        except Exception as e:
            self.failure = e

    def end(self):
        self.stop = True
        self.thread.join()
        self.client.close()
        assert self.failure is None, self.failure
        return self.peak


def rss(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_two_models_over_budget_take_turns():
    names = ["ann", "bob"]
    with Daemon(config([{"name": n, "path": half(i)} for i, n in enumerate(names)])) as d:
        alone = {}
        with d.client() as c:
            for n in names:
                alone[n] = c.call("completions", ask(n))["text"]
            evictions = c.call("models.ps")["evictions"]
            assert [(e["model"], e["reason"], e["for"]) for e in evictions] == \
                [("ann", "memory", "bob")], evictions
            assert evictions[0]["freed_bytes"] > BUDGET // 2 and evictions[0]["ts_ms"] > 1e12
        watch = Watch(d)
        results, failures = [], []

        def work(i):
            try:
                with d.client(timeout=120) as c:
                    for k in range(4):
                        n = names[(i + k) % 2]
                        results.append((n, c.call("completions", ask(n))["text"]))
            except Exception as e:
                failures.append((i, e))

        begin = time.monotonic()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        spent = time.monotonic() - begin
        peak = watch.end()
        assert not failures, failures
        assert len(results) == 32 and all(text == alone[n] for n, text in results)
        with d.client() as c:
            ps = c.call("models.ps")
        turns = len(ps["evictions"])
        assert turns >= 2
        assert peak <= BUDGET and watch.polls > 10
        print("  32 requests, %d evictions, %.1f s, ledger at most %.1f of 64 MiB in %d looks" %
              (turns, spent, peak / (1 << 20), watch.polls))


def ask(model, **more):
    return dict({"model": model, "prompt": [1, 2, 3, 4], "max_tokens": 8, "temperature": 0,
                 "ignore_eos": True}, **more)


def test_two_hundred_requests_for_three_models_all_end():
    names = ["ann", "bob", "cid"]
    models = [{"name": n, "path": half(i)} for i, n in enumerate(names)]
    limits = {"queue": 400, "queue_per_user": 400, "queue_per_model": 400}
    with Daemon(config(models, limits=limits)) as d:
        watch = Watch(d)
        clients = [d.client(timeout=120) for _ in range(8)]
        sent = [(c, c.send("completions", ask(names[(i + k) % 3], max_tokens=4 + k % 9,
                                              deadline_ms=1 if k % 13 == 5 else 100000)))
                for i, c in enumerate(clients) for k in range(25)]
        outcomes = {}
        for c, i in sent:
            try:
                outcome = c.wait(i)["finish_reason"]
            except harness.RpcError as e:
                outcome = e.code
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        peak = watch.end()
        turns = len(clients[0].call("models.ps")["evictions"])
        for c in clients:
            assert not c.results, "an answer too many"
            c.close()
        print("  %s, %d evictions, ledger at most %.1f of 64 MiB" %
              (outcomes, turns, peak / (1 << 20)))
        assert sum(outcomes.values()) == 200 and set(outcomes) <= {"length", 408}, outcomes
        assert peak <= BUDGET


def test_busy_model_does_not_starve_a_cold_one():
    with Daemon(config([{"name": "hot", "path": half(0)}, {"name": "cold", "path": half(1)}])) as d:
        stop = threading.Event()
        served = []

        def hammer():
            with d.client(timeout=120) as c:
                while not stop.is_set():
                    c.call("completions", ask("hot", max_tokens=30))
                    served.append(time.monotonic())

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for t in threads:
            t.start()
        until(lambda: len(served) > 8)
        with d.client(timeout=60) as c:
            begin = time.monotonic()
            c.call("completions", ask("cold"))
            waited = time.monotonic() - begin
        before = len(served)
        until(lambda: len(served) > before + 8, timeout=30)  # and the hot one comes back
        stop.set()
        for t in threads:
            t.join()
        print("  waited %.1f s" % waited)
        assert waited < 10 * harness.PATIENT


def test_model_that_can_never_fit_is_refused_with_numbers():
    big = make_model("big", layers=2, dim=1024, ffn=1024, heads=8, kv_heads=4, vocab=60000)
    with Daemon(config([{"name": "big", "path": big}, {"name": "ann", "path": half(0)}])) as d:
        with d.client() as c:
            c.call("completions", ask("ann"))
            error = fails(507, c.call, "completions", ask("big"))
            assert error.data["need_bytes"] > BUDGET == error.data["budget_bytes"], error.data
            assert "ann" in error.data["held_by"], error.data
            assert "ann" in [m["model"] for m in c.call("models.ps")["models"]], \
                "nobody leaves for one who cannot come"
            dry = c.call("models.load", {"model": "big", "dry_run": True})
            assert dry["fits"] is False and dry["bytes"]["weights"] > 100 << 20
            told = subprocess.run([harness.tool("BN_BNCTL", "client", "bnctl"), "load", "big",
                                   "--socket", d.socket], capture_output=True, text=True)
            assert told.returncode == 1 and "memory.budget" in told.stderr, told
            assert "unload" not in told.stderr, "no unloading would help"


def test_context_that_can_never_fit_is_refused_at_once():
    with Daemon(config([{"name": "ann", "path": make_model("ctx", context=1000000)}])) as d:
        with d.client() as c:
            begin = time.monotonic()
            error = fails(507, c.call, "completions", ask("ann", max_tokens=900000))
            assert time.monotonic() - begin < 2 * harness.PATIENT
            assert error.data["need_bytes"] > BUDGET, error.data
            assert c.call("completions", ask("ann"))["finish_reason"] == "length"


def test_context_memory_is_waited_for_in_turn():
    path = make_model("ctx", context=1000000)
    with Daemon(config([{"name": "ann", "path": path}])) as d, d.client(timeout=60) as c:
        show = c.call("models.load", {"model": "ann"})
        per_token = c.call("models.show", {"model": "ann"})["bytes"]["kv_per_token"]
        left = BUDGET - show["bytes"]["weights"] - show["bytes"]["scratch"]
        # Each takes two thirds of what is left, so they must run one after the other.
        tokens = left * 2 // 3 // per_token
        watch = Watch(d)
        ids = [c.send("completions", ask("ann", max_tokens=tokens, stop_token_ids=list(range(64)),
                                         seed=i, temperature=1.0)) for i in range(5)]
        for i in ids:
            r = c.wait(i)
            assert r["finish_reason"] in ("stop", "length")
        assert watch.end() <= BUDGET
        # And one who does not want to wait is told.
        held = c.send("completions", ask("ann", max_tokens=tokens, stream=True, id="held"))
        c.wait_note(lambda m, p: p.get("id") == "held" and p["event"] == "delta")
        error = fails(503, c.call, "completions", ask("ann", max_tokens=tokens, queue="fail"))
        assert error.data["retry_after_ms"] > 0
        c.call("cancel", {"id": "held"})
        fails(499, c.wait, held)


def test_pinned_model_never_leaves():
    with Daemon(config([{"name": "ann", "path": half(0)}, {"name": "bob", "path": half(1)}])) as d:
        with d.client() as c:
            c.call("models.load", {"model": "ann", "pin": True})
            error = fails(507, c.call, "completions", ask("bob"))
            assert "ann" in error.data["held_by"]
            fails(409, c.call, "models.unload", {"model": "ann"})
            c.call("models.load", {"model": "ann", "pin": False})
            c.call("completions", ask("bob"))
            assert [m["model"] for m in c.call("models.ps")["models"]] == ["bob"]


def test_dry_run_tells_who_would_leave():
    with Daemon(config([{"name": "ann", "path": half(0)}, {"name": "bob", "path": half(1)}])) as d:
        with d.client() as c:
            dry = c.call("models.load", {"model": "ann", "dry_run": True})
            assert dry["state"] == "cold" and dry["fits"] and dry["would_evict"] == []
            real = c.call("models.load", {"model": "ann"})
            assert real["state"] == "ready" and real["bytes"] == dry["bytes"]
            assert real["kernel"] and real["self_test"] == "passed"
            dry = c.call("models.load", {"model": "bob", "dry_run": True})
            assert dry["would_evict"] == ["ann"] and dry["fits"]
            assert [m["model"] for m in c.call("models.ps")["models"]] == ["ann"]


def test_load_without_waiting_and_unload():
    with Daemon(config([{"name": "ann", "path": half(0)}])) as d, d.client() as c:
        r = c.call("models.load", {"model": "ann", "wait": False})
        assert r["state"] in ("loading", "ready")
        until(lambda: c.call("models.list")["models"][0]["state"] == "ready")
        r = c.call("models.unload", {"model": "ann"})
        assert r["state"] == "cold" and r["freed_bytes"] > 40 << 20
        assert c.call("server.status")["memory"]["used_bytes"] == 0
        assert c.call("models.unload", {"model": "ann"})["freed_bytes"] == 0
        assert c.call("models.ps")["evictions"][0]["reason"] == "unload"


def test_unload_of_a_busy_model_waits_refuses_or_forces():
    with Daemon(config([{"name": "ann", "path": make_model("long", context=100000)}])) as d:
        with d.client() as c, d.client() as admin:
            long = c.send("completions", ask("ann", max_tokens=50000, stream=True, id="x"))
            c.wait_note(lambda m, p: p["event"] == "delta")
            error = fails(409, admin.call, "models.unload", {"model": "ann", "timeout_ms": 50})
            assert error.data["running"] == 1
            assert admin.call("models.unload", {"model": "ann", "force": True})["state"] == "cold"
            fails(499, c.wait, long)
            assert admin.call("server.status")["memory"]["used_bytes"] == 0


def test_keep_alive_sends_idle_models_away():
    models = [{"name": "ann", "path": make_model("small"), "keep_alive": "200ms"},
              {"name": "bob", "path": make_model("small"), "keep_alive": "-1"}]
    with Daemon(config(models)) as d, d.client() as c:
        c.call("completions", ask("ann"))
        c.call("completions", ask("bob"))
        ps = {m["model"]: m for m in c.call("models.ps")["models"]}
        assert "keep_alive_ms" not in ps["bob"] and "expires_ms" not in ps["bob"]
        until(lambda: [m["model"] for m in c.call("models.ps")["models"]] == ["bob"])
        assert c.call("models.ps")["evictions"][0]["reason"] == "idle"
        c.call("completions", ask("bob", keep_alive=0))
        until(lambda: c.call("models.ps")["models"] == [])
        c.call("completions", ask("ann", keep_alive="1h"))
        time.sleep(0.5)
        assert [m["model"] for m in c.call("models.ps")["models"]] == ["ann"]


def test_autoload_false_does_not_load():
    with Daemon(config([{"name": "ann", "path": make_model("small")}])) as d, d.client() as c:
        error = fails(409, c.call, "completions", ask("ann", autoload=False))
        assert "autoload" in error.text
        assert c.call("models.ps")["models"] == []
        c.call("models.load", {"model": "ann"})
        c.call("completions", ask("ann", autoload=False))


def test_many_waiters_share_one_load():
    with Daemon(config([{"name": "ann", "path": half(0)}])) as d, d.client() as c:
        ids = [c.send("completions", ask("ann", stream=True, id="r%d" % i)) for i in range(16)]
        for i in ids:
            c.wait(i)
        for i in range(16):
            states = [e["state"] for e in c.events("r%d" % i, "status")]
            assert states and states[0] == "loading" and states[-1] == "ready", states
        assert d.log_text().count("is loaded") == 1


def break_file(folder, name, change):
    path = os.path.join(folder, name)
    shutil.copy(make_model("small"), path)
    with open(path, "r+b") as f:
        change(f)
    return path


def test_broken_model_files_are_named_errors():
    folder = harness._scratch()
    os.makedirs(os.path.join(folder, "directory"), exist_ok=True)
    fifo = os.path.join(folder, "fifo")
    if not os.path.exists(fifo):
        os.mkfifo(fifo)
    size = os.path.getsize(make_model("small"))
    alien = os.path.join(folder, "alien.gguf")
    with open(alien, "wb") as f:
        f.write(b"\x7fELF" + bytes(range(256)) * 40)
    empty = os.path.join(folder, "empty.gguf")
    open(empty, "wb").close()

    def cut(share):
        return lambda f: f.truncate(int(size * share))

    def flip(at):
        def change(f):
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 0x80]))
        return change

    paths = {
        "missing": os.path.join(folder, "nothing-here.gguf"),
        "directory": os.path.join(folder, "directory"),
        "fifo": fifo,
        "alien": alien,
        "empty": empty,
        "cut-header": break_file(folder, "cut-header.gguf", cut(0.001)),
        "cut-data": break_file(folder, "cut-data.gguf", cut(0.7)),
        "version": break_file(folder, "version.gguf", flip(4)),
        "counts": break_file(folder, "counts.gguf", flip(15)),
        "device": "/dev/zero",
    }
    models = [{"name": n, "path": p} for n, p in paths.items()]
    models.append({"name": "good", "path": make_model("small")})
    with Daemon(config(models)) as d, d.client() as c:
        for name, path in paths.items():
            begin = time.monotonic()
            both = [c.send("completions", ask(name)) for _ in range(2)]
            for i in both:
                error = fails(500, c.wait, i)
                assert name in error.text, error.text
                assert error.data["kind"] in ("model_file_invalid", "io_error"), error.args
            assert time.monotonic() - begin < 2 * harness.PATIENT, name
            states = {m["model"]: m for m in c.call("models.list")["models"]}
            assert states[name]["state"] == "failed" and states[name]["error"], states[name]
            assert c.call("server.status")["memory"]["used_bytes"] == 0
        c.call("completions", ask("good"))
        # A failed one can be tried again, and works once the file is right.
        shutil.copy(make_model("small"), paths["missing"])
        c.call("completions", ask("missing"))


def test_flipped_bits_never_kill_the_daemon():
    rng = random.Random(7)
    size = os.path.getsize(make_model("small"))
    path = os.path.join(harness._scratch(), "flipped.gguf")
    outcomes = {}
    with Daemon(config([{"name": "ann", "path": path}])) as d, d.client() as c:
        for i in range(60):
            shutil.copy(make_model("small"), path)
            with open(path, "r+b") as f:
                for _ in range(1 if i % 2 else 16):
                    at = rng.randrange(4096 if i % 3 else size)
                    f.seek(at)
                    byte = f.read(1)[0]
                    f.seek(at)
                    f.write(bytes([byte ^ (1 << rng.randrange(8))]))
            begin = time.monotonic()
            try:
                c.call("completions", ask("ann", keep_alive=0))
                outcome = "served"
            except harness.RpcError as e:
                outcome = e.data.get("kind", e.code)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            assert time.monotonic() - begin < 2 * harness.PATIENT
            until(lambda: c.call("models.ps")["models"] == [])
        assert c.call("server.status")["memory"]["used_bytes"] == 0
    print("  %s" % outcomes)
    assert set(outcomes) <= {"served", "model_file_invalid", "not_supported", "kernel_incompatible",
                             "numeric_error", "invalid_request", "context_length_exceeded",
                             "insufficient_memory"}, outcomes


def test_file_may_change_under_a_loaded_model():
    path = os.path.join(harness._scratch(), "changing.gguf")
    shutil.copy(real_model(), path)
    params = {"model": "ann", "prompt": "Once upon a time", "max_tokens": 60, "temperature": 0}
    with Daemon(config([{"name": "ann", "path": path}])) as d, d.client() as c:
        want = c.call("completions", params)["text"]
        with open(path, "r+b") as f:
            f.seek(1000)
            f.write(bytes(100000))
        assert c.call("completions", params)["text"] == want
        with open(path, "r+b") as f:
            f.truncate(10)
        assert c.call("completions", params)["text"] == want
        os.unlink(path)
        assert c.call("completions", params)["text"] == want
        c.call("models.unload", {"model": "ann"})
        fails(500, c.call, "completions", params)


def test_memory_stays_near_the_ledger():
    with Daemon(config([{"name": "ann", "path": half(0)}, {"name": "bob", "path": half(1)}])) as d:
        base = rss(d.pid)
        with d.client(timeout=60) as c:
            peak = 0
            for i in range(10):
                c.call("completions", ask("ann" if i % 2 else "bob"))
                peak = max(peak, rss(d.pid))
        print("  %.1f MiB over an idle daemon, budget 64 MiB" % ((peak - base) / (1 << 20)))
        if harness.SLOW == 1:  # sanitizers keep what is freed
            assert peak - base <= BUDGET + (16 << 20)


if __name__ == "__main__":
    harness.main(globals())
