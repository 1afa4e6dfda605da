"""Starts private daemons and talks to them with clients that are not ours.

Every test file here is a program: it runs all functions whose name starts with `test_`, prints
one line for each, and exits 0, 1 or 77 (skipped, visibly: python3-msgpack or a tool is absent).
A daemon lives in its own temporary directory, is stopped by its own pid, and its log is printed
when a test fails.
"""

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

try:
    import msgpack
except ImportError:
    print("SKIP: python3-msgpack is not installed")
    sys.exit(77)

BINARY_DIR = os.environ.get("BN_BINARY_DIR", "")
DATA = os.environ.get("BN_TEST_DATA", "")
# Sanitizers are slow, and so is a busy machine; only limits that are no promise are stretched.
SLOW = float(os.environ.get("BN_E2E_SLOW", "1"))
# How much longer than it takes something may take before a test says that it did not happen.
PATIENT = 5 * SLOW


class Skip(Exception):
    """Raised by a test that cannot run here."""


def tool(env, *where):
    """Path of a built program: from the environment ctest sets, else from the build folder."""
    path = os.environ.get(env) or os.path.join(BINARY_DIR, *where)
    if not os.path.exists(path):
        raise AssertionError("%s is not built" % path)
    return path


def bnd_path():
    return tool("BN_BND", "daemon", "bnd")


# --- models ---------------------------------------------------------------------------------


_MODELS = {}


def make_model(name, **options):
    """A deterministic synthetic model; made once per run of a test program."""
    key = (name, tuple(sorted(options.items())))
    if key not in _MODELS:
        folder = _scratch()
        path = os.path.join(folder, "%s-%d.gguf" % (name, len(_MODELS)))
        argv = [tool("BN_MAKE_MODEL", "tests", "engine", "bn-make-model")]
        for word, value in options.items():
            argv += ["--" + word.replace("_", "-"), str(value)]
        subprocess.run(argv + ["--out", path], check=True, stdout=subprocess.DEVNULL)
        _MODELS[key] = path
    return _MODELS[key]


def real_model():
    """The real 3.3 M parameter model, written as GGUF by the test tool."""
    source = os.path.join(DATA, "models", "bitllama2-tinystories")
    if not os.path.isdir(source):
        raise Skip("no %s" % source)
    if "bitllama2" not in _MODELS:
        path = os.path.join(_scratch(), "bitllama2.gguf")
        subprocess.run([tool("BN_BITLLAMA2_GGUF", "tests", "engine", "bn-bitllama2-gguf"), source, path],
                       check=True, stdout=subprocess.DEVNULL)
        _MODELS["bitllama2"] = path
    return _MODELS["bitllama2"]


_SCRATCH = []


def _scratch():
    if not _SCRATCH:
        _SCRATCH.append(tempfile.mkdtemp(prefix="bnd-e2e-"))
    return _SCRATCH[0]


# --- the client -----------------------------------------------------------------------------


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(error)
        self.code = error[0]
        self.text = error[1]
        self.data = error[2] if len(error) > 2 else {}


class Closed(Exception):
    """The daemon closed the connection."""


