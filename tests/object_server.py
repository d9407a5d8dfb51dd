"""A small S3-like server on loopback whose faults are chosen by the test: enough of the protocol for one bucket."""

import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class ObjectServer(ThreadingHTTPServer):
    """Objects by path. ``faults`` is called with (method, path, count of requests so far) and returns None or one of:

    a status code; "stall" (headers never come), "stall body" (half of it), "cut" (half of it, then closed), "short"
    (a range that is shorter than asked), "longer" (claims a longer object), "wrong" (other bytes of the same length).
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.asked, self.ended = {}, [], threading.Event()
        self.faults = lambda method, path, count: None

    def handle_error(self, request, client_address):
        """A client that went away is what some tests want."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fault(self, path):
        self.server.asked.append((self.command, path))
        found = self.server.faults(self.command, path, len(self.server.asked))
        if found == "stall":
            self.server.ended.wait(30)
            self.close_connection = True
        elif isinstance(found, int):
            self.send(found, b"<Error><Code>Injected</Code></Error>")
        else:
            return found
        return "done"

    def do_GET(self):
        split = urlsplit(self.path)
        path = unquote(split.path).lstrip("/").partition("/")[2]
        query = parse_qs(split.query)
        fault = self.fault(path)
        if fault == "done":
            return
        if "list-type" in query:
            self.list(query.get("prefix", [""])[0])
        elif path not in self.server.objects:
            self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self.content(self.server.objects[path], fault)

    do_HEAD = do_GET  # noqa: N815

    def content(self, body, fault):
        total = len(body) + (fault == "longer")
        facts = {"ETag": f'"{md5(body).hexdigest()}"', "Last-Modified": formatdate(time.time(), usegmt=True)}
        if self.command == "HEAD":
            self.send_response(200)
            for key, value in {**facts, "Content-Length": total}.items():
                self.send_header(key, str(value))
            self.end_headers()
            return
        start, end, status = 0, len(body), 200
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            start, end, status = int(first), min(len(body), int(last) + 1), 206
            end -= fault == "short"
            facts["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        part = bytes(len(body)) if fault == "wrong" else body
        part = part[start:end]
        self.send_response(status)
        for key, value in {**facts, "Content-Length": len(part)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if fault in ("cut", "stall body"):
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            if fault == "stall body":
                self.server.ended.wait(30)
            self.close_connection = True
            return
        self.wfile.write(part)

    def list(self, prefix):
        found = sorted(
            {prefix + path[len(prefix) :].partition("/")[0] for path in self.server.objects if path.startswith(prefix)}
        )
        groups = "".join(f"<CommonPrefixes><Prefix>{name}/</Prefix></CommonPrefixes>" for name in found)
        text = f'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>{groups}</ListBucketResult>'
        self.send(200, text.encode(), Content_Type="application/xml")

    def do_PUT(self):
        path = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.fault(path) == "done":
            return
        if self.headers.get("If-None-Match") == "*" and path in self.server.objects:
            self.send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        self.server.objects[path] = body
        self.send(200, ETag=f'"{md5(body).hexdigest()}"')


@contextmanager
def object_server():
    """A running server; ``url`` names its bucket, ``environment`` is what reaches it."""
    server = ObjectServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = "s3://bucket/some/prefix"
    server.environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_REGION": "us-east-1",
    }
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
