"""The numbers of a dataset as it is packed, for its card and its metadata. Costs one read of the manifest."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

import duckdb

from curation.audit.precision import Precision, audit
from curation.dataset import Dataset
from curation.publish.errors import PublishError
from curation.report.status import policy_in_force
from schemas import tables as t
from schemas.settings.policy import Policy

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted and measured of a packed dataset."""

    samples: int
    hours: float
    sources: int
    people: int
    splits: Rows
    """(split, samples, hours, people), as are states"""
    states: Rows
    rights: Rows
    """(licence, consent, rights holder, sources, samples, hours), null = unknown"""
    languages: list[str]
    median_s: float
    pictures: Rows
    """(width, height, samples), the most frequent first"""
    outcomes: Rows
    """(outcome, segments, hours)"""
    rules: Rows
    """(rule, segments, reason of one), those that leave out most first"""
    limits: list[tuple[str, int]]
    """(what is lacking or doubtful, samples)"""
    precisions: list[Precision]
    """of what people judged"""
    annotators: dict[str, list[str]]
    """the back-ends and weights of each stage"""
    policy: Policy | None

    @property
    def licences(self) -> list[str]:
        """The licences of the sources, in order; "unknown" where one has none on record."""
        return sorted({str(r[0] or "unknown") for r in self.rights})


_LIMITS = {
    "no licence on record": "license IS NULL",
    "no consent on record": "consent IS NULL",
    "no reference image": "n_references = 0",
    "words unknown": "text IS NULL",
    "mean confidence of the state below 0.6": "confidence < 0.6",
    "face narrower than 96 px in the source": "median_face_px < 96",
    "speaks, lips and sound not found in step": "state IN ('speak', 'both') AND coalesce(sync_confidence, 0) <= 0",
    "music heard in it (score over 0.5)": "music > 0.5",
    "the partner is not in the dataset": "pair_status IN ('orphan', 'off_screen')",
}


def figures(dataset: Dataset) -> Figures:
    """Count a packed dataset.

    Raises:
        PublishError: nothing is packed.
    """
    policy = policy_in_force(dataset)
    with contextlib.closing(dataset.connect(tables=[t.MANIFEST, t.DECISIONS])) as con:

        def ask(sql: str) -> Rows:
            rows: Rows = con.execute(sql).fetchall()
            return rows

        by = "count(*), sum(duration_s) / 3600, count(DISTINCT identity_id) FROM manifest"
        samples, hours, people, sources, median_s = ask(
            "SELECT count(*), sum(duration_s) / 3600, count(DISTINCT identity_id), count(DISTINCT source_id), "
            "median(duration_s) FROM manifest"
        )[0]
        if not samples:
            raise PublishError("nothing is packed; `lpm run` or `lpm pack` makes the samples that are described")
        counted = ", ".join(f"count(*) FILTER ({sql})" for sql in _LIMITS.values())
        return Figures(
            samples, hours, sources, people,
            ask(f"SELECT split, {by} GROUP BY 1 ORDER BY 2 DESC, 1"),
            ask(f"SELECT state, {by} GROUP BY 1 ORDER BY 2 DESC, 1"),
            ask(
                "SELECT license, consent, rights_holder, count(DISTINCT source_id), count(*), sum(duration_s) / 3600 "
                "FROM manifest GROUP BY ALL ORDER BY 5 DESC, 1, 2, 3"
            ),
            [x for (x,) in ask("SELECT DISTINCT language FROM manifest WHERE language IS NOT NULL ORDER BY 1")],
            median_s,
            ask("SELECT width, height, count(*) FROM manifest GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 5"),
            ask(
                "SELECT outcome, count(*), sum(duration_s) / 3600 FROM decisions WHERE unit = 'segments' GROUP BY 1 "
                "ORDER BY 2 DESC, 1"
            ),
            ask(
                "SELECT rule, count(*), min(reason) FROM decisions WHERE unit = 'segments' AND outcome <> 'kept' "
                "AND rule IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
            ),
            list(zip(_LIMITS, ask(f"SELECT {counted} FROM manifest")[0], strict=True)),
            [p for p in audit(dataset, policy).precisions if p.judged],
            _annotators(con),
            policy,
        )  # fmt: skip


def _annotators(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    """Return stage -> back-ends and weights, of all samples together: a weight stands under its name with its hash."""
    out: dict[str, set[str]] = {}
    for (text,) in con.execute("SELECT DISTINCT annotators FROM manifest ORDER BY 1").fetchall():
        for stage, named in json.loads(text or "{}").items():
            names = {key if len(value) == 64 else value for key, value in named.items() if key != "version"}
            out[stage] = out.get(stage, set()) | names
    return {stage: sorted(names) for stage, names in sorted(out.items())}
