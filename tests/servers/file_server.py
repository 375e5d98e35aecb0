"""A file server on 127.0.0.1 that does what servers and networks do when they fail, and remembers who asked for what.

It answers GET and HEAD with ranges, conditions and ETags, for paths below a folder. Requests to S3 in path style look
the same (`/bucket/key`), so that every fault can be met over http and over s3: an S3 client only needs its endpoint.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

KINDS = {
    "status",  # answer with `code`, and `retry_after` seconds if given
    "cut",  # close the connection after `at` of the body, politely
    "reset",  # the same with a reset of the connection; at=None: before any header
    "stall",  # say nothing for `seconds` before the header, or with `at` in the middle of the body
    "slow",  # send the body in `pieces` with a pause of `seconds` after each
    "flip",  # turn one bit over, at `at` of the body
    "no-range",  # ignore the range: 200 and the whole file
    "wrong-range",  # 206 with bytes of another place, which Content-Range admits
    "no-length",  # no Content-Length, close the connection at the end of the body
    "html",  # 200 and a page of HTML, as the portals of hotels do
    "new-version",  # as if the file had been replaced: another ETag, bytes inverted
    "forget-condition",  # ignore If-Match
}


@dataclass
class Fault:
    """A rule: the next `times` GETs whose path matches fail like `kind`. `at` is a fraction of the body."""

    kind: str
    match: str = ""
    times: int = 1
    code: int = 500
    retry_after: float | None = None
    at: float | None = 0.5
    seconds: float = 30.0
    pieces: int = 10
    also_head: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault {self.kind!r}: expected one of {sorted(KINDS)}")


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    method: str
    path: str
    range: str | None
    status: int  # 0: no header was sent
    headers: dict[str, str] = field(repr=False, hash=False)


class FileServer(ThreadingHTTPServer):
    """Serves the files below `root` at `url`. `faults` and `latency_s` may be changed at any time.

    `versions` makes it a versioned bucket: for a path, the file of every ``versionId`` that may be asked for.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, root: Path, *, latency_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root.resolve()
        self.latency_s = latency_s
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.versions: dict[str, dict[str, Path]] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.stopping = threading.Event()
        self.most_at_once = 0
        self.connections: set[socket.socket] = set()
        self._at_once = 0
        self._lock = threading.Lock()
        self._hashes: dict[tuple[Path, int, int], str] = {}

    @contextmanager
    def running(self) -> Iterator[FileServer]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            self.shutdown()
            self.server_close()
            thread.join()
            for connection in list(self.connections):  # idle ones hold a thread each
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def url_of(self, path: str) -> str:
        """The http address of a file, given its path below the root."""
        return f"{self.url}/{quote(path)}"

    def gets(self, match: str = "") -> list[Request]:
        """The GETs so far whose path matches."""
        return [request for request in self.log if request.method == "GET" and re.search(match, request.path)]

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, path) and (method == "GET" or fault.also_head):
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def etag_of(self, path: Path) -> str:
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = hashlib.md5(path.read_bytes()).hexdigest()
        return f'"{self._hashes[key]}"'

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # the header and a small body leave together

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError):  # the client is gone
            super().finish()

    def log_message(self, *args: object) -> None:
        """The log of the server is a list."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        with self.server.counted():
            self._answer()
            self.wfile.flush()

    def _answer(self) -> None:
        server = self.server
        parts = urlsplit(self.path)
        path = unquote(parts.path).lstrip("/")
        fault = server.take_fault(self.command, path) or Fault("slow", pieces=1, seconds=0)
        server.stopping.wait(server.latency_s)
        if fault.kind == "stall" and fault.at is None:
            server.stopping.wait(fault.seconds)
        if fault.kind == "reset" and fault.at is None:
            self._log(path, 0)
            return self._reset()
        if fault.kind == "status":
            after = [] if fault.retry_after is None else [("Retry-After", f"{fault.retry_after:g}")]
            return self._page(path, fault.code, b"<html>injected</html>", after)
        file = (server.root / path).resolve()
        if version := parse_qs(parts.query).get("versionId"):
            file = server.versions.get(path, {}).get(version[0], server.root)
        if not file.is_relative_to(server.root) or not file.is_file():
            return self._page(path, 404, b"<html>not found</html>")
        if fault.kind == "html":
            return self._page(path, 200, b"<html>Welcome! Please log in to the network.</html>")
        return self._file(path, file, fault)

    def _file(self, path: str, file: Path, fault: Fault) -> None:
        size, etag = file.stat().st_size, self.server.etag_of(file)
        if fault.kind == "new-version":
            etag = f'"{etag[-2:0:-1]}"'
        if self.headers.get("If-Match", etag) not in (etag, "*") and fault.kind != "forget-condition":
            return self._page(path, 412, b"")
        if self.headers.get("If-Range", etag) != etag:
            del self.headers["Range"]
        span = None if fault.kind == "no-range" else _span(self.headers.get("Range"), size)
        if span == ():
            return self._page(path, 416, b"", [("Content-Range", f"bytes */{size}")])
        start, stop = span or (0, size)
        if fault.kind == "wrong-range":
            start, stop = (start + 1, stop + 1) if stop < size else (start - 1, stop - 1)
        headers = [("ETag", etag), ("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))]
        headers += [("Content-Type", "application/octet-stream"), ("Accept-Ranges", "bytes")]
        if span:
            headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{size}"))
        headers.append(("Connection", "close") if fault.kind == "no-length" else ("Content-Length", str(stop - start)))
        self._head(path, 206 if span else 200, headers)
        if self.command == "GET":
            with file.open("rb") as opened:
                opened.seek(start)
                body = opened.read(stop - start)
            self._body(bytes(byte ^ 0xFF for byte in body) if fault.kind == "new-version" else body, fault)
        return None

    def _body(self, body: bytes, fault: Fault) -> None:
        cut = len(body) if fault.at is None else int(len(body) * fault.at)
        if fault.kind == "flip":
            body = body[:cut] + bytes([body[cut] ^ 0x10]) + body[cut + 1 :]
        if fault.kind in ("cut", "reset", "stall"):
            self.wfile.write(body[:cut])
            self.wfile.flush()
            if fault.kind == "stall":
                self.server.stopping.wait(fault.seconds)
            return self._reset() if fault.kind == "reset" else self._close()
        step = max(1, -(-len(body) // fault.pieces)) if fault.kind == "slow" else max(1, len(body))
        for k in range(0, len(body), step):
            self.wfile.write(body[k : k + step])
            if fault.kind == "slow" and fault.seconds:
                self.wfile.flush()
                time.sleep(fault.seconds)
        return None

    def _page(self, path: str, code: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        plain = [("Content-Type", "text/html"), ("Content-Length", str(len(body)))]
        self._head(path, code, [*plain, *(headers or [])])
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, path: str, code: int, headers: list[tuple[str, str]]) -> None:
        self._log(path, code)
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _log(self, path: str, code: int) -> None:
        line = Request(self.command, path, self.headers.get("Range"), code, dict(self.headers.items()))
        self.server.log.append(line)

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()  # with the linger of 0 s this is a reset

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _span(header: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """First byte and the one after the last of a Range; None without one, empty if it cannot be satisfied."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or not (match[1] or match[2]):
        return None
    start = int(match[1]) if match[1] else max(0, size - int(match[2]))
    stop = min(int(match[2]) + 1, size) if match[1] and match[2] else size
    return (start, stop) if start < stop else ()
