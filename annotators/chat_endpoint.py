"""A chat completion behind an OpenAI-compatible HTTP endpoint (vLLM and others), with bounded time and plain outcomes.

Standard library only. Pictures of people leave the machine here, so redirects are refused and the address is the one
that was configured. One attempt reads at most one megabyte; a body that drips ends it at twice its time at the latest.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Literal
from urllib.parse import urlsplit

Outcome = Literal[
    "ok", "timeout", "connection", "rejected", "overloaded", "server_error", "malformed", "truncated", "invalid"
]
"""`rejected`: the server refuses the request itself (4xx), so trying again is useless; `overloaded`: 408, 425 or 429;
`malformed`: no chat completion or no JSON in it; `truncated`: the reply hit the token limit; `invalid`: JSON that does
not fit the schema."""

RETRYABLE: frozenset[Outcome] = frozenset(
    {"timeout", "connection", "overloaded", "server_error", "malformed", "truncated", "invalid"}
)
_MAX_REPLY_BYTES = 1_000_000
_CHUNK_BYTES = 16_384


class ChatError(Exception):
    """An attempt that brought no usable reply; `outcome` is its code."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class ChatEndpoint:
    """Where to send a chat: `base_url` such as `http://host:8000/v1`, and a key where the server wants one."""

    base_url: str
    api_key: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint {self.base_url!r}: expected an address such as http://host:8000/v1")

    def complete(self, body: dict[str, Any], timeout_s: float) -> str:
        """Return the text of the first choice of one chat completion.

        Raises ChatError with the outcome code when there is none within `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url = self.base_url.rstrip("/") + "/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=timeout_s) as response:
                raw = _read(response, deadline)
        except urllib.error.HTTPError as e:
            with e:
                detail = e.read(300).decode(errors="replace")
            raise ChatError(_http_outcome(e.code), f"HTTP {e.code} from {url}: {detail}") from e
        except TimeoutError as e:
            raise ChatError("timeout", f"no answer from {url} within {timeout_s:.0f} s") from e
        except urllib.error.URLError as e:
            if isinstance(e.reason, TimeoutError):
                raise ChatError("timeout", f"no answer from {url} within {timeout_s:.0f} s") from e
            raise ChatError("connection", f"cannot reach {url}: {e.reason}; is the server running?") from e
        except (HTTPException, OSError) as e:
            raise ChatError("connection", f"the connection to {url} broke: {e!r}") from e
        return _content(raw)


def _read(response: Any, deadline: float) -> bytes:
    """Read a body up to the size limit; `read1` returns what has arrived, so the deadline is seen in between."""
    chunks: list[bytes] = []
    size = 0
    while chunk := response.read1(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_REPLY_BYTES:
            raise ChatError("malformed", f"the reply is larger than {_MAX_REPLY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:  # what is left of the promised length; `read1` itself does not complain
        raise ChatError("connection", f"the reply broke off {response.length} bytes before its end")
    return b"".join(chunks)


def _http_outcome(status: int) -> Outcome:
    if status in (408, 425, 429):
        return "overloaded"
    return "server_error" if status >= 500 else "rejected"


def _content(raw: bytes) -> str:
    try:
        choice = json.loads(raw)["choices"][0]
        content, finish = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        raise ChatError("malformed", f"not a chat completion: {raw[:200]!r}") from e
    if finish == "length":
        raise ChatError("truncated", "the reply hit the token limit: raise max_tokens")
    if not isinstance(content, str):
        raise ChatError("malformed", f"the completion holds no text: {raw[:200]!r}")
    return content
