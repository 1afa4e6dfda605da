"""bnctl pull and bnctl convert, against a hub that behaves like the real one and then does not."""

import hashlib
import json
import os
import pty
import random
import re
import resource
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from harness import SLOW, Daemon, Skip, _scratch, bnd_path, main, make_model, tool, until
from hub import COMMIT, Act, Hub, Repo

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN = "hf_theSecretOfAlice"


def bnctl_path():
    return tool("BN_BNCTL", "client", "bnctl")


def convert_path():
    return tool("BN_CONVERT", "engine", "bn-convert")


def environment(hub, **more):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    env.update(HF_ENDPOINT=hub.url, TERM="xterm",
               PATH=os.path.dirname(convert_path()) + ":" + os.environ["PATH"])
    env.update(more)
    return env


def pull(hub, *argv, env=None, timeout=60, **options):
    return subprocess.run([bnctl_path(), "pull", *argv], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, env=environment(hub, **(env or {})), timeout=timeout * SLOW,
                          **options)


def start(hub, *argv):
    return subprocess.Popen([bnctl_path(), "pull", *argv], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(hub))


def folder():
    return tempfile.mkdtemp(prefix="pull-", dir=_scratch())


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


def read(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


def gguf_repo(n=300000):
    return {"acme/model-gguf": Repo({"ggml-model-i2_s.gguf": noise(n), "README.md": b"# hello\n",
                                     "data/train.bin": b"x" * 10})}


NAME = "ggml-model-i2_s.gguf"
REPO = "acme/model-gguf"


def leftovers(where):
    return sorted(f for f in os.listdir(where) if ".part" in f)


def good(result, where, hub, name=NAME, repo=REPO):
    assert result.returncode == 0, result
    assert read(where, name) == hub.repos[repo].files[name]
    assert leftovers(where) == []


# --- the ordinary way --------------------------------------------------------------------------


def test_gguf_comes_checked_and_the_lines_suit_bnd():
    with Hub(gguf_repo()) as hub:
        to = folder()
        result = pull(hub, REPO, "--to", to)
        good(result, to, hub)
        assert result.stdout == "models:\n- name: model\n  path: %s/%s\n" % (to, NAME), result.stdout
        assert "Saved and verified" in result.stderr
        config = os.path.join(to, "bnd.yaml")
        with open(config, "w") as f:
            f.write(result.stdout)
        subprocess.run([bnd_path(), "--check-config", config], check=True, capture_output=True)
        assert [p.rsplit("/", 1)[1] for p in hub.files_asked()] == [NAME]
        record = json.loads(read(to, NAME + ".pull.json"))
        assert record["repo"] == REPO and record["commit"] == COMMIT
        assert record["sha256"] == hashlib.sha256(read(to, NAME)).hexdigest()


def test_second_pull_downloads_nothing_and_damage_is_seen():
    with Hub(gguf_repo()) as hub:
        to = folder()
        good(pull(hub, REPO, "--to", to), to, hub)
        hub.forget()
        again = pull(hub, REPO, "--to", to)
        good(again, to, hub)
        assert "Already here and verified" in again.stderr and hub.files_asked() == []
        assert again.stdout.startswith("models:\n")
        with open(os.path.join(to, NAME), "r+b") as f:
            f.seek(1000)
            f.write(b"damage")
        good(pull(hub, REPO, "--to", to), to, hub)
        assert len(hub.files_asked()) == 1


def test_json_and_quiet():
    with Hub(gguf_repo()) as hub:
        to = folder()
        result = pull(hub, REPO, "--to", to, "--json", "-q")
        good(result, to, hub)
        told = json.loads(result.stdout)
        assert told["path"] == os.path.join(to, NAME) and told["was_here"] is False
        assert told["bytes"] == 300000 and told["model"] == "model" and told["converted"] is False
        assert result.stderr == ""
        assert json.loads(pull(hub, REPO, "--to", to, "--json").stdout)["was_here"] is True


def test_strange_folder_names_are_quoted_for_yaml():
    with Hub(gguf_repo()) as hub:
        to = os.path.join(folder(), 'a "b": #c\\d \u00e9')
        result = pull(hub, REPO, "--to", to)
        good(result, to, hub)
        config = os.path.join(folder(), "bnd.yaml")
        with open(config, "w") as f:
            f.write(result.stdout)
        subprocess.run([bnd_path(), "--check-config", config], check=True, capture_output=True)
        shown = subprocess.run([bnd_path(), "--config", config, "--print-config"], check=True,
                               capture_output=True, text=True).stdout
        assert "#c" in shown and "\u00e9" in shown, shown


def test_the_usual_folder_of_a_user():
    with Hub(gguf_repo()) as hub:
        home = folder()
        options = {}
        if os.geteuid() == 0:
            for path in (_scratch(), home):
                os.chmod(path, 0o777)
            options = {"user": 65534, "group": 65534, "extra_groups": []}
        try:
            result = pull(hub, REPO, env={"HOME": home, "XDG_DATA_HOME": ""}, **options)
        except PermissionError as e:
            raise Skip("nobody cannot run bnctl here: %s" % e) from None
        good(result, os.path.join(home, ".local/share/bnd/models", REPO, COMMIT[:12]), hub)
        result = pull(hub, REPO, env={"HOME": home, "XDG_DATA_HOME": home + "/data"}, **options)
        good(result, os.path.join(home, "data/bnd/models", REPO, COMMIT[:12]), hub)


def test_a_terminal_gets_a_bar_and_a_pipe_gets_lines():
    with Hub(gguf_repo()) as hub:
        try:
            ours, its = pty.openpty()
        except OSError as e:
            raise Skip("no pseudo terminals here: %s" % e) from None
        to = folder()
        hold = threading.Event()
        hub.acts = [Act(stall=150000, hold=hold)]
        p = subprocess.Popen([bnctl_path(), "pull", REPO, "--to", to], stdout=subprocess.PIPE,
                             stderr=its, env=environment(hub))
        os.close(its)
        screen = b""
        while b"50 %" not in screen:
            screen += os.read(ours, 4096)
        hold.set()
        assert p.wait(20 * SLOW) == 0
        assert b"146 KiB of 293 KiB" in screen and b"#####" in screen, screen
        assert p.stdout.read().startswith(b"models:\n")
        p.stdout.close()
        os.close(ours)
        hold.clear()
        hub.acts = [Act(stall=150000, hold=hold)]
        p = start(hub, REPO, "--to", folder())
        line = p.stderr.readline()
        hold.set()
        p.communicate(timeout=20 * SLOW)
        assert line.startswith("fetching: 146 KiB of 293 KiB") and "\033" not in line, line


# --- which files -------------------------------------------------------------------------------


def test_several_candidates_are_listed_with_sizes():
    files = {"a-i2_s.gguf": noise(5000), "sub/B-I2_S.gguf": noise(2 << 20, 2), "q4.gguf": noise(10)}
    with Hub({REPO: Repo(files)}) as hub:
        to = folder()
        result = pull(hub, REPO, "--to", to)
        assert result.returncode == 1 and result.stdout == "", result
        assert "a-i2_s.gguf" in result.stderr and "2.0 MiB" in result.stderr
        assert "q4.gguf" not in result.stderr and "bnctl pull acme/model-gguf:FILE" in result.stderr
        result = pull(hub, REPO + ":sub/B-I2_S.gguf", "--to", to)
        assert result.returncode == 0 and read(to, "sub/B-I2_S.gguf") == files["sub/B-I2_S.gguf"]
        assert result.stdout.endswith("path: %s/sub/B-I2_S.gguf\n" % to)
        result = pull(hub, REPO, "--file", "q4.gguf", "--to", to)
        assert result.returncode == 0 and read(to, "q4.gguf") == files["q4.gguf"]
        result = pull(hub, REPO + ":none.gguf", "--to", to)
        assert result.returncode == 1 and "no file 'none.gguf'" in result.stderr


def test_pickles_are_never_fetched():
    with Hub({REPO: Repo({"config.json": b"{}", "pytorch_model.bin": noise(9000)})}) as hub:
        result = pull(hub, REPO, "--to", folder())
        assert result.returncode == 1 and "pickles" in result.stderr, result
        result = pull(hub, REPO + ":pytorch_model.bin", "--to", folder())
        assert result.returncode == 1 and "not a whole model" in result.stderr, result
        assert hub.files_asked() == []


def test_revisions_and_wrong_words():
    with Hub(gguf_repo()) as hub:
        hub.repos[REPO].revisions.append("refs/pr/1")
        to = folder()
        good(pull(hub, REPO + "@refs/pr/1", "--to", to), to, hub)
        assert "/revision/refs%2Fpr%2F1?blobs=true" in hub.requests("hub")[0][1]
        good(pull(hub, REPO, "--revision", COMMIT, "--to", to), to, hub)
        for words in (["model"], ["https://huggingface.co/a/b"], ["../x/y"], [REPO + "@../x"],
                      [REPO + ":../../x.gguf"], [REPO + "@a", "--revision", "b"],
                      [REPO, "--stall", "0"], [REPO, "--kernel", "../x"], [REPO, "--kernel", "q4"],
                      [REPO, "--embedding", "q4_0"], []):
            result = pull(hub, *words, "--to", to)
            assert result.returncode == 64 and result.stderr.startswith("bnctl: "), (words, result)
        result = pull(hub, REPO, "--to", to, env={"HF_ENDPOINT": "file:///etc"})
        assert result.returncode == 64 and "HF_ENDPOINT" in result.stderr
        result = pull(hub, REPO, "--to", to, env={"HF_TOKEN": TOKEN + "\nX: y"})
        assert result.returncode == 64 and TOKEN not in result.stderr


# --- secrets and strangers ---------------------------------------------------------------------


def test_the_token_goes_to_the_hub_alone():
    with Hub(gguf_repo()) as hub:
        to = folder()
        result = pull(hub, REPO, "--to", to, env={"HF_TOKEN": TOKEN})
        good(result, to, hub)
        assert hub.requests("cdn") and hub.requests("hub")
        assert all(h.get("Authorization") == "Bearer " + TOKEN for _, _, h in hub.requests("hub"))
        for _, _, headers in hub.requests("cdn"):
            assert "Authorization" not in headers and TOKEN not in str(headers)
        hub.refusals = [Act(status=403)]
        refused = pull(hub, REPO, "--to", folder(), env={"HF_TOKEN": TOKEN})
        assert refused.returncode == 77
        for text in (result.stdout, result.stderr, refused.stdout, refused.stderr):
            assert TOKEN not in text


def test_redirects_elsewhere_than_http_are_refused():
    with Hub(gguf_repo()) as hub:
        to = folder()
        for away in ("ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1/x"):
            hub.redirects = [away]
            result = pull(hub, REPO, "--to", to)
            assert result.returncode == 75 and "rotocol" in result.stderr, result
            assert not os.path.exists(os.path.join(to, NAME))
        hub.redirects = [hub.url + "/%s/resolve/%s/%s" % (REPO, COMMIT, NAME)] * 20
        result = pull(hub, REPO, "--to", to)
        assert result.returncode == 75 and "redirects" in result.stderr, result


def test_unknown_certificates_are_refused():
    where = folder()
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", where + "/key", "-out", where + "/cert"], check=True,
                       capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as e:
        raise Skip("no certificate can be made: %s" % e) from None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(where + "/cert", where + "/key")
    with Hub(gguf_repo(), tls=tls) as hub:
        result = pull(hub, REPO, "--to", folder(), env={"HF_TOKEN": TOKEN})
        assert result.returncode == 75 and "certificate" in result.stderr, result
        assert hub.requests() == []


def test_hostile_names_fetch_nothing():
    for name in ("../evil-i2_s.gguf", "/tmp/evil-i2_s.gguf", "a/../../evil.gguf", "a//b.gguf",
                 "x\u001b]0;hi\u0007.gguf", "x\u009b1m.gguf", "..\\evil.gguf", "a\n.gguf", "./x.gguf"):
        with Hub(gguf_repo()) as hub:
            hub.repos[REPO].describe = lambda d, n=name: dict(
                d, siblings=[dict(d["siblings"][0], rfilename=n)])
            to = os.path.join(folder(), "in")
            result = pull(hub, REPO, "--to", to)
            assert result.returncode == 1 and "nothing of this repository" in result.stderr, result
            assert "\033" not in result.stderr.replace("\033[K", "") and "\u009b" not in result.stderr
            assert hub.files_asked() == [] and os.listdir(os.path.dirname(to)) == []


def test_hostile_answers_are_errors():
    broken = [b"", b"[]", b"{", b"null", b'{"sha": "../../x", "siblings": []}', b'{"siblings": []}',
              b'{"sha": "%s"}' % COMMIT.encode(), b"\xff" * 1000, b"[" * 100000,
              b'{"a": [' + b"[]," * 500000 + b"1]}", b" " * (9 << 20)]
    with Hub(gguf_repo()) as hub:
        for body in broken:
            hub.repos[REPO].describe = lambda d, b=body: b
            result = pull(hub, REPO, "--to", folder())
            assert result.returncode == 1 and "Sanitizer" not in result.stderr, (body[:50], result)
            assert result.stderr.count("\n") == 1, result.stderr


def test_hostile_index_names_are_refused():
    for shard in ("../x.safetensors", "/etc/passwd", "config.json", "other.safetensors", 7):
        index = json.dumps({"weight_map": {"a": "one.safetensors", "b": shard}}).encode()
        files = {"config.json": b"{}", "tokenizer.json": b"{}", "one.safetensors": noise(9000),
                 "model.safetensors.index.json": index}
        with Hub({REPO: Repo(files)}) as hub:
            result = pull(hub, REPO, "--to", folder())
            assert result.returncode == 1 and "no safetensors file" in result.stderr, result
            assert not any("one.safetensors" in p for p in hub.files_asked())


def test_links_are_not_written_through():
    with Hub(gguf_repo()) as hub:
        to, victim = folder(), os.path.join(folder(), "victim")
        with open(victim, "wb") as f:
            f.write(b"precious")
        os.symlink(victim, os.path.join(to, NAME + ".part"))
        assert pull(hub, REPO, "--to", to).returncode == 74
        os.unlink(os.path.join(to, NAME + ".part"))
        os.symlink(victim, os.path.join(to, NAME))
        result = pull(hub, REPO, "--to", to, "--force")
        assert result.returncode == 1 and "no ordinary file" in result.stderr, result
        assert read(victim) == b"precious"


def test_files_of_the_user_stay():
    with Hub(gguf_repo()) as hub:
        to = folder()
        with open(os.path.join(to, NAME), "wb") as f:
            f.write(b"mine")
        result = pull(hub, REPO, "--to", to)
        assert result.returncode == 1 and "--force" in result.stderr and read(to, NAME) == b"mine"
        good(pull(hub, REPO, "--to", to, "--force"), to, hub)


# --- refusals ----------------------------------------------------------------------------------


def test_refusals_are_sentences():
    gated = Act(status=403, headers={"X-Error-Code": "GatedRepo"})
    cases = [(Act(status=401), 77, "HF_TOKEN"), (gated, 77, "accept its licence on its page"),
             (Act(status=404, headers={"X-Error-Code": "RevisionNotFound"}), 1, "no such revision"),
             (Act(status=404), 1, "no such repository"), (Act(status=418), 75, "status 418"),
             (Act(status=429, headers={"Retry-After": "3600"}), 75, "try again in 3600 s")]
    with Hub(gguf_repo()) as hub:
        for act, code, words in cases:
            hub.refusals = [act]
            result = pull(hub, REPO, "--to", folder())
            assert result.returncode == code and words in result.stderr, result
        result = pull(hub, "acme/unknown", "--to", folder())
        assert result.returncode == 1 and "is the name right?" in result.stderr
        result = pull(hub, REPO + "@nope", "--to", folder())
        assert result.returncode == 1 and "no such revision" in result.stderr
        hub.acts = [Act(status=403, headers={"X-Error-Code": "GatedRepo"})]
        result = pull(hub, REPO, "--to", folder())
        assert result.returncode == 77 and NAME in result.stderr


def test_patience_with_429_and_500():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hub.refusals = [Act(status=429, headers={"Retry-After": "1"})]
        hub.acts = [Act(status=500), Act(status=503, headers={"Retry-After": "1"}), Act(status=502)]
        begin = time.monotonic()
        result = pull(hub, REPO, "--to", to)
        good(result, to, hub)
        assert time.monotonic() - begin >= 2, "Retry-After is obeyed"
        assert result.stderr.count("trying again") == 4, result.stderr
        to = folder()
        hub.acts = [Act(status=500)] * 10
        result = pull(hub, REPO, "--to", to, "--retries", "2")
        assert result.returncode == 75 and "given up after 3 tries" in result.stderr, result
        assert len(hub.acts) == 7


def test_nobody_listens():
    with Hub(gguf_repo()) as hub:
        pass
    result = pull(hub, REPO, "--to", folder(), "--retries", "1")
    assert result.returncode == 75 and "connect" in result.stderr.lower(), result


# --- resuming ----------------------------------------------------------------------------------


def test_cut_at_50_random_points_and_resumed_by_the_next_run():
    size = 2000003
    dice = random.Random(50)
    points = sorted(dice.sample(range(1, size), 50))
    with Hub(gguf_repo(size)) as hub:
        to = folder()
        at = 0
        for point in points:
            hub.acts = [Act(cut=point - at, reset=dice.random() < 0.3)]
            hub.forget()
            result = pull(hub, REPO, "--to", to, "--retries", "0")
            assert result.returncode == 75 and "same command goes on" in result.stderr, result
            headers = hub.requests("cdn")[0][2]
            assert headers.get("Range") == ("bytes=%d-" % at if at else None), (headers, at)
            assert ("If-Range" in headers) == (at > 0)
            arrived = os.path.getsize(os.path.join(to, NAME + ".part"))
            # RST may take what is on its way with it; a clean end may not.
            assert at <= arrived <= point, (at, arrived, point)
            assert hub.acts == []
            assert not os.path.exists(os.path.join(to, NAME))
            at = arrived
        hub.acts = []
        good(pull(hub, REPO, "--to", to), to, hub)


def test_cut_many_times_in_one_run():
    with Hub(gguf_repo(400000)) as hub:
        to = folder()
        hub.acts = [Act(cut=n) for n in (1, 100000, 1, 50000, 200000)]
        result = pull(hub, REPO, "--to", to, "--retries", "1")
        good(result, to, hub)
        assert result.stderr.count("the connection was cut; trying again") == 5, result.stderr
        # Without a length, only the hub's tells that something is missing.
        to = folder()
        hub.acts = [Act(cut=1000, length=False)]
        good(pull(hub, REPO, "--to", to), to, hub)


def test_changed_files_and_servers_without_ranges_start_over():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hub.acts = [Act(cut=100000)]
        assert pull(hub, REPO, "--to", to, "--retries", "0").returncode == 75
        hub.repos[REPO].tag = "v2"
        hub.forget()
        good(pull(hub, REPO, "--to", to), to, hub)
        assert hub.requests("cdn")[0][2]["Range"] == "bytes=100000-"
        to = folder()
        hub.acts = [Act(cut=100000), Act(ignore_range=True)]
        good(pull(hub, REPO, "--to", to), to, hub)
        to = folder()
        hub.acts = [Act(cut=100000), Act(lie=1000)]
        good(pull(hub, REPO, "--to", to), to, hub)
        to = folder()
        hub.acts = [Act(cut=100000), Act(status=416)]
        good(pull(hub, REPO, "--to", to), to, hub)
        # Another commit under the same name: the part is of another address.
        to = folder()
        hub.acts = [Act(cut=100000)]
        assert pull(hub, REPO, "--to", to, "--retries", "0").returncode == 75
        hub.repos[REPO] = Repo({NAME: noise(300000, 9)}, commit="f" * 40)
        good(pull(hub, REPO, "--to", to), to, hub)


def test_damaged_records_of_parts_start_over():
    with Hub(gguf_repo()) as hub:
        for damage in (b"", b"{", b'{"url": 1}', b"\0" * 100):
            to = folder()
            hub.acts = [Act(cut=100000)]
            assert pull(hub, REPO, "--to", to, "--retries", "0").returncode == 75
            with open(os.path.join(to, NAME + ".part.json"), "wb") as f:
                f.write(damage)
            hub.forget()
            good(pull(hub, REPO, "--to", to), to, hub)
            assert "Range" not in hub.requests("cdn")[0][2]


def test_wrong_bytes_are_fetched_again_once():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hub.acts = [Act(flip=123456)]
        result = pull(hub, REPO, "--to", to)
        good(result, to, hub)
        assert "damaged: fetching it again" in result.stderr
        to = folder()
        hub.acts = [Act(flip=5)] * 5
        result = pull(hub, REPO, "--to", to)
        assert result.returncode == 1 and "SHA-256" in result.stderr and len(hub.acts) == 3, result
        assert sorted(os.listdir(to)) == [".bnctl-pull.lock"]
        # Damage in the middle of a resumed file is found too.
        to = folder()
        hub.acts = [Act(cut=100000, flip=7), Act()]
        good(pull(hub, REPO, "--to", to), to, hub)
        hub.acts = []
        hub.repos[REPO].describe = lambda d: dict(d, siblings=[
            dict(s, lfs=dict(s["lfs"], size=299999)) if "lfs" in s else s for s in d["siblings"]])
        result = pull(hub, REPO, "--to", folder())
        assert result.returncode == 1 and "299999" in result.stderr, result


def test_small_files_are_checked_by_their_blob_id():
    files = {"config.json": b'{"a": 1}', "tokenizer.json": b"{}", "model.safetensors": noise(9000)}
    with Hub({REPO: Repo(files)}) as hub:
        hub.repos[REPO].describe = lambda d: dict(d, siblings=[
            dict(s, blobId="0" * 40) if s["rfilename"] == "config.json" else s
            for s in d["siblings"]])
        result = pull(hub, REPO, "--to", folder())
        assert result.returncode == 1 and "config.json" in result.stderr, result
        assert "git blob id" in result.stderr


def test_a_hub_without_digests_is_believed_by_its_headers():
    with Hub(gguf_repo()) as hub:
        hub.repos[REPO].describe = lambda d: dict(d, siblings=[
            {"rfilename": s["rfilename"]} for s in d["siblings"]])
        to = folder()
        hub.acts = [Act(cut=1000), Act()]
        good(pull(hub, REPO, "--to", to), to, hub)
        to = folder()
        hub.acts = [Act(flip=9), Act(flip=9)]
        result = pull(hub, REPO, "--to", to)
        assert result.returncode == 1 and "SHA-256" in result.stderr, result


def test_a_slow_loris_is_left():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hub.acts = [Act(stall=100000, drip=True)]
        result = pull(hub, REPO, "--to", to, "--stall", "1")
        good(result, to, hub)
        assert "less than 1 KiB/s for 1 s" in result.stderr, result.stderr
        assert int(re.findall(r"\d+", hub.requests("cdn")[1][2]["Range"])[0]) >= 100000


def test_ctrl_c_and_on():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hold = threading.Event()
        hub.acts = [Act(stall=100000, hold=hold)]
        p = start(hub, REPO, "--to", to)
        part = os.path.join(to, NAME + ".part")
        until(lambda: os.path.exists(part) and os.path.getsize(part) == 100000, timeout=20)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=20 * SLOW)
        hold.set()
        assert p.returncode == 130 and out == "" and "same command goes on" in err, (err, p.returncode)
        hub.forget()
        good(pull(hub, REPO, "--to", to), to, hub)
        assert hub.requests("cdn")[0][2]["Range"] == "bytes=100000-"


