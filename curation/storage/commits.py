"""Commits: the small JSON records that make a stage's output on one item official, and what reruns compare with.

A commit is written after its tables, so a killed run leaves either a whole commit or none. Its fingerprint covers
the source, the stage's name, version, settings and weights, and the content hashes of the tables it read: an equal
fingerprint means that nothing can have changed, and the work is skipped. No clock times: equal work, equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypedDict

from curation.stage import UnitError, WorkItem
from curation.storage.checked import KEY, json_bytes, with_hash
from curation.storage.store import DAMAGED, Store, StoreError


class Attempts(TypedDict):
    """Attempts at a step that have led to no commit so far, oldest first."""

    key: str
    """what the step was to be: its fingerprint, of which a commit would have told"""
    runs: list[str]
    ended: list[str]
    """how each ended; "" = under way, or ended with its worker or run"""


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
    status: Literal["ok", "error", "begun"] = "ok"
    """begun: there is none yet, but for `attempts`"""
    window: int | None = None
    tables: dict[str, TableFile] = field(default_factory=dict)
    """by table"""
    files: dict[str, str] = field(default_factory=dict)
    """binary file -> SHA-256"""
    units: dict[str, str] = field(default_factory=dict)
    """unit id -> its own fingerprint (gate mode "each") or "" (gate mode "together")"""
    errors: list[UnitError] = field(default_factory=list)
    attempts: Attempts | None = None
    """at a step that is to replace it; written before each"""


def commit_file(stage: str, item: WorkItem, windowed: bool) -> str:
    """Return the relative name of the commit of `stage` on `item`."""
    if not item.source_id:
        return f"commits/{stage}/dataset.json"
    tail = f".w{item.window_index:04d}" if windowed else ""
    return f"commits/{stage}/bucket={item.source_id[:2]}/{item.source_id}{tail}.json"


def read_record(store: Store, name: str) -> Commit | None:
    """Read a commit with the attempts to replace it, or the attempts alone; None where there is neither.

    Raises StoreError for a damaged one.
    """
    data = store.read_json(name)
    if data is None:
        return None
    try:
        fields = {key: value for key, value in data.items() if key != KEY}
        return Commit(**{**fields, "errors": [UnitError(**e) for e in data["errors"]]})
    except (AttributeError, KeyError, TypeError) as e:
        raise StoreError(f"{name} of {store.uri} is no commit; {DAMAGED}") from e


def read_commit(store: Store, name: str) -> Commit | None:
    """Read a commit, or None when there is none."""
    return official(read_record(store, name))


def official(record: Commit | None) -> Commit | None:
    """Return a record that is a commit, else None."""
    return None if record is None or record.status == "begun" else record


def write_commit(store: Store, name: str, commit: Commit) -> None:
    """Make a stage's output official, or put down that it is being attempted.

    A commit replaces the attempt that was put down, and nothing else: an object store refuses one that comes after
    another command has been at work on the same. Raises StoreError then.
    """
    store.replace(name, json_bytes(with_hash(_facts(commit))), last=commit.attempts is None)


def commit_hash(commit: Commit) -> str:
    """Return the hash that a commit says of itself, whether or not another attempt has been begun since."""
    return str(with_hash(_facts(replace(commit, attempts=None)))[KEY])


def _facts(commit: Commit) -> dict[str, Any]:
    facts = asdict(commit)
    if commit.attempts is None:
        del facts["attempts"]
    return facts


def fingerprint(**parts: Any) -> str:
    """Hash named parts to 32 hex digits; the parts' order does not matter."""
    return _hashed(_TEXT.encode(parts))


def unit_fingerprint(base: str, unit: str) -> str:
    """Return `fingerprint(base=base, unit=unit)` of two hashes: every unit of a source takes one a stage."""
    return _hashed(f'{{"base":"{base}","unit":"{unit}"}}')


_TEXT = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
