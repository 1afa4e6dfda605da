#!/usr/bin/python3
"""Starting, stopping, reloading; what the process itself does."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import harness
from harness import Closed, Daemon, bnd_path, fails, make_model, until


def config(**more):
    return dict({"memory": {"budget": "256MiB"},
                 "models": [{"name": "ann", "path": make_model("small", context=100000)}]}, **more)


def ask(**more):
    return dict({"model": "ann", "prompt": [1, 2, 3, 4], "max_tokens": 8, "temperature": 0,
                 "ignore_eos": True}, **more)


def bnd(*argv, **kwargs):
    return subprocess.run([bnd_path(), *argv], capture_output=True, text=True, timeout=30,
                          **kwargs)


def begin(c, name, **more):
    i = c.send("completions", ask(stream=True, id=name, **more))
    c.wait_note(lambda m, p: p.get("id") == name and p["event"] == "delta")
    return i


def test_sigterm_lets_running_requests_finish():
    with Daemon(config()) as d, d.client(timeout=60) as c:
        n = int(2000 / harness.SLOW)
        ids = [begin(c, "r%d" % k, max_tokens=n) for k in range(20)]
        d.kill(signal.SIGTERM)
        c.wait_note(lambda m, p: m == "server.closing")
        for i in ids:
            assert c.wait(i)["usage"]["completion_tokens"] == n
        assert d.wait_exit() == 0
        assert not os.path.exists(d.socket)


def test_newcomers_are_refused_while_draining():
    with Daemon(config()) as d, d.client(timeout=60) as c:
        i = begin(c, "r", max_tokens=4000)
        d.kill(signal.SIGTERM)
        c.wait_note(lambda m, p: m == "server.closing")
        error = fails(503, c.call, "completions", ask())
        assert error.data["kind"] == "shutting_down", error.args
        health = c.call("server.health")
        assert health["live"] and not health["ready"] and health["reason"]
        try:
            d.client().close()
            raise AssertionError("the door is open")
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        assert c.wait(i)["finish_reason"] == "length"
        assert d.wait_exit() == 0


def test_drain_timeout_cancels_the_rest():
    with Daemon(config(shutdown={"drain_timeout": "300ms"})) as d, d.client() as c:
        i = begin(c, "r", max_tokens=90000)
        begin_time = time.monotonic()
        d.kill(signal.SIGTERM)
        error = fails(503, c.wait, i)
        assert error.data["kind"] == "shutting_down", error.args
        assert d.wait_exit() == 0
        assert 0.3 <= time.monotonic() - begin_time < 3 * harness.PATIENT


def test_second_sigterm_does_not_wait():
    for second in (signal.SIGTERM, signal.SIGINT):
        with Daemon(config()) as d, d.client() as c:
            i = begin(c, "r", max_tokens=90000)
            d.kill(signal.SIGTERM)
            c.wait_note(lambda m, p: m == "server.closing")
            begin_time = time.monotonic()
            d.kill(second)
            fails(503, c.wait, i)
            assert d.wait_exit() == 0
            assert time.monotonic() - begin_time < 2 * harness.PATIENT


def test_sigint_stops_at_once_in_every_phase():
    big = make_model("slow", layers=8, dim=1024, ffn=4096, heads=8, kv_heads=4, vocab=32000,
                     context=8192)
    models = config()["models"] + [{"name": "slow", "path": big}]
    for k in range(8):
        with Daemon(config(models=models)) as d:
            with d.client() as c:
                ids = []
                if k > 0:
                    ids.append(c.send("completions", ask(model="slow", prompt=[3] * 4000)))
                if k > 1:
                    ids.append(begin(c, "r", max_tokens=90000))
                time.sleep(0.03 * k)
                begin_time = time.monotonic()
                d.kill(signal.SIGINT)
                for i in ids:
                    try:
                        fails(503, c.wait, i)
                    except Closed:
                        raise AssertionError("closed without an answer") from None
                assert d.wait_exit() == 0
                assert time.monotonic() - begin_time < 2 * harness.PATIENT


def test_crash_leaves_nothing_that_stops_a_restart():
    for k in range(3):
        folder = None
        d = Daemon(config())
        folder = d.folder
        c = d.client()
        begin(c, "r", max_tokens=90000)
        d.process.kill()
        d.process.wait()
        d.log.close()
        assert os.path.exists(d.socket), "a stale socket is what this is about"
        start = time.monotonic()
        with Daemon(config(), folder=folder) as again:
            ready = time.monotonic() - start
            with again.client() as c2:
                c2.call("completions", ask())
            if k == 0:
                print("  serving again after %.0f ms" % (1000 * ready))
            assert ready < 1.0 * harness.PATIENT
        c.close()


def test_live_socket_is_not_taken_over():
    with Daemon(config()) as d:
        second = bnd("--config", d.config_path)
        assert second.returncode == 69, second
        assert d.socket in second.stderr
        with d.client() as c:
            assert c.call("server.health")["live"]


def test_socket_option_wins_over_the_configuration():
    d = Daemon(config(), wait=False, argv=["--socket", "other.sock"])
    try:
        d.socket = os.path.join(os.getcwd(), "other.sock")
        d.wait_ready()
    finally:
        assert d.stop() == 0
        d.log.close()


def test_reload_adds_changes_and_removes_models_under_load():
    other = make_model("other", seed=5, context=1000)
    with Daemon(config()) as d, d.client(timeout=60) as c, d.client(timeout=60) as runner:
        want = c.call("completions", ask())["text"]
        running = begin(runner, "r", max_tokens=6000)
        models = [{"name": "ann", "path": other, "aliases": ["anna"]},
                  {"name": "bob", "path": make_model("small", context=100000)}]

        d.write_config(config(models=models))
        d.kill(signal.SIGHUP)
        until(lambda: "reloaded" in d.log_text())
        names = {m["model"]: m for m in c.call("models.list")["models"]}
        assert set(names) == {"ann", "bob"}
        # The name has a new model behind it; the old one goes on with what it has begun.
        assert c.call("completions", ask(model="anna"))["text"] != want
        assert c.call("completions", ask(model="bob"))["text"] == want
        assert c.call("models.show", {"model": "ann"})["context"] == 1000
        assert runner.wait(running)["usage"]["completion_tokens"] == 6000
        until(lambda: len(c.call("models.ps")["models"]) == 2)
        assert c.call("models.ps")["evictions"][0]["reason"] == "reload"

        d.write_config(config(models=models[1:]))
        d.kill(signal.SIGHUP)
        until(lambda: len(c.call("models.list")["models"]) == 1)
        fails(404, c.call, "completions", ask())
        until(lambda: [m["model"] for m in c.call("models.ps")["models"]] == ["bob"])


def test_bad_configuration_on_reload_keeps_the_old_one():
    with Daemon(config()) as d, d.client() as c:
        for bad in ("modelz: []\n", "memory: { budget: -3 }\n", ": :\n\t- [", ""):
            with open(d.config_path, "w") as f:
                f.write(bad)
            before = d.log_text().count("\n")
            d.kill(signal.SIGHUP)
            until(lambda: d.log_text().count("\n") > before)
            if bad:
                until(lambda: "the old one stays" in d.log_text())
                assert c.call("completions", ask())["finish_reason"] == "length"
        os.unlink(d.config_path)
        before = d.log_text().count("the old one stays")
        d.kill(signal.SIGHUP)
        until(lambda: d.log_text().count("the old one stays") > before)
        d.write_config(config())
        d.kill(signal.SIGHUP)
        until(lambda: len(c.call("models.list")["models"]) == 1)
        c.call("completions", ask())


def test_reload_says_what_needs_a_restart():
    with Daemon(config()) as d, d.client() as c:
        d.write_config(config(workers={"max_batch": 7}, memory={"budget": "128MiB"},
                              log={"level": "debug"}))
        d.kill(signal.SIGHUP)
        until(lambda: "reloaded" in d.log_text())
        line = [text for text in d.log_text().splitlines() if "max_batch" in text]
        assert line and "start" in line[0], d.log_text()
        assert c.call("server.status")["memory"]["budget_bytes"] == 128 << 20


def test_many_reloads_under_load_drop_nothing():
    with Daemon(config()) as d:
        stop = threading.Event()
        results, failures = [], []

        def work():
            try:
                with d.client(timeout=60) as c:
                    while not stop.is_set():
                        results.append(c.call("completions", ask(max_tokens=30))["text"])
            except Exception as e:
                failures.append(e)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads:
            t.start()
        for k in range(100):
            d.write_config(config(defaults={"max_tokens": 100 + k}))
            d.kill(signal.SIGHUP)
            time.sleep(0.005)
        until(lambda: len(results) > 20 or failures, timeout=30)
        stop.set()
        for t in threads:
            t.join()
        assert not failures and len(set(results)) == 1 and len(results) > 20, failures


def test_preload_is_loaded_and_ready_does_not_wait_for_it():
    models = [dict(config()["models"][0], preload=True)]
    with Daemon(config(models=models)) as d, d.client() as c:
        until(lambda: c.call("models.list")["models"][0]["state"] == "ready")
        r = c.call("completions", ask(autoload=False))
        assert r["timings"]["load_ms"] == 0


def notify_socket(folder):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = os.path.join(folder, "notify")
    s.bind(path)
    s.settimeout(10)
    return s, path


def test_service_manager_is_told():
    folder = harness.tempfile.mkdtemp(dir=harness._scratch())
    s, path = notify_socket(folder)
    os.environ["NOTIFY_SOCKET"] = path
    os.environ["WATCHDOG_USEC"] = "400000"
    try:
        d = Daemon(config(), folder=folder)
    finally:
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
    with d:
        seen = ""

        def until_told(word):
            nonlocal seen
            while word not in seen:
                seen += s.recv(4096).decode() + "\n"

        try:
            until_told("READY=1")
        except socket.timeout:
            raise harness.Skip("built without libsystemd") from None
        assert "READY=1" in seen.split("WATCHDOG")[0]
        until_told("WATCHDOG=1")
        assert "STATUS=0 models, 0 bytes of 256 MiB, 0 running, 0 queued" in seen, seen
        with d.client() as c:
            c.call("completions", ask())
        until_told("STATUS=1 models, ")
        seen = ""
        d.kill(signal.SIGHUP)
        until_told("RELOADING=1")
        until_told("READY=1")
        d.kill(signal.SIGTERM)
        until_told("STOPPING=1")
        assert d.wait_exit() == 0
    s.close()


def test_inherited_socket_is_served_and_not_removed():
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        raise harness.Skip("no systemd-socket-activate")
    folder = harness.tempfile.mkdtemp(dir=harness._scratch())
    path = os.path.join(folder, "act.sock")
    conf = os.path.join(folder, "c.yaml")
    with open(conf, "w") as f:
        f.write(harness.yaml(config()))
    os.chmod(conf, 0o600)
    env = dict(os.environ)
    p = subprocess.Popen([activate, "-l", path, bnd_path(), "--config", conf, "--debuggable"],
                         stderr=subprocess.DEVNULL, env=env)
    try:
        until(lambda: os.path.exists(path))
        with harness.Client(path) as c:
            assert c.call("completions", ask())["finish_reason"] == "length"
        p.send_signal(signal.SIGTERM)
        assert p.wait(15) == 0
        assert os.path.exists(path)
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()


def test_command_line():
    r = bnd("--version")
    assert r.returncode == 0 and r.stdout.startswith("bnd ")
    assert json.loads(bnd("--version", "--json").stdout)["api_level"] >= 1
    r = bnd("--help")
    assert r.returncode == 0 and "usage: bnd" in r.stdout and "SIGHUP" in r.stdout
    for argv in (["--nonsense"], ["word"], ["--config"], ["--json"]):
        r = bnd(*argv)
        assert r.returncode == 64 and "--help" in r.stderr or argv == ["--json"], (argv, r)
    assert bnd("--json").returncode == 64
    r = bnd("--config", "/nonexistent/bnd.yaml")
    assert r.returncode == 66 and "/nonexistent/bnd.yaml" in r.stderr, r


def test_check_and_print_config():
    folder = harness.tempfile.mkdtemp(dir=harness._scratch())
    path = os.path.join(folder, "c.yaml")
    with open(path, "w") as f:
        f.write("memory:\n  budget: 3parsecs\nmodelz: []\n")
    os.chmod(path, 0o600)
    r = bnd("--check-config", path)
    assert r.returncode == 78, r
    assert "c.yaml:2:" in r.stderr and "c.yaml:3:" in r.stderr and "models" in r.stderr, r.stderr
    with open(path, "w") as f:
        f.write(harness.yaml(config()))
    assert bnd("-t", path).returncode == 0
    assert bnd("--check-config=" + path).returncode == 0
    r = bnd("--config", path, "--print-config")
    assert r.returncode == 0 and "ann" in r.stdout
    printed = os.path.join(folder, "printed.yaml")
    with open(printed, "w") as f:
        f.write(r.stdout)
    os.chmod(printed, 0o600)
    assert bnd("--config", printed, "--print-config").stdout == r.stdout
    with open(path, "w") as f:
        f.write("access: [ { user: no-such-user-here, may: [ status ] } ]\n")
    r = bnd("-t", path)
    assert r.returncode == 78 and "no-such-user-here" in r.stderr, r


def test_start_fails_with_reasons():
    folder = harness.tempfile.mkdtemp(dir=harness._scratch())
    path = os.path.join(folder, "c.yaml")

    def start(setup, code, word):
        with open(path, "w") as f:
            f.write(harness.yaml(setup))
        os.chmod(path, 0o600)
        r = bnd("--config", path)
        assert r.returncode == code and word in r.stderr, r

    where = {"socket": {"path": os.path.join(folder, "s")}}
    start(dict(config(), socket={"path": folder + "/no/such/folder/s"}), 66, "no/such/folder")
    start(dict(config(), socket={"path": "/" + "x" * 200}), 78, "socket")
    start(dict(config(workers={"cores": [4000]}), **where), 78, "4000")
    start(dict(config(workers={"cores": 250}), **where), 78, "250")


if __name__ == "__main__":
    harness.main(globals())