def test_killed_and_on():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hold = threading.Event()
        hub.acts = [Act(stall=100000, hold=hold)]
        p = start(hub, REPO, "--to", to)
        part = os.path.join(to, NAME + ".part")
        until(lambda: os.path.exists(part) and os.path.getsize(part) == 100000, timeout=20)
        p.kill()
        p.communicate()
        hold.set()
        hub.forget()
        good(pull(hub, REPO, "--to", to), to, hub)
        assert hub.requests("cdn")[0][2]["Range"] == "bytes=100000-"


def test_two_at_once():
    with Hub(gguf_repo()) as hub:
        to = folder()
        hold = threading.Event()
        hub.acts = [Act(stall=100000, hold=hold)]
        first = start(hub, REPO, "--to", to)
        until(lambda: hub.requests("cdn"), timeout=20)
        second = pull(hub, REPO, "--to", to)
        assert second.returncode == 75 and "another bnctl is pulling" in second.stderr, second
        hold.set()
        first.communicate(timeout=20 * SLOW)
        assert first.returncode == 0 and read(to, NAME) == hub.repos[REPO].files[NAME]


# --- the disk ----------------------------------------------------------------------------------


def test_limit_on_file_size_keeps_what_has_come():
    with Hub(gguf_repo()) as hub:
        to = folder()

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (150000, resource.RLIM_INFINITY))

        result = pull(hub, REPO, "--to", to, preexec_fn=limit)
        assert result.returncode == 74 and "limit on the size" in result.stderr, result
        assert os.path.getsize(os.path.join(to, NAME + ".part")) == 150000
        hub.forget()
        good(pull(hub, REPO, "--to", to), to, hub)
        assert hub.requests("cdn")[0][2]["Range"] == "bytes=150000-"


