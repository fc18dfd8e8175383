"""A server before an object store that goes wrong at request n: it is busy, drops, loses, tears or delays the answer.

Requests go through to the store as they are. Each is counted; `fault` is asked for what is to become of it.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["busy", "dropped", "lost", "torn", "late", "down"]
FAULTS: tuple[Fault, ...] = ("busy", "dropped", "lost", "torn", "late", "down")
"""Answered 503 and not done; the connection is cut before it is done; it is done and the connection cut; done, and half
of the answer sent; done, and answered too late; this one and all after it are answered 503."""
LATE_S = 8.0
_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>"
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect", "content-length"}


class FaultyS3:
    """A context with an `endpoint`; `fault(n)` says what becomes of the n-th request since `n` was set to 0."""

    def __init__(self, upstream: str) -> None:
        """Listen on a free port. `upstream` is the store's own http://host:port."""
        self.upstream = urlsplit(upstream).netloc
        self.n = 0
        self.fault: Callable[[int], Fault | None] = lambda n: None
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # an answer of two parts would wait 40 ms

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def _any(self) -> None:
                owner.serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FaultyS3:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def at(self, fault: Fault, n: int) -> None:
        """Begin to count anew, with a fault at request n."""
        self.n, self.fault = 0, lambda m: fault if m == n or (fault == "down" and m > n) else None

    def well(self) -> None:
        """Begin to count anew, without a fault."""
        self.n, self.fault = 0, lambda n: None

    def serve(self, ask: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        with self._lock:
            self.n += 1
            fault = self.fault(self.n)
        body = _body(ask)
        if fault in ("busy", "down"):
            _answer(ask, 503, [("Content-Type", "application/xml")], _SLOW_DOWN)
            return
        if fault == "dropped":
            _cut(ask)
            return
        status, headers, data = self._forward(ask, body)
        if fault == "late":
            time.sleep(LATE_S)
        if fault == "lost":
            _cut(ask)
        elif fault == "torn":
            _answer(ask, status, headers, data, share=0.5)
            _cut(ask)
        else:
            _answer(ask, status, headers, data)

    def _forward(self, ask: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        there = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {k: v for k, v in ask.headers.items() if k.lower() not in _HOP}
        there.request(ask.command, ask.path, body, {**headers, "Content-Length": str(len(body))})
        with there.getresponse() as got:
            data = got.read()
            kept = [(k, v) for k, v in got.getheaders() if k.lower() not in _HOP]
            if ask.command == "HEAD":
                kept.append(("Content-Length", got.getheader("Content-Length") or "0"))
        there.close()
        return got.status, kept, data


def _body(ask: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in (ask.headers.get("Transfer-Encoding") or ""):
        return ask.rfile.read(int(ask.headers.get("Content-Length") or 0))
    parts = []
    while size := int(ask.rfile.readline().split(b";")[0], 16):
        parts.append(ask.rfile.read(size))
        ask.rfile.readline()
    while ask.rfile.readline().strip():
        pass  # trailers
    return b"".join(parts)


def _answer(
    ask: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes, share: float = 1.0
) -> None:
    try:
        ask.send_response_only(status)
        for name, value in headers:
            ask.send_header(name, value)
        if ask.command != "HEAD":
            ask.send_header("Content-Length", str(len(data)))
        ask.end_headers()
        if ask.command != "HEAD":
            ask.wfile.write(data[: round(share * len(data))])
    except OSError:  # who asked has gone
        ask.close_connection = True


def _cut(ask: BaseHTTPRequestHandler) -> None:
    ask.close_connection = True
    try:
        ask.wfile.flush()
        ask.connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
