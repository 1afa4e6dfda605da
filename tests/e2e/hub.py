"""A hub on 127.0.0.1 that behaves like the real one: an interface, files, and a second host for the
large ones, with redirects, entity tags and ranges - and that misbehaves exactly as told."""

import hashlib
import http.server
import json
import socket
import struct
import threading
import time

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Act:
    """What happens to one request for a file's bytes. The default is to serve it."""

    def __init__(self, cut=None, reset=False, status=None, headers=None, flip=None, ignore_range=False,
                 stall=None, drip=False, hold=None, during=None, location=None, length=True, lie=None):
        self.cut = cut                    # end the connection after so many bytes of the body
        self.reset = reset                # ... with RST
        self.status = status              # answer with this status and no file
        self.headers = headers or {}
        self.flip = flip                  # position of a byte that is wrong
        self.ignore_range = ignore_range  # 200 and everything
        self.stall = stall                # after so many bytes ...
        self.drip = drip                  # ... one byte at a time, or
        self.hold = hold                  # ... nothing until this event
        self.during = during              # called after `stall` bytes
        self.location = location          # redirect there
        self.length = length              # send Content-Length
        self.lie = lie                    # start the range this much off


class Repo:
    def __init__(self, files, large=4096, commit=COMMIT):
        self.files = dict(files)
        self.large = large
        self.commit = commit
        self.tag = "v1"          # part of the second host's entity tags
        self.describe = None     # changes the description before it is sent
        self.revisions = ["main", commit]

    def is_large(self, path):
        return len(self.files[path]) >= self.large or path.endswith((".gguf", ".safetensors"))

    def description(self):
        siblings = []
        for path, data in self.files.items():
            entry = {"rfilename": path, "size": len(data), "blobId": blob_id(data)}
            if self.is_large(path):
                entry["blobId"] = blob_id(b"pointer of " + path.encode())
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                                "pointerSize": 134}
            siblings.append(entry)
        return {"_id": "1", "sha": self.commit, "gated": False, "siblings": siblings}


def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        hub = self.server.hub
        with hub.lock:
            hub.log.append((self.server.name, self.path, dict(self.headers)))
        try:
            if self.server.name == "hub":
                self.hub_request(hub)
            else:
                self.file(hub, hub.cdn_paths[self.path])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def hub_request(self, hub):
        refusal = hub.refusals.pop(0) if hub.refusals else None
        if refusal:
            self.answer(refusal.status, b'{"error":"no"}', **refusal.headers)
            return
        words = self.path.split("?")[0].strip("/").split("/")
        if words[:2] == ["api", "models"]:
            repo = hub.repos.get("/".join(words[2:4]))
            if repo is None:
                self.answer(404, X_Error_Code="RepoNotFound")
            elif words[5].replace("%2F", "/") not in repo.revisions:
                self.answer(404, X_Error_Code="RevisionNotFound")
            else:
                text = repo.description()
                text = repo.describe(text) if repo.describe else text
                body = text if isinstance(text, bytes) else json.dumps(text).encode()
                self.answer(200, body, Content_Type="application/json")
            return
        repo = hub.repos["/".join(words[:2])]
        path = "/".join(words[4:]).replace("%20", " ")
        assert words[2] == "resolve" and words[3] == repo.commit, self.path
        if not repo.is_large(path):
            self.file(hub, (repo, path))
            return
        away = "/blob/%s/%s" % (repo.commit, path.replace("/", "_"))
        hub.cdn_paths[away] = (repo, path)
        location = hub.cdn_url + away
        if hub.redirects:
            location = hub.redirects.pop(0)
        self.answer(302, b"see there", Location=location, Accept_Ranges="bytes",
                    X_Linked_Etag='"%s"' % hashlib.sha256(repo.files[path]).hexdigest(),
                    X_Linked_Size=str(len(repo.files[path])),
                    ETag='"of-the-redirect"')

    def file(self, hub, where):
        repo, path = where
        data = repo.files[path]
        large = repo.is_large(path)
        with hub.lock:
            act = hub.acts.pop(0) if large and hub.acts else Act()
        tag = '"%s-%s"' % (repo.tag, hashlib.md5(data).hexdigest()) if large else '"%s"' % blob_id(data)
        if act.status:
            self.answer(act.status, b"<html>no</html>", **act.headers)
            return
        begin, status = 0, 200
        wanted = self.headers.get("Range")
        if wanted and not act.ignore_range and self.headers.get("If-Range", tag) == tag:
            begin, status = int(wanted[len("bytes="):-1]), 206
            if begin >= len(data):
                self.answer(416, Content_Range="bytes */%d" % len(data))
                return
        if act.flip is not None:
            data = data[:act.flip] + bytes([data[act.flip] ^ 1]) + data[act.flip + 1:]
        self.send_response(status)
        self.send_header("ETag", tag)
        if act.length:
            self.send_header("Content-Length", str(len(data) - begin))
        else:
            self.close_connection = True
        if status == 206:
            off = begin + (act.lie or 0)
            self.send_header("Content-Range", "bytes %d-%d/%d" % (off, len(data) - 1, len(data)))
        self.end_headers()
        self.body(hub, data[begin:], act)

    def body(self, hub, data, act):
        if act.cut is not None:
            self.wfile.write(data[:act.cut])
            self.wfile.flush()
            if act.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                           struct.pack("ii", 1, 0))
            else:
                self.connection.shutdown(socket.SHUT_WR)
            self.close_connection = True
            return
        if act.stall is None:
            self.wfile.write(data)
            return
        self.wfile.write(data[:act.stall])
        self.wfile.flush()
        if act.during:
            act.during()
        if act.hold:
            act.hold.wait(60)
        at = act.stall
        while act.drip and at < len(data) and not hub.closing:
            self.wfile.write(data[at:at + 1])
            self.wfile.flush()
            at += 1
            time.sleep(0.2)
        self.wfile.write(data[at:])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


class Hub:
    """Use it as a context manager. `acts` are used up by requests for large files, `refusals` by
    any request to the hub, `redirects` by redirects."""

    def __init__(self, repos, tls=None):
        self.repos = repos
        self.log, self.acts, self.refusals, self.redirects = [], [], [], []
        self.cdn_paths = {}
        self.lock = threading.Lock()
        self.closing = False
        self.servers = []
        for name in ("hub", "cdn"):
            server = Server(("127.0.0.1", 0), Handler)
            server.hub, server.name = self, name
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01},
                             daemon=True).start()
            self.servers.append(server)
        scheme = "https" if tls else "http"
        self.url, self.cdn_url = ["%s://127.0.0.1:%d" % (scheme, s.server_port) for s in self.servers]

    def requests(self, server=None):
        with self.lock:
            return [entry for entry in self.log if server in (None, entry[0])]

    def files_asked(self):
        return [path for _, path, _ in self.requests("hub") if "/resolve/" in path]

    def forget(self):
        with self.lock:
            self.log.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closing = True
        for server in self.servers:
            server.shutdown()
            server.server_close()
