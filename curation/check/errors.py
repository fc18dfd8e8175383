"""What is told to who checks a dataset."""

from __future__ import annotations


class CheckError(ValueError):
    """Something that cannot be checked as it was asked for; the message says what to do."""
