"""A part's file, written after each finding: a part that is killed leaves what it had found, and why it ended."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import record


@dataclass
class Result:
    """One part's file. `state` is running, finished, failed (with `error`), or stopped (from outside)."""

    file: Path
    head: dict[str, Any]
    found: dict[str, Any] = field(default_factory=dict)

    def write(self, state: str, **more: Any) -> dict[str, Any]:
        """Write all there is; the file is whole at any moment."""
        result = {**self.head, "state": state, **more, "errors": errors(self.found), "found": self.found}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".partial")
        record.write(part, result)
        part.replace(self.file)
        return result

    def add(self, name: str, figure: Any) -> None:
        """Add a finding and write."""
        self.found[name] = figure
        self.write("running")


def file_of(out: Path, date: str, head: dict[str, Any]) -> Path:
    """Return where a part's file lies: its name says all of the head but versions."""
    said = (head["preset"], *["tiny"] * head["tiny"], head["on"], head["part"])
    plain = (re.sub(r"[^a-z0-9_]+", "-", str(x).lower()) for x in said)
    return out / f"{'-'.join(['h200', date, *plain])}.json"


def set_aside(file: Path) -> None:
    """Give a file that lies in the way another name, with a number: nothing that was found is lost."""
    if file.exists():
        names = (file.with_name(f"{file.stem}.{n}.json") for n in count(1))
        file.rename(next(name for name in names if not name.exists()))


def errors(found: dict[str, Any]) -> list[str]:
    """Return the names of ways that ended in an error."""
    return [n for n, figure in found.items() if isinstance(figure, dict) and "error" in figure]


def finished(file: Path, head: dict[str, Any]) -> bool:
    """Whether a file holds a part that went to its end without an error, of the same head."""
    if not file.exists():
        return False
    old = json.loads(file.read_text(encoding="utf-8"))
    return old["state"] == "finished" and not old["errors"] and all(old.get(n) == v for n, v in head.items())


def stopped(file: Path, head: dict[str, Any], why: str) -> None:
    """Write down that a part ended from outside; what it had found stays."""
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {**head, "found": {}}
    if old.get("state") not in ("finished", "failed"):
        Result(file, {k: v for k, v in old.items() if k not in ("state", "errors", "found")}, old["found"]).write(
            "stopped", error=why
        )