class SmallDisk:
    """A tmpfs of one MiB, where that is allowed."""

    def __enter__(self):
        self.path = folder()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", self.path],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Skip("no small disk can be mounted: %s" % done.stderr.strip())
        return self.path

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)


def test_a_disk_without_room_is_said_before():
    with Hub(gguf_repo(3 << 20)) as hub, SmallDisk() as disk:
        result = pull(hub, REPO, "--to", disk)
        assert result.returncode == 74 and "3 MiB are still to come" in result.stderr, result
        assert hub.files_asked() == []


def test_a_disk_that_fills_up_keeps_what_has_come():
    with Hub(gguf_repo(800000)) as hub, SmallDisk() as disk:
        filler = os.path.join(disk, "filler")

        def fill():
            with open(filler, "wb") as f:
                try:
                    while True:
                        f.write(b"x" * 4096)
                        f.flush()
                except OSError:
                    pass

        part = os.path.join(disk, NAME + ".part")
        hub.acts = [Act(stall=300000, during=lambda: (
            until(lambda: os.path.getsize(part) == 300000, timeout=20), fill()))]
        result = pull(hub, REPO, "--to", disk)
        assert result.returncode == 74 and "the disk is full" in result.stderr, result
        arrived = os.path.getsize(part)
        assert 300000 <= arrived < 800000
        os.unlink(filler)
        hub.forget()
        good(pull(hub, REPO, "--to", disk), disk, hub)
        assert hub.requests("cdn")[0][2]["Range"] == "bytes=%d-" % arrived


