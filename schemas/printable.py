"""Text of others as it may be shown: what a terminal or a page would obey rather than print is written out."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with control characters (ESC, line ends) and the like as their hexadecimal codes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
