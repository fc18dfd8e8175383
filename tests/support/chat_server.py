"""A real HTTP server that speaks the chat protocol, well and badly, from a list of answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from annotators.captions.captioner import Frame

FRAMES = [Frame(t, np.full((600, 900, 3), (200, 30, 30), np.uint8)) for t in (1.0, 4.0)]


def completion(reply: Any, finish: str = "stop") -> bytes:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}]}).encode()


class Server(ThreadingHTTPServer):
    """Plays a list of answers, one a request; keeps what it was sent."""

    daemon_threads = True
    answers: list[Callable[[BaseHTTPRequestHandler], None]]
    requests: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append({"path": self.path, "key": headers["authorization"], "body": body, "all": headers})
        self.server.answers.pop(0)(self)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def answer(body: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Send a body one byte at a time, each well within a socket's own timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    try:
        for _ in range(30):
            handler.wfile.write(b" ")
            time.sleep(0.1)
    except OSError:
        return


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise a long body and close after a few bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"cho')


@contextmanager
def serving(*answers: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.answers, server.requests = list(answers), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