# --- checkpoints, all the way ------------------------------------------------------------------


def checkpoint(family):
    """The files of a synthetic Hugging Face folder, and some that must not be fetched."""
    where = folder()
    script = os.path.join(HERE, "..", "reference", "make_checkpoint.py")
    done = subprocess.run([sys.executable, script, family, where], capture_output=True, text=True)
    if "No module named 'numpy'" in done.stderr:
        raise Skip("no python3-numpy")
    assert done.returncode == 0, done.stderr
    files = {name: read(where, name) for name in os.listdir(where)}
    files.update({"pytorch_model.bin": noise(5000), "consolidated.safetensors": noise(5000),
                  ".gitattributes": b"*\n", "original/params.json": b"{}"})
    return files


def test_a_checkpoint_all_the_way_to_tokens():
    files = checkpoint("bitnet-2b-4t")
    with Hub({"acme/Tiny_BitNet-2B": Repo(files)}) as hub:
        to = folder()
        hub.acts = [Act(cut=50000)]
        result = pull(hub, "acme/Tiny_BitNet-2B", "--to", to)
        assert result.returncode == 0, result
        path = os.path.join(to, "Tiny_BitNet-2B.gguf")
        assert result.stdout == "models:\n- name: tiny_bitnet-2b\n  path: %s\n" % path
        assert sorted(os.listdir(to)) == [".bnctl-pull.lock", "Tiny_BitNet-2B.gguf",
                                          "Tiny_BitNet-2B.gguf.pull.json"]
        asked = " ".join(hub.files_asked())
        assert "config.json" in asked and "model.safetensors" in asked
        for name in ("pytorch_model.bin", "consolidated", ".gitattributes", "original"):
            assert name not in asked, asked
        hub.forget()
        again = pull(hub, "acme/Tiny_BitNet-2B", "--to", to)
        assert again.returncode == 0 and again.stdout == result.stdout
        assert "Already here" in again.stderr and hub.files_asked() == []
        lines = result.stdout
    config = os.path.join(to, "printed.yaml")
    with open(config, "w") as f:
        f.write(lines)
    subprocess.run([bnd_path(), "--check-config", config], check=True, capture_output=True)
    with Daemon({"memory": {"budget": "256MiB"},
                 "models": [{"name": "tiny_bitnet-2b", "path": path}]}) as d:
        with d.client() as c:
            reply = c.call("completions", {"model": "tiny_bitnet-2b", "prompt": "ab", "max_tokens": 8,
                                           "temperature": 0.0})
            assert reply["usage"]["completion_tokens"] >= 1, reply


