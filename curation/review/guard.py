"""Who may ask: the machine itself, or who has the token; never a page of somebody else's.

On a loopback address only the machine's own names are answered (a foreign name that was made to point here is refused),
and what changes something must be JSON from the review's own page, which a foreign page cannot send. Beyond loopback a
token is needed as well: once in the address, then in a cookie of this host.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, Unauthorized
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

HOME = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Say whether a name or address to listen on is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one server."""

    host: str
    token: str | None

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f"listening on {self.host} needs a token")

    def stop(self, request: Request) -> Response | None:
        """Return the redirect that takes a token out of the address, or None.

        Raises:
            HTTPException: the request is refused; the description says why.
        """
        if is_loopback(self.host) and _name(request) not in {*HOME, self.host.strip("[]")}:
            raise BadRequest("this review answers to this machine's own names only; open it at http://127.0.0.1")
        if request.method not in ("GET", "HEAD"):
            self._own_page(request)
        if self.token is None:
            return None
        given = request.args.get("token")
        if given is not None and self._fits(given):
            answer = redirect(request.path, 303)
            answer.set_cookie(self._cookie(request), self.token, httponly=True, samesite="Strict", path="/")
            return answer
        if not self._fits(request.cookies.get(self._cookie(request), "")):
            raise Unauthorized("this review asks for a token: open it by the address that `lpm review` printed")
        return None

    def _own_page(self, request: Request) -> None:
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            raise Forbidden("only the review's own page may change something")
        if request.mimetype != "application/json":
            raise BadRequest("what changes something is sent as JSON")

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())

    @staticmethod
    def _cookie(request: Request) -> str:
        return f"lpm-review-{(request.headers.get('Host') or '').rpartition(':')[2]}"


def _name(request: Request) -> str | None:
    """Return the name that the browser asked for, without its port; None where it is none."""
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname
    except ValueError:
        return None


def with_headers(answer: Response | HTTPException) -> Response:
    """Return an answer with the headers that keep a page from doing what is not in it."""
    response = (
        answer if isinstance(answer, Response) else Response(answer.description, answer.code, mimetype="text/plain")
    )
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response
