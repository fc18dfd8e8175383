"""What a store holds of a source so far: its windows, commits, decisions and the content of its tables.

Steps ask this to tell what there is to do; the ledger asks it to tell why something is missing. Reading only, but for
`prune_windows`. Costs small file reads, which `remembering` does once for many questions.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions.decide import Decision, Decisions, alive, columns_by, evaluate_kind, unit_tables
from curation.engine.workflow import Pipeline, ResolvedStage
from curation.stage import WorkItem
from curation.storage import digests
from curation.storage.commits import Commit, commit_file, fingerprint, official, read_record
from curation.storage.registry import read_registry
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.settings.policy import Policy, UnitKind
from schemas.table import Table
from schemas.tables.registry import SourceRow
from schemas.time import Interval, windows
from schemas.units import ACROSS, RIGHTS, UNITS, chain

_DECIDED = 128
"""Decisions of a source's units of a kind that are held at most, with the tables that they are of."""


def within(rows: list[dict[str, Any]], span: Interval | None) -> list[dict[str, Any]]:
    """Return the rows whose stretch touches a span of time; all of them where there is none."""
    if span is None:
        return rows
    return [r for r in rows if r["start_s"] <= span.end_s and r["end_s"] >= span.start_s]


class SourceState:
    """Answers about the sources of one store, under one pipeline and policy."""

    def __init__(self, store: Store, pipeline: Pipeline, policy: Policy) -> None:
        self.store, self.pipeline, self.policy = store, pipeline, policy
        self._memo: dict[Any, Any] | None = None
        self._decided: dict[tuple[str, UnitKind], tuple[list[object], dict[str, Decision]]] = {}
        self._batch: tuple[str, ...] = ()
        self._foreseen: dict[UnitKind, dict[str, dict[str, Decision]]] = {}

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Read each commit and decide each source once inside the block: for questions, not while work is done."""
        self._memo = {}
        try:
            yield
        finally:
            self._memo = None

    def record(self, name: str) -> Commit | None:
        """Read a commit or the attempts at one, by its file name."""
        if self._memo is None:
            return read_record(self.store, name)
        if name not in self._memo:
            self._memo[name] = read_record(self.store, name)
        found: Commit | None = self._memo[name]
        return found

    def commit(self, name: str) -> Commit | None:
        """Read a commit by its file name."""
        return official(self.record(name))

    def source_windows(self, source_id: str) -> int:
        """Return how many scan windows a probed source has; 0 when it is not probed."""
        return len(self.window_items(source_id))

    def window_items(self, source_id: str) -> list[WorkItem]:
        """Return the window items of a probed source; none when it is not probed."""
        if self._memo is not None:
            key = ("windows", source_id)
            if key not in self._memo:
                self._memo[key] = self._windows(source_id)
            found: list[WorkItem] = self._memo[key]
            return found
        return self._windows(source_id)

    def _windows(self, source_id: str) -> list[WorkItem]:
        try:
            length_s = self._length_s(source_id)
        except FileNotFoundError:
            return []
        spans = windows(length_s, self.pipeline.workflow.window_s)
        return [WorkItem(source_id, w, i, len(spans)) for i, w in enumerate(spans)]

    def _length_s(self, source_id: str) -> float:
        column = SourceRow.duration_s
        (length_s,) = column.values(self.store.read_table(table_file(t.SOURCES, source_id), t.SOURCES, [column.name]))
        return length_s

    def decisions(self, source_id: str, down_to: UnitKind = "segments") -> Decisions:
        """Decide one source from what is measured of it so far."""
        if self._memo is not None:
            key = ("decisions", source_id)
            if key not in self._memo:
                self._memo[key] = self._decide(source_id, "segments")
            found: Decisions = self._memo[key]
            return found
        return self._decide(source_id, down_to)

    @contextlib.contextmanager
    def together(self, source_ids: Sequence[str]) -> Iterator[None]:
        """Decide so many sources by one query a kind of unit, for who asks about all of them and changes nothing."""
        self._batch, self._foreseen = tuple(source_ids), {}
        try:
            yield
        finally:
            self._batch, self._foreseen = (), {}

    def alive_without(self, tables: Collection[Table], source_id: str, kind: UnitKind) -> frozenset[str]:
        """Return the units of a source that would be alive if nothing were in some tables."""
        wanted = chain(kind)
        found = {k: self._evaluate([source_id], k, tables)[0] if k in wanted else {} for k in UNITS}
        return frozenset(alive(found, kind))

    def _decide(self, source_id: str, down_to: UnitKind) -> Decisions:
        wanted = chain(down_to)
        return {kind: self._decide_kind(source_id, kind) if kind in wanted else {} for kind in UNITS}

    def _decide_kind(self, source_id: str, kind: UnitKind) -> dict[str, Decision]:
        """Decide a source's units of a kind, or return what was decided of equal tables before.

        Most steps come after one that wrote nothing which the rules on this kind look at.
        """
        if source_id in self._batch:
            if kind not in self._foreseen:
                self._foreseen[kind] = dict(zip(self._batch, self._evaluate(self._batch, kind), strict=True))
            return self._foreseen[kind][source_id]
        held = [self.store.held(table_file(table, source_id)) for table in self._asked[kind]]
        before = self._decided.get((source_id, kind))
        if before is not None and before[0] == held:
            return before[1]
        (found,) = self._evaluate([source_id], kind)
        if len(self._decided) >= _DECIDED:
            self._decided.clear()
        self._decided[source_id, kind] = held, found
        return found

    def _evaluate(
        self, source_ids: Sequence[str], kind: UnitKind, without: Collection[Table] = ()
    ) -> list[dict[str, Decision]]:
        """Return the decisions of the units of a kind of each source; ids of units are of one source alone."""
        tables = {RIGHTS.name: pa.concat_tables(self._rights_of(i) for i in source_ids)}
        for table, columns in self._asked[kind].items():
            if table in without:
                continue
            read = (self.store.read_whole(table_file(table, i), table, columns) for i in source_ids)
            if held := [rows for rows in read if rows is not None]:
                tables[table.name] = pa.concat_tables(held)
        found = evaluate_kind(self.policy, tables, kind)
        if len(source_ids) == 1:
            return [found]
        out: dict[str, dict[str, Decision]] = {i: {} for i in source_ids}
        for unit_id, decision in found.items():
            out[decision.source_id][unit_id] = decision
        return list(out.values())

    def _rights_of(self, source_id: str) -> pa.Table:
        """Return the row of a source's rights: of its first path."""
        ids = self._rights["source_id"]
        at = bisect.bisect_left(range(len(ids)), source_id, key=lambda i: str(ids[i]))
        return self._rights.slice(at, int(at < len(ids) and str(ids[at]) == source_id))

    @cached_property
    def _asked(self) -> dict[UnitKind, dict[Table, list[str]]]:
        """The tables of a source that decide its units, with the columns that do, by kind."""
        asked = {kind: columns_by(self.policy, kind).items() for kind in UNITS}
        other = {*ACROSS, RIGHTS}
        return {
            kind: {table: columns for table, columns in mine if table not in other and table.name not in self._never}
            for kind, mine in asked.items()
        }

    @cached_property
    def _rights(self) -> pa.Table:
        """The rights of every source, which no step changes, by its id; of one source in the registry's order."""
        columns = list(RIGHTS.column_names)
        rows = read_registry(self.store).select(columns)
        return rows.take(pc.sort_indices(rows, [("source_id", "ascending")])).combine_chunks()  # stable

    @cached_property
    def _never(self) -> frozenset[str]:
        """Tables of units that nobody has written and no stage writes, so that no source is asked for one."""
        foreign = [x for x in unit_tables() if x not in ACROSS and x is not RIGHTS and self.pipeline.writer(x) is None]
        return frozenset(x.name for x in foreign if not self.store.directories(f"tables/{x.name}"))

    def source_commits(self, source_id: str, before: str | None = None) -> Iterator[Commit]:
        """Yield a source's commits in the order of stages, up to the stage named `before`."""
        n_windows = self.source_windows(source_id)
        for s in self.pipeline.stages:
            if s.name == before or s.cls.grain == "dataset":
                return
            windowed = s.cls.grain == "window"
            for w in range(n_windows) if windowed else [0]:
                item = WorkItem(source_id, window_index=w)
                commit = self.commit(commit_file(s.name, item, windowed))
                if commit is not None:
                    yield commit

    def blocked(self, resolved: ResolvedStage, source_id: str) -> bool:
        """Say whether an earlier stage put this source into quarantine."""
        if self._memo is None:
            return any(c.status == "error" for c in self.source_commits(source_id, before=resolved.name))
        key = ("failed", source_id)
        if key not in self._memo:
            failed = (c.stage for c in self.source_commits(source_id) if c.status == "error")
            self._memo[key] = next(failed, None)
        order = [s.name for s in self.pipeline.stages]
        return self._memo[key] is not None and order.index(self._memo[key]) < order.index(resolved.name)

    def intact(self, commit: Commit) -> bool:
        """Say whether every file of a commit is still there."""
        names = [*(entry["file"] for entry in commit.tables.values()), *commit.files]
        return all(self.store.exists(name) for name in names)

    def content(self, table: Table, item: WorkItem) -> list[str]:
        """Return the content hashes of a table's committed files for one source, in order of windows."""
        writer = self.pipeline.writer(table)
        if writer is None and table in t.LABEL_TABLES:
            said = self.said(table, item.source_id)
            return [fingerprint(rows=within(said, item.window))] if within(said, item.window) else []
        if writer is None:
            if table not in t.GIVEN:
                return []
            try:  # people write it: its own bytes are its identity
                return [digests.sha256(self.store, table_file(table, item.source_id))]
            except FileNotFoundError:
                return []
        windowed = writer.cls.grain == "window"
        out = []
        for w in range(item.n_windows) if windowed else [0]:
            name = commit_file(writer.name, WorkItem(item.source_id, window_index=w), windowed)
            commit = self.commit(name)
            wrote = None if commit is None else commit.tables.get(table.name)
            out.append("" if commit is None else commit.status if wrote is None else wrote["sha256"])
        return out

    def said(self, table: Table, source_id: str) -> list[dict[str, Any]]:
        """Return what people said of a source, one of LABEL_TABLES, in order; once while `remembering`."""
        memo = {} if self._memo is None else self._memo
        key = ("said", table.name, source_id)
        if key not in memo:
            try:
                rows = self.store.read_table(table_file(table, source_id), table).to_pylist()
            except FileNotFoundError:
                rows = []
            memo[key] = sorted(rows, key=lambda r: str(r[table.key[0]]))
        found: list[dict[str, Any]] = memo[key]
        return found

    def all_said(self, source_id: str) -> dict[str, list[str]]:
        """Return the content of every table of a source that people write, as `content` does, by name."""
        return {table.name: self.content(table, WorkItem(source_id)) for table in self._given}

    @cached_property
    def _given(self) -> list[Table]:
        """The tables of sources that people have written anything into, of any source."""
        given = [x for x in t.GIVEN if x.grain == "source" and self.pipeline.writer(x) is None]
        return [x for x in given if self.store.directories(f"tables/{x.name}")]

    def media_s(self, item: WorkItem) -> float:
        """Return how many seconds of media an item is about; 0 when its source is not probed."""
        try:
            whole = self._length_s(item.source_id)
        except FileNotFoundError:
            return 0.0
        return whole if item.window is None else min(whole, item.window.end_s) - item.window.start_s

    def prune_windows(self, source_id: str) -> None:
        """Delete window files beyond the source's present windows (the window length was changed)."""
        n = self.source_windows(source_id)
        for s in self.pipeline.windowed:
            prefix = f"commits/{s.name}/bucket={source_id[:2]}"
            for name in list(self.store.names(prefix)):
                base = Path(name).name
                if base.startswith(f"{source_id}.w") and int(base.split(".w")[1].split(".")[0]) >= n:
                    window = int(base.split(".w")[1].split(".")[0])
                    self.store.delete(name)
                    for table in s.cls.writes:
                        self.store.delete(table_file(table, source_id, window))