def test_shards_options_and_kept_sources():
    files = checkpoint("3b")
    shards = [n for n in files if re.match(r"model-\d+-of-\d+\.safetensors$", n)]
    assert len(shards) > 1
    with Hub({"acme/sharded": Repo(files)}) as hub:
        to = folder()
        hub.acts = [Act(), Act(cut=1000)]
        result = pull(hub, "acme/sharded", "--to", to, "--embedding", "q8_0", "--keep-source", "--json")
        assert result.returncode == 0, result
        told = json.loads(result.stdout)
        assert told["converted"] is True and told["path"].endswith("/sharded-q8_0.gguf")
        assert told["sha256"] == hashlib.sha256(read(told["path"])).hexdigest()
        kept = os.path.join(to, "sharded-%s.download" % COMMIT[:12])
        assert set(shards) <= set(os.listdir(kept)) and "pytorch_model.bin" not in os.listdir(kept)
        for name in os.listdir(kept):
            assert read(kept, name) == files[name], name
        hub.forget()
        # Another wish makes another file, from what is here.
        result = pull(hub, "acme/sharded", "--to", to)
        assert result.returncode == 0 and hub.files_asked() == [], result
        assert os.path.exists(os.path.join(to, "sharded.gguf")) and not os.path.exists(kept)
        # What no checkpoint has is said before it comes.
        result = pull(hub, "acme/sharded", "--to", folder(), "--embedding", "keep")
        assert result.returncode == 64 and "q8_0" in result.stderr, result
        assert hub.files_asked() == []
        assert os.path.exists(told["path"])


