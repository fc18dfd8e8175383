"""What a stage's results are of: fingerprints of all that went into them, and whether a commit's still hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from curation.engine.source_state import SourceState, within
from curation.engine.stage_call import StageSetupError
from curation.engine.workflow import Pipeline, ResolvedStage
from curation.stage import WorkItem
from curation.storage.commits import Commit, fingerprint, unit_fingerprint
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.time import Interval
from schemas.units import UNITS


class Fingerprints(SourceState):
    """Tells what a stage's results on an item are made from; a stage's own part of it is asked once."""

    def __init__(self, store: Store, pipeline: Pipeline, policy: Policy) -> None:
        super().__init__(store, pipeline, policy)
        self._identities: dict[str, dict[str, str]] = {}
        self._same: dict[str, dict[str, Any]] = {}

    def provenance(self, resolved: ResolvedStage) -> dict[str, str]:
        """Return the stage's back-ends and weights' hashes."""
        if resolved.name not in self._identities:
            try:
                self._identities[resolved.name] = resolved.provenance()
            except Exception as e:
                raise StageSetupError(f"stage {resolved.name!r} cannot start: {type(e).__name__}: {e}") from e
        return self._identities[resolved.name]

    def fingerprint_of(self, resolved: ResolvedStage, item: WorkItem, exclude: str | None = None) -> str:
        """Hash what a stage's results on an item are made from, but for a table named `exclude`."""
        cls = resolved.cls
        each = cls.gate_mode == "each"  # then what people said counts for the units that it touches
        upstream = {}
        for table in cls.reads:
            if table.name == exclude or table is t.INPUTS or (each and table in t.LABEL_TABLES):
                continue
            found = self.content(table, item)
            if found or table not in t.LABEL_TABLES:  # where nobody said anything, it is as if nobody were asked
                upstream[table.name] = found
        window = None if item.window is None else (item.window.start_s, item.window.end_s, item.n_windows)
        return fingerprint(
            source=item.source_id,
            **self._constants(resolved),
            window=window if cls.grain == "window" else None,
            units=item.units if cls.gate_mode == "together" else None,
            upstream=upstream,
        )

    def _constants(self, resolved: ResolvedStage) -> dict[str, Any]:
        """Return what is the same in all of a stage's fingerprints."""
        if resolved.name not in self._same:
            cls = resolved.cls
            self._same[resolved.name] = {
                "stage": cls.name, "version": cls.version, "settings": resolved.settings.measured(),
                "identity": self.provenance(resolved),
            }  # fmt: skip
        return self._same[resolved.name]

    def fresh(self, resolved: ResolvedStage, item: WorkItem, commit: Commit) -> bool:
        """Say whether all that a commit holds was made from what is there now; the policy has no part in it."""
        cls = resolved.cls
        if cls.gate is None or cls.gate_mode == "once":
            return commit.fingerprint == self.fingerprint_of(resolved, item)
        try:
            digests = self.unit_digests(resolved, item.source_id)
        except FileNotFoundError:
            return False
        if cls.gate_mode == "together":
            item = replace(item, units=tuple(sorted(commit.units)))
            same = commit.fingerprint == self.fingerprint_of(resolved, item)
            return same and commit.units.keys() <= digests.keys()
        base = self.fingerprint_of(resolved, item, exclude=cls.gate)
        return all(u in digests and k == unit_fingerprint(base, digests[u]) for u, k in commit.units.items())

    def stopped_by_old(
        self, resolved: ResolvedStage, item: WorkItem, commit: Commit, units: Collection[str]
    ) -> set[str]:
        """Return the units, besides those alive, that only old results stop: this stage's, or those of stages after it.

        What they were measured from is not what is there now. Their rows go when the stage runs again, and with them
        what stops them, so that they are measured again as the others are.
        """
        cls = resolved.cls
        assert cls.gate is not None
        stopped = commit.units.keys() - set(units)
        if not stopped:
            return set()
        digests = self.unit_digests(resolved, item.source_id)
        base = self.fingerprint_of(resolved, item, exclude=cls.gate)
        whole = self.intact(commit)
        old = {
            u for u in stopped if u in digests and not (whole and commit.units[u] == unit_fingerprint(base, digests[u]))
        }
        if not old:
            return set()
        order = [s.name for s in self.pipeline.stages]
        later = self.pipeline.stages[order.index(resolved.name) :]
        return old & self.alive_without({x for s in later for x in s.cls.writes}, item.source_id, cls.gate)

    def unit_digests(self, resolved: ResolvedStage, source_id: str) -> dict[str, str]:
        """Hash every row of a stage's units, with what people said of its time, by id; once while `remembering`."""
        gate = resolved.cls.gate
        assert gate is not None
        memo = {} if self._memo is None else self._memo
        asked = [x for x in resolved.cls.reads if x in t.LABEL_TABLES and resolved.cls.gate_mode == "each"]
        key = ("digests", gate, source_id, *(x.name for x in asked))
        if key not in memo:
            table = t.TABLES[gate]
            rows = self.store.read_table(table_file(table, source_id), table).to_pylist()
            said = {x.name: self.said(x, source_id) for x in asked}
            memo[key] = {str(r[UNITS[gate].id]): _digest(r, said) for r in rows}
        found: dict[str, str] = memo[key]
        return found


def _digest(row: dict[str, Any], said: Mapping[str, list[dict[str, Any]]]) -> str:
    """Hash a unit's row and what people said of its time."""
    if not any(said.values()):
        return fingerprint(row=row)
    span = Interval(row["start_s"], row["end_s"])
    heard = {name: mine for name, rows in said.items() if (mine := within(rows, span))}
    return fingerprint(row=row, said=heard) if heard else fingerprint(row=row)
