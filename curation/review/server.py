"""Listen for the review's page: threads of one process, on loopback unless told otherwise."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from curation.dataset import Dataset
from curation.review.app import Review
from curation.review.guard import Guard


class ServeError(ValueError):
    """An address that cannot be listened on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens, and its address for the browser, with the token where one is asked for."""

    server: BaseWSGIServer
    url: str


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing of requests: an address may hold a token, and the terminal is not read."""


@contextlib.contextmanager
def serving(
    dataset: Dataset, guard: Guard, port: int, author: str, policy_text: str | None = None
) -> Iterator[Serving]:
    """Listen, and give the server, which answers once it is told to.

    Raises:
        ServeError: the address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in guard.host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((guard.host.strip("[]"), port))
        except OSError as e:
            raise ServeError(f"cannot listen on {guard.host} port {port}: {e.strerror}; choose another --port") from e
        listening.listen(64)
        port = int(listening.getsockname()[1])
        review = Review(dataset, guard, author, policy_text)
        server = make_server(
            guard.host.strip("[]"), port, review, threaded=True, request_handler=_Quiet, fd=listening.fileno()
        )
        name = f"[{guard.host.strip('[]')}]" if family == socket.AF_INET6 else guard.host
        asked = f"?token={guard.token}" if guard.token else ""
        try:
            yield Serving(server, f"http://{name}:{port}/{asked}")
        finally:
            server.server_close()
            review.close()