def test_a_refusal_of_bn_convert_keeps_the_files():
    files = checkpoint("large")
    config = json.loads(files["config.json"])
    config["attention_bias"] = True
    files["config.json"] = json.dumps(config).encode()
    with Hub({"acme/biased": Repo(files)}) as hub:
        to = folder()
        result = pull(hub, "acme/biased", "--to", to)
        assert result.returncode == 1 and "bn-convert ended with" in result.stderr, result
        assert "bn-convert: " in result.stderr and result.stdout == ""
        assert "model.safetensors" in os.listdir(os.path.join(to, "biased-%s.download" % COMMIT[:12]))
        open(os.path.join(to, "biased.gguf"), "w").close()
        hub.forget()
        result = pull(hub, "acme/biased", "--to", to)
        assert result.returncode == 1 and "is there already" in result.stderr, result
        assert hub.files_asked() == []


def fake_convert(text):
    """A folder with a bn-convert of ours, and bnctl alone beside nothing."""
    where = folder()
    shutil.copy(bnctl_path(), os.path.join(where, "bnctl"))
    tools = os.path.join(where, "tools")
    os.mkdir(tools)
    if text is not None:
        with open(os.path.join(tools, "bn-convert"), "w") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(os.path.join(tools, "bn-convert"), 0o755)
    return os.path.join(where, "bnctl"), tools


