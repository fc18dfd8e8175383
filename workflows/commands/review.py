"""`lpm review`: the review server over a dataset, until it is stopped."""

from __future__ import annotations

from rich.console import Console


def review(out: Console, target: str, host: str, port: int, token: str | None, author: str | None) -> None:
    """Serve the review of a dataset until it is stopped."""
    raise NotImplementedError
