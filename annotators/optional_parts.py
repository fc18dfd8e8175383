"""What is said when a part that is not installed by default is asked for. Costs nothing: one exception."""

from __future__ import annotations


class PartNotInstalledError(ImportError):
    """A part that was asked for is not installed, or cannot be loaded; the message says what to do."""