def test_a_gguf_is_re_encoded_when_asked():
    with Hub(gguf_repo()) as hub:
        # Writes its arguments, then does what it is for: $2 is a file, $4 the output.
        bnctl, tools = fake_convert('echo "$@"\n/bin/cp "$1" "$3"\n')
        to = folder()
        result = subprocess.run([bnctl, "pull", REPO, "--kernel", "tl2", "--to", to],
                                capture_output=True, text=True, timeout=60 * SLOW,
                                env=dict(environment(hub), PATH=tools))
        assert result.returncode == 0, result
        assert "--kernel tl2" in result.stderr and "--name model-gguf" in result.stderr
        assert result.stdout.endswith("/ggml-model-i2_s-tl2.gguf\n"), result.stdout
        assert read(to, "ggml-model-i2_s-tl2.gguf") == hub.repos[REPO].files[NAME]


def test_ctrl_c_reaches_bn_convert():
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": noise(9000)}
    with Hub({REPO: Repo(files)}) as hub:
        bnctl, tools = fake_convert("trap 'echo ended >&2; exit 0' TERM\necho started >&2\n"
                                    "while :; do /bin/sleep 0.05; done\n")
        to = folder()
        p = subprocess.Popen([bnctl, "pull", REPO, "--to", to], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=dict(environment(hub), PATH=tools))
        while "started" not in p.stderr.readline():
            pass
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=20 * SLOW)
        assert p.returncode == 130 and out == "" and "ended\n" in err and "stopped" in err, (p.returncode, err)
        assert "model.safetensors" in os.listdir(os.path.join(to, "model-gguf-%s.download" % COMMIT[:12]))


