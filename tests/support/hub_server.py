"""A model hub on this machine's loopback: one gated repository, as huggingface_hub asks for it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def gated_hub(repository: str, files: Mapping[str, bytes], token: str) -> Iterator[str]:
    """Yield the address of a hub that shows a repository's files to whoever sends the token, and 403 to others."""

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if self.headers.get("Authorization") != f"Bearer {token}":
                self.answer(403, b"gated", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask for access"})
            elif path.startswith(f"/api/models/{repository}/tree/"):
                tree = [
                    {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                    for n, b in files.items()
                ]
                self.answer(200, json.dumps(tree).encode())
            elif path.startswith(f"/api/models/{repository}"):
                facts = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": [], "tags": []}
                self.answer(200, json.dumps(facts).encode())
            elif path.startswith(f"/{repository}/resolve/") and (name := path.split("/", 5)[5]) in files:
                etag = {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"', "X-Repo-Commit": COMMIT}
                self.answer(200, files[name], etag)
            else:
                self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

        def answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Length": str(len(body)),
                "Content-Type": "application/json",
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