class Client:
    """Plain python3-msgpack over the socket: what a stranger would write in an afternoon."""

    def __init__(self, path, timeout=20.0):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout * PATIENT)
        self.sock.connect(path)
        self.timeout = timeout * PATIENT
        self.unpacker = msgpack.Unpacker(raw=False)
        self.msgid = 0
        self.results = {}
        self.notes = []

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, method, params=None):
        """Sends a call without waiting; returns its msgid."""
        self.msgid += 1
        self.send_raw(msgpack.packb([0, self.msgid, method, [params or {}]]))
        return self.msgid

    def notify(self, method, params=None):
        self.send_raw(msgpack.packb([2, method, [params or {}]]))

    def send_raw(self, data):
        self.sock.sendall(data)

    def _take(self, message):
        if message[0] == 1:
            assert message[1] not in self.results, "two responses to %r" % message[1]
            self.results[message[1]] = (message[2], message[3])
        elif message[0] == 2:
            self.notes.append((time.monotonic(), message[1], message[2][0]))
        else:
            raise AssertionError("the server sent %r" % (message,))

    def pump(self, timeout):
        """Reads what arrives within `timeout` seconds, once; False when nothing did."""
        ready, _, _ = select.select([self.sock], [], [], max(0.0, timeout))
        if not ready:
            return False
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed()
        self.unpacker.feed(data)
        for message in self.unpacker:
            self._take(message)
        return True

    def wait(self, msgid, timeout=None):
        """The result of a call that was sent, or RpcError."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout * PATIENT)
        while msgid not in self.results:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError("no response to call %d in time" % msgid)
            self.pump(left)
        error, result = self.results.pop(msgid)
        if error is not None:
            raise RpcError(error)
        return result

    def wait_note(self, wanted, timeout=None):
        """The first notification for which wanted(method, params) holds."""
        end = time.monotonic() + (self.timeout if timeout is None else timeout * PATIENT)
        seen = 0
        while True:
            for _, method, params in self.notes[seen:]:
                seen += 1
                if wanted(method, params):
                    return params
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError("the notification did not come in time")
            self.pump(left)

    def call(self, method, params=None, timeout=None):
        return self.wait(self.send(method, params), timeout)

    def events(self, request, kind=None):
        """Events of one request so far, in order; asserts that seq counts 0, 1, 2 ..."""
        mine = [p for _, m, p in self.notes if m == "stream" and p["id"] == request]
        assert [p["seq"] for p in mine] == list(range(len(mine))), mine
        return [p for p in mine if kind is None or p["event"] == kind]

    def text(self, request):
        return "".join(p["text"] for p in self.events(request, "delta"))


def fails(code, function, *args, **kwargs):
    """Runs function and returns the RpcError it must raise, whose code must be `code`."""
    try:
        result = function(*args, **kwargs)
    except RpcError as error:
        assert error.code == code, "expected %d, got %r" % (code, error.args)
        return error
    raise AssertionError("expected error %d, got %r" % (code, result))


# --- the daemon -----------------------------------------------------------------------------


def yaml(value, indent=0):
    """Enough YAML for our own configurations."""
    pad = "  " * indent
    if isinstance(value, dict):
        out = ""
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                out += "%s%s:\n%s" % (pad, key, yaml(item, indent + 1))
            else:
                out += "%s%s: %s\n" % (pad, key, scalar(item))
        return out
    if isinstance(value, list):
        out = ""
        for item in value:
            if isinstance(item, dict):
                body = yaml(item, indent + 1)
                out += "%s- %s" % (pad, body[len(pad) + 2:])
            else:
                out += "%s- %s\n" % (pad, scalar(item))
        return out
    return pad + scalar(value) + "\n"


def scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"%s"' % value.replace("\\", "\\\\").replace('"', '\\"')
    if value in ([], {}):
        return "[]" if value == [] else "{}"
    return str(value)


class Daemon:
    """A private bnd on `config` (a dict). Use it as a context manager."""

    def __init__(self, config, folder=None, argv=(), wait=True, name="bnd"):
        self.folder = folder or tempfile.mkdtemp(prefix="bnd-", dir=_scratch())
        self.socket = os.path.join(self.folder, name + ".sock")
        self.config_path = os.path.join(self.folder, name + ".yaml")
        self.log_path = os.path.join(self.folder, name + ".log")
        self.write_config(config)
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            [bnd_path(), "--config", self.config_path, "--debuggable", *argv], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)
        self.pid = self.process.pid
        if wait:
            self.wait_ready()

    def write_config(self, config):
        full = {"socket": {"path": self.socket}}
        full.update(config)
        self.config = full
        with open(self.config_path + ".new", "w") as f:
            f.write(yaml(full))
        os.chmod(self.config_path + ".new", 0o600)
        os.rename(self.config_path + ".new", self.config_path)

    def wait_ready(self, timeout=10.0):
        end = time.monotonic() + timeout * PATIENT
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError("bnd ended with %d" % self.process.returncode)
            try:
                with Client(self.socket) as c:
                    c.call("server.health")
                return
            except (FileNotFoundError, ConnectionRefusedError, Closed):
                time.sleep(0.01)
        raise AssertionError("bnd did not serve within %g s" % (timeout * PATIENT))

    def client(self, **kwargs):
        return Client(self.socket, **kwargs)

    def alive(self):
        return self.process.poll() is None

    def kill(self, number):
        os.kill(self.pid, number)

    def wait_exit(self, timeout=15.0):
        return self.process.wait(timeout=timeout * PATIENT)

    def stop(self, number=signal.SIGTERM, timeout=15.0):
        """Ends the daemon and returns its exit status."""
        if self.process.poll() is None:
            self.kill(number)
        try:
            return self.wait_exit(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("bnd did not stop within %g s" % (timeout * PATIENT)) from None

    def log_text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is not None:
            status = self.process.returncode
        elif kind is None:
            status = self.stop()
        else:
            self.process.kill()
            status = self.process.wait()
        self.log.close()
        if kind is not None:
            tail = "\n".join(self.log_text().splitlines()[-40:])
            sys.stdout.write("--- log of bnd (ended with %r)\n%s\n---\n" % (status, tail))
        else:
            # The ledger and the loop are asserted by bnd itself at its end.
            assert status == 0, "bnd ended with %d:\n%s" % (status, self.log_text())


def until(condition, timeout=5.0, every=0.005):
    """Waits for condition() to hold and returns its value."""
    end = time.monotonic() + timeout * PATIENT
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("did not happen within %g s" % (timeout * PATIENT))
        time.sleep(every)


# --- running --------------------------------------------------------------------------------


def main(namespace):
    """Runs the test functions of a module and exits."""
    wanted = sys.argv[1:]
    failed, skipped, passed = [], [], 0
    random.seed(20240229)
    try:
        for name, function in list(namespace.items()):
            if not name.startswith("test_") or (wanted and name not in wanted):
                continue
            begin = time.monotonic()
            try:
                function()
                passed += 1
                print("ok   %-60s %6.2f s" % (name, time.monotonic() - begin), flush=True)
            except Skip as reason:
                skipped.append(name)
                print("SKIP %s: %s" % (name, reason), flush=True)
            except Exception:
                failed.append(name)
                traceback.print_exc(file=sys.stdout)
                print("FAIL %s" % name, flush=True)
    finally:
        with contextlib.suppress(OSError):
            if not failed:
                for folder in _SCRATCH:
                    shutil.rmtree(folder)
    if failed:
        print("failed: %s" % ", ".join(failed))
        sys.exit(1)
    if skipped and not passed:
        sys.exit(77)
    sys.exit(0)
