"""bnctl as people and scripts use it: verbs, exit codes, pipes, Ctrl-C, a terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import time

from harness import PATIENT, Daemon, Skip, main, make_model, tool, until


def bnctl_path():
    return tool("BN_BNCTL", "client", "bnctl")


def run(daemon, *argv, stdin="", timeout=30):
    env = dict(os.environ, BND_SOCKET=daemon.socket, TERM="xterm")
    return subprocess.run([bnctl_path(), *argv], input=stdin, capture_output=True, text=True,
                          env=env, timeout=timeout * PATIENT)


def config(**more):
    full = {"memory": {"budget": "256MiB"},
            "models": [{"name": "tiny", "path": make_model("tiny", context=100000)}]}
    full.update(more)
    return full


def test_verbs_print_tables_and_the_same_as_json():
    with Daemon(config()) as d:
        text = run(d, "ls")
        assert text.returncode == 0 and "tiny" in text.stdout and "cold" in text.stdout, text
        assert "\033" not in text.stdout, "no colours in a pipe"
        listed = json.loads(run(d, "ls", "--json").stdout)
        assert [m["model"] for m in listed["models"]] == ["tiny"]
        loaded = run(d, "load", "tiny")
        assert loaded.returncode == 0 and "ready" in loaded.stdout, loaded
        assert json.loads(run(d, "ps", "--json").stdout)["models"][0]["state"] == "ready"
        assert "tiny" in run(d, "ps").stdout
        shown = json.loads(run(d, "show", "tiny", "--json").stdout)
        assert shown["model"] == "tiny" and len(shown["digest"]) >= 64
        assert "digest" in run(d, "show", "tiny").stdout
        assert "lanes" in run(d, "status").stdout
        assert json.loads(run(d, "status", "--json").stdout)["ready"] is True
        gone = run(d, "unload", "tiny")
        assert gone.returncode == 0 and "freed" in gone.stdout, gone
        dry = json.loads(run(d, "load", "tiny", "--dry-run", "--json").stdout)
        assert dry["state"] == "cold" and dry["fits"] is True and dry["bytes"]["weights"] > 0


def test_run_streams_text_and_json_carries_the_same_text():
    with Daemon(config()) as d:
        options = ["--temperature", "0", "--max-tokens", "24"]
        plain = run(d, "run", "tiny", "hello there", *options)
        assert plain.returncode == 0 and plain.stderr == "", plain
        reply = json.loads(run(d, "run", "tiny", "hello", "there", "--json", *options).stdout)
        assert reply["usage"]["completion_tokens"] == 24
        assert reply["finish_reason"] == "length"
        assert plain.stdout.rstrip("\n") == reply["text"].rstrip("\n")
        piped = run(d, "run", "tiny", *options, stdin="hello there")
        assert piped.stdout == plain.stdout
        stats = run(d, "run", "tiny", "--stats", "hello there", *options)
        assert "24 tokens" in stats.stderr and stats.stdout == plain.stdout


def test_options_reach_the_request():
    with Daemon(config()) as d:
        one = run(d, "run", "tiny", "a", "--seed", "7", "-n", "16", "-t", "1.5")
        two = run(d, "run", "tiny", "a", "--seed", "7", "-n", "16", "-t", "1.5")
        other = run(d, "run", "tiny", "a", "--seed", "8", "-n", "16", "-t", "1.5")
        assert one.stdout == two.stdout != other.stdout
        reply = json.loads(run(d, "run", "tiny", "a", "--json", "-n", "2", "-t", "0", "--logprobs",
                               "3").stdout)
        assert len(reply["tokens"]) == 2 and len(reply["top_tokens"]) == 6
        wrong = run(d, "run", "tiny", "a", "--top-p", "1.7")
        assert wrong.returncode == 64 and "top_p" in wrong.stderr and "1.7" in wrong.stderr, wrong


def test_a_socket_for_others_is_told_from_none():
    with Daemon(config()) as d:
        os.chmod(d.socket, 0)
        stranger = {"user": 65534} if os.geteuid() == 0 else {}
        if stranger and not os.stat(bnctl_path()).st_mode & 1:
            raise Skip("nobody may run bnctl here")
        done = subprocess.run([bnctl_path(), "ls", "--socket", d.socket], capture_output=True,
                              text=True, **stranger)
        assert done.returncode == 77 and "usermod" in done.stderr, done


def test_mistakes_are_explained_and_have_their_codes():
    with Daemon(config()) as d:
        cases = [
            (["run", "tinny", "x"], 1, "tiny"),
            (["rnu"], 64, "run"),
            (["run"], 64, "usage"),
            (["run", "tiny", "--temprature", "1", "x"], 64, "--temperature"),
            (["show", "tiny", "more"], 64, "more"),
            (["ls", "--socket", d.socket + ".no"], 69, d.socket + ".no"),
            (["run", "tiny", "x", "--num-ctx", "16", "--max-tokens", "900"], 1, "900"),
        ]
        for argv, code, word in cases:
            done = run(d, *argv)
            assert done.returncode == code, (argv, done)
            assert word in done.stderr and done.stdout == "", (argv, done)
            assert done.stderr.startswith("bnctl: "), done
        assert run(d, "help").returncode == 0
        assert run(d, "--version").stdout.startswith("bnctl ")
        assert "--temperature" in run(d, "help", "run").stdout


def test_chat_with_a_base_model_is_refused_with_advice():
    with Daemon(config()) as d:
        done = run(d, "chat", "tiny", stdin="hello\n")
        assert done.returncode == 1 and "completions" in done.stderr, done


def test_interrupt_cancels_the_request_and_says_so():
    with Daemon(config()) as d:
        env = dict(os.environ, BND_SOCKET=d.socket)
        # The model is fast and may draw its end token first: then the signal came too late.
        for seed in range(20):
            p = subprocess.Popen([bnctl_path(), "run", "tiny", "go", "-n", "50000", "-t", "1", "-s",
                                  str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=env)
            assert p.stdout.read(1)
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=20 * PATIENT)
            if p.returncode != 0:
                break
        assert p.returncode == 130 and b"cancelled" in err, (p.returncode, err)
        with d.client() as c:
            until(lambda: c.call("server.status")["requests"]["running"] == 0)
            assert c.call("server.status")["totals"]["cancelled"] == 1


def test_reader_that_leaves_ends_the_request_quietly():
    with Daemon(config()) as d:
        line = "%s run tiny go -n 50000 -t 1 --socket %s | head -c 20" % (bnctl_path(), d.socket)
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30 * PATIENT)
        assert len(done.stdout) == 20 and done.stderr == b"", done
        with d.client() as c:
            until(lambda: c.call("server.status")["requests"]["running"] == 0)


def test_daemon_that_dies_mid_stream_is_told():
    for seed in range(20):  # as above: the answer may be complete before the kill
        d = Daemon(config())
        env = dict(os.environ, BND_SOCKET=d.socket)
        p = subprocess.Popen([bnctl_path(), "run", "tiny", "go", "-n", "50000", "-t", "1", "-s",
                              str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        assert p.stdout.read(1)
        d.process.kill()
        d.process.wait()
        _, err = p.communicate(timeout=20 * PATIENT)
        d.log.close()
        if p.returncode != 0:
            break
    assert p.returncode == 69 and b"closed the connection" in err, (p.returncode, err)


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, argv, env):
        try:
            self.pid, self.fd = pty.fork()
        except OSError as e:
            raise Skip("no pseudo terminals here: %s" % e) from None
        if self.pid == 0:
            os.execve(argv[0], argv, env)
        self.screen = b""

    def read_until(self, word, timeout=20):
        end = time.monotonic() + timeout * PATIENT
        while word not in self.screen:
            assert time.monotonic() < end, self.screen
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.screen += os.read(self.fd, 4096)
                except OSError:
                    break
        return self.screen

    def type(self, text):
        os.write(self.fd, text)

    def wait(self):
        while True:
            try:
                data = os.read(self.fd, 4096)
            except OSError:
                break
            if not data:
                break
            self.screen += data
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_chat_on_a_terminal_edits_lines_and_leaves():
    path = make_model("chatty", tokenizer="gpt2", context=4096)
    with Daemon(config(models=[{"name": "chatty", "path": path, "template": "plain"}])) as d:
        env = dict(os.environ, BND_SOCKET=d.socket, TERM="xterm", HOME=d.folder)
        env.pop("XDG_STATE_HOME", None)
        t = Terminal([bnctl_path(), "chat", "chatty", "-n", "6", "-t", "0"], env)
        t.read_until(b"> ")
        t.type(b"hellx\x7fo\r")
        until(lambda: t.read_until(b"> ").count(b"> ") >= 1)
        t.type(b"/help\r")
        t.read_until(b"/clear")
        t.type(b"/exit\r")
        assert t.wait() == 0, t.screen
        history = os.path.join(d.folder, ".local/state/bnd/history")
        assert os.stat(history).st_mode & 0o777 == 0o600
        with open(history) as f:
            assert "hello" in f.read()


if __name__ == "__main__":
    main(globals())
