"""What a check leaves: findings and clips as Parquet, all of it as JSON, and a page for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from curation.check.findings import Checked, Finding, as_table
from curation.check.limits import Limits
from curation.check.rules import FINDINGS as KINDS

FINDINGS, CLIPS, JSON = "findings.parquet", "clips.parquet", "check.json"


@dataclass(frozen=True, slots=True)
class Field:
    """Where a declared value was found, and in how many clips."""

    field: str
    column: str
    clips: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The account of a check, and its findings by kind."""

    found: int
    checked: int
    unreadable: int
    without_finding: int
    findings: dict[str, int]
    clips_by_finding: dict[str, int]
    declared: list[Field]
    skipped_files: dict[str, int]


def summary(checked: Checked, columns: Mapping[tuple[str, str], int], skipped: Mapping[str, int]) -> Summary:
    """Count what a check came to.

    Args:
        checked: what it came to.
        columns: how often each declared field was found, by (field, column).
        skipped: files that are no clips, by suffix.
    """
    clips: dict[str, set[str]] = {}
    for f in checked.findings:
        clips.setdefault(f.finding, set()).add(f.clip)
    with_findings: set[str] = set().union(*clips.values()) if clips else set()
    return Summary(
        found=checked.found,
        checked=checked.checked,
        unreadable=checked.unreadable,
        without_finding=checked.found - len(with_findings),
        findings=dict(Counter(f.finding for f in checked.findings)),
        clips_by_finding={finding: len(clips[finding]) for finding in KINDS if finding in clips},
        declared=[Field(field, column, n) for (field, column), n in sorted(columns.items())],
        skipped_files=dict(skipped),
    )


def as_json(checked: Checked, told: Summary, limits: Limits) -> str:
    """Return everything as one JSON document."""
    whole = {
        "summary": asdict(told),
        "limits": {
            name: {"value": value, "why": Limits.model_fields[name].description}
            for name, value in limits.model_dump().items()
        },
        "findings": [asdict(f) for f in checked.findings],
        "clips": checked.measured.to_pylist(),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def write(folder: Path, checked: Checked, text: str) -> None:
    """Write the tables and the JSON document into a folder."""
    pq.write_table(as_table(Finding, checked.findings), folder / FINDINGS)
    pq.write_table(checked.measured, folder / CLIPS)
    (folder / JSON).write_text(text, encoding="utf-8")
