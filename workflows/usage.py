"""The error of a command whose arguments make no sense. Every family of commands raises it; `lpm` prints it."""

from __future__ import annotations


class UsageError(ValueError):
    """An argument that makes no sense; the message says what does."""
