"""`lpm review`: serve the review of a dataset to a browser, until it is stopped."""

from __future__ import annotations

import contextlib
import getpass
import secrets

from rich.console import Console

from curation.dataset import Dataset
from curation.report.status import policy_in_force
from workflows import catalog
from workflows.usage import UsageError


def review(out: Console, target: str, host: str, port: int, token: str | None, author: str | None) -> None:
    """Serve the review; beyond loopback a token is asked for, and made where none is given."""
    from curation.review.guard import Guard, is_loopback  # needs a server library, which only this command does
    from curation.review.server import ServeError, serving

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    if token is not None and len(token) < 16:
        raise UsageError("a token that guards a dataset has 16 characters or more")
    try:
        opened = Dataset(target)
        with serving(opened, Guard(host, token), port, author or login(), _policy_text(opened)) as found:
            out.print(f"review of {target}: {found.url}", markup=False, highlight=False)
            out.print("verdicts go into the table `audits`; Ctrl-C ends it", markup=False, highlight=False)
            with contextlib.suppress(KeyboardInterrupt):
                found.server.serve_forever()
    except ServeError as e:
        raise UsageError(str(e)) from e


def _policy_text(dataset: Dataset) -> str | None:
    """Return the text of the built-in policy that decided a dataset; None where another one did."""
    policy = policy_in_force(dataset)
    return None if policy is None else catalog.text_of(policy)


def login() -> str:
    """Return the name that one is logged in under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without user names
        return "unknown"
