"""Commits: the small JSON records that make a stage's output on one item official, and what reruns compare with.

A commit is written after its tables, so a killed run leaves either a whole commit or none. Its fingerprint covers
the source, the stage's name, version, settings and weights, and the content hashes of the tables it read: an equal
fingerprint means that nothing can have changed, and the work is skipped. No clock times: equal work, equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypedDict

from curation.stage import UnitError, WorkItem
from curation.storage.store import Store


class TableFile(TypedDict):
    """A table's file as a stage wrote it."""

    file: str
    sha256: str
    rows: int


@dataclass(slots=True)
class Commit:
    """What one stage did on one item."""

    stage: str
    source_id: str
    fingerprint: str
    status: Literal["ok", "error"] = "ok"
    window: int | None = None
    tables: dict[str, TableFile] = field(default_factory=dict)
    """by table"""
    files: dict[str, str] = field(default_factory=dict)
    """binary file -> SHA-256"""
    units: dict[str, str] = field(default_factory=dict)
    """unit id -> its own fingerprint (gate mode "each") or "" (gate mode "together")"""
    errors: list[UnitError] = field(default_factory=list)


def commit_file(stage: str, item: WorkItem, windowed: bool) -> str:
    """Return the relative name of the commit of `stage` on `item`."""
    if not item.source_id:
        return f"commits/{stage}/dataset.json"
    tail = f".w{item.window_index:04d}" if windowed else ""
    return f"commits/{stage}/bucket={item.source_id[:2]}/{item.source_id}{tail}.json"


def read_commit(store: Store, name: str) -> Commit | None:
    """Read a commit, or None when there is none."""
    data = store.read_json(name)
    return None if data is None else Commit(**{**data, "errors": [UnitError(**e) for e in data["errors"]]})


def write_commit(store: Store, name: str, commit: Commit) -> None:
    """Make a stage's output official."""
    store.write_json(name, asdict(commit))


def fingerprint(**parts: Any) -> str:
    """Hash named parts to 32 hex digits; the parts' order does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
