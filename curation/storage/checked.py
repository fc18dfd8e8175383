"""JSON files that say their own hash, so that one that was damaged is told from one that was written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

KEY = "sha256"


def json_bytes(value: Any, *, sort: bool = True) -> bytes:
    """Return JSON as the store writes it: equal values give equal bytes."""
    return (json.dumps(value, sort_keys=sort, indent=1) + "\n").encode()


def with_hash(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object with the hash of all that is in it."""
    return {**value, KEY: hashlib.sha256(json_bytes(value)).hexdigest()}


def fault(data: bytes) -> str | None:
    """Say what is wrong with the bytes of such a file; None where they are as written, or say no hash."""
    try:
        value = json.loads(data)
    except ValueError:
        return "is not JSON"
    if not isinstance(value, dict):
        return "is not a JSON object"
    if json_bytes(value) != data:
        return "is not written as this program writes"
    own = value.pop(KEY, None)
    return None if own in (None, with_hash(value)[KEY]) else "is not what its own hash says"