def test_without_bn_convert_nothing_is_fetched():
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": noise(9000)}
    with Hub({REPO: Repo(files)}) as hub:
        bnctl, tools = fake_convert(None)
        env = dict(environment(hub), PATH=tools)
        result = subprocess.run([bnctl, "pull", REPO, "--to", folder()], capture_output=True, text=True,
                                env=env, timeout=60 * SLOW)
        assert result.returncode == 1 and "bn-convert is neither" in result.stderr, result
        assert hub.files_asked() == []
        result = subprocess.run([bnctl, "convert", "x"], capture_output=True, text=True, env=env)
        assert result.returncode == 69 and "bn-convert is neither" in result.stderr, result


# --- convert -----------------------------------------------------------------------------------


def test_convert_is_bn_convert():
    def both(*argv):
        ours = subprocess.run([bnctl_path(), "convert", *argv], capture_output=True, text=True,
                              env=dict(os.environ, PATH=os.path.dirname(convert_path())))
        its = subprocess.run([convert_path(), *argv], capture_output=True, text=True)
        assert (ours.returncode, ours.stdout) == (its.returncode, its.stdout), (ours, its)
        return ours

    assert "usage: bn-convert" in both("--help").stdout
    assert both().returncode == 64
    assert both("/nonexistent", "-o", "/nonexistent.gguf").returncode == 66
    model, free = make_model("plain"), os.path.join(folder(), "x.gguf")
    for argv, code, word in (
            ([model, "-o", "/nonexistent/x.gguf"], 73, "the folder '/nonexistent'"),
            ([model, "-o", os.path.dirname(free), "--force"], 73, "is a folder"),
            ([model, "-o", model], 73, "--force"),
            ([os.path.join(os.path.dirname(free), "config.json"), "-o", free], 66, "No such file"),
            (["/nonexistent", "-o", free, "--kernel", "q4"], 64, "no kernel 'q4'"),
            ([model, "-o", free, "--embedding", "q4"], 64, "not 'q4'")):
        result = both(*argv)
        assert result.returncode == code and word in result.stderr, result
        assert not os.path.exists(free)
    part = os.path.join(folder(), "model.safetensors")
    open(part, "w").close()
    assert "whole folder" in both(part, "-o", free).stderr
    bnctl, tools = fake_convert('for w; do echo "<$w>"; done\nexit 42\n')
    result = subprocess.run([bnctl, "convert", "--json", "-q", "a b", "--", "-x"], text=True,
                            capture_output=True, env=dict(os.environ, PATH=tools))
    assert result.returncode == 42 and result.stdout == "<--json>\n<-q>\n<a b>\n<-->\n<-x>\n"
    shown = subprocess.run([bnctl_path(), "help"], capture_output=True, text=True).stdout
    assert "pull REPO" in shown and "convert SOURCE" in shown
    shown = subprocess.run([bnctl_path(), "help", "convert"], capture_output=True, text=True).stdout
    assert "bn-convert" in shown and "--socket" not in shown
    shown = subprocess.run([bnctl_path(), "pull", "--help"], capture_output=True, text=True).stdout
    assert "HF_TOKEN" in shown and "--keep-source" in shown


if __name__ == "__main__":
    if subprocess.run([bnctl_path(), "pull", "a/b"], capture_output=True, text=True, env=dict(
            os.environ, HF_ENDPOINT="http://127.0.0.1:9")).stderr.count("without libcurl"):
        print("SKIP: bnctl was built without libcurl")
        sys.exit(77)
    main(globals())
