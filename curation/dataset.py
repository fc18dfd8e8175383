"""A dataset as its users see it: every table under its own name in DuckDB, pandas or Arrow.

    from curation import Dataset
    Dataset("OUT").query("SELECT state, count(*) FROM manifest GROUP BY state").df()

Views are made over the Parquet files, so nothing is copied; the same files open with plain DuckDB and pandas.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.decisions.decide import unit_tables, view_sql
from curation.storage import duck, registry
from curation.storage.batches import batches
from curation.storage.bounds import BoundError, Bounds, bounded, spare
from curation.storage.compacted import Part, live_parts
from curation.storage.head import LIVE, held
from curation.storage.registry import read_registry
from curation.storage.store import Store, StoreError, table_file
from curation.storage.table_sql import comments, no_rows
from schemas import tables as t
from schemas.extensions import declare, from_json
from schemas.table import Column, Table, TableError
from schemas.tables.output import FORMER_KEY
from schemas.units import RIGHTS, UNITS

if TYPE_CHECKING:  # it imports pandas: a third of what most commands take to start
    import pyarrow.dataset as pads

FORMAT_VERSION = 1
"""Raised when the layout of a dataset changes incompatibly."""
BUCKETS = 256
"""Folders over which the sources' files are spread, by the first two digits of their ids."""
SLICE_BYTES = 4 * 2**20
"""Compressed bytes of tracks and segments in a slice: some hundred thousand segments."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Buckets that lie together, in order; ids of sources and of their units begin with the bucket's name."""

    buckets: tuple[str, ...]
    end: str | None
    """the bucket after them; None at the end"""

    def where(self, column: str) -> str:
        """Return the SQL condition that an id is of a source in these buckets."""
        last = "true" if self.end is None else f"{column} < '{self.end}'"
        return f"{column} >= '{self.buckets[0]}' AND {last}"


class DatasetError(ValueError):
    """Something that is not a dataset, or a query that cannot run."""


def check_format(path: str, info: object) -> None:
    """Raise DatasetError unless what dataset.json holds is of the format that this program reads and writes."""
    if not isinstance(info, dict):
        raise DatasetError(f"{path}/dataset.json is damaged; `lpm verify --repair` writes it again")
    if info.get("format") != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has dataset format {info.get('format')}, this program reads {FORMAT_VERSION}; "
            "use the version of openlpm that wrote it"
        )


class Dataset:
    """A dataset opened for reading."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a directory, or an `s3://` prefix. Raises DatasetError where there is none that can be read."""
        self.store = Store(os.fspath(path))
        try:
            self.info: dict[str, Any] | None = self.store.read_json("dataset.json")
        except OSError as e:
            raise DatasetError(f"cannot read {path}: {e}") from e
        if self.info is None:
            if (bucket := self.store.missing_bucket()) is not None:
                raise DatasetError(
                    f"the bucket {bucket!r} of {path} does not exist; name the one that holds the dataset"
                )
            raise DatasetError(f"{path} is not a dataset (it has no dataset.json); make one with `lpm run`")
        check_format(os.fspath(path), self.info)
        for table in (self.store.read_json("workflow.json") or {}).get("tables", []):
            try:
                declare(from_json(table))
            except TableError as e:  # of a run before such a name was refused, or of anybody's
                raise DatasetError(f"{path} holds a table that cannot be read: {e}, and make the dataset anew") from e

    def files(self, table: Table) -> list[str]:
        """Return the names of a table's files as `Store.read_table` takes them, compacted or not."""
        if table.grain == "dataset":
            return self._single(table, held(self.store))
        return list(self.store.tables(f"tables/{table.name}"))

    def _single(self, table: Table, state: Mapping[str, str] | None) -> list[str]:
        """Return the file of a table of which there is one in all; none where there is none as of a state."""
        name = table_file(table)
        if state is not None and name not in LIVE:
            return [state[name]] if name in state else []
        return [name] if self.store.exists(name) else []

    def slices(self, times: int = 1) -> list[Slice]:
        """Cut the dataset between buckets into slices of bounded size, to go through it in bounded memory.

        `times` as large for what looks at a few columns only: every slice costs a tenth of a second.
        """
        sizes: dict[str, int] = dict.fromkeys((f"{i:02x}" for i in range(BUCKETS)), 0)
        for table in (t.TRACKS, t.SEGMENTS):
            for name, size in self.store.sizes(f"tables/{table.name}").items():
                bucket = name.split("/bucket=")[1][:2]
                sizes[bucket] = sizes.get(bucket, 0) + size
        cut = list(batches(((b, float(n)) for b, n in sorted(sizes.items())), times * SLICE_BYTES))
        ends = [*(group[0] for group in cut[1:]), None]
        return [Slice(tuple(group), end) for group, end in zip(cut, ends, strict=True)]

    def table(
        self,
        table: Table,
        columns: Sequence[Column[Any] | str] | None = None,
        sources: Collection[str] | None = None,
    ) -> pa.Table:
        """Return a table as Arrow, sorted by key: all of it, or the rows of some sources without reading others'."""
        names = None if columns is None else [str(c) for c in columns]
        if table is t.INPUTS and registry.parts(self.store):
            rows = read_registry(self.store)
            rows = rows if sources is None else rows.filter(pc.field("source_id").isin(sorted(sources)))
            return rows if names is None else rows.select(names)
        state = held(self.store) if table.grain == "dataset" else None
        whole, parts, sizes = self._files(table, sources, state=state)
        if not whole and not parts:
            return table.empty().select(names or list(table.column_names))
        import pyarrow.dataset as pads

        former = self._former(table, whole)
        chosen = None
        if sources is not None and table.grain == "dataset":
            chosen = pc.field("source_id").isin(sorted(sources))
        files = self._dataset(table, whole, parts, sizes) if former is None else pads.dataset(former)
        rows = files.to_table(columns=names, filter=chosen)
        keys = [k for k in table.key if k in rows.column_names]
        return rows.sort_by([(k, "ascending") for k in keys]) if keys else rows

    def _files(
        self, table: Table, sources: Collection[str] | None = None, part: Slice | None = None,
        state: Mapping[str, str] | None = None,
    ) -> tuple[list[str], list[Part], dict[str, int]]:  # fmt: skip
        """Return the files of which every row counts, and single parts of compact files that hold others' rows.

        And the bytes of those files that are small, as they were listed.
        """
        if table.grain == "dataset":
            return self._single(table, state), [], {}
        wanted = None if sources is None else frozenset(sources)
        root = f"tables/{table.name}"
        buckets = part.buckets if part is not None else wanted and sorted({s[:2] for s in wanted})
        if part is not None and len(part.buckets) == BUCKETS:
            buckets = None  # one listing, not one a bucket: on object stores each is a request
        prefixes = [root] if buckets is None else [f"{root}/bucket={b}" for b in buckets]
        whole: list[str] = []
        single: list[Part] = []
        sizes: dict[str, int] = {}
        for folder in (f for prefix in prefixes for f in self.store.folders(prefix).values()):
            small = {n: s for n, s in folder.small.items() if wanted is None or n.rpartition("/")[2][:16] in wanted}
            whole += small
            sizes |= {} if self.store.local else small
            if wanted is None and folder.plain:
                whole += folder.compact
                continue
            listed = [self.store.compacted.parts(file) for file in folder.compact]
            for file, parts, live in zip(folder.compact, listed, live_parts(listed, folder.hidden), strict=True):
                mine = [p for p in live if wanted is None or p.name.rpartition("/")[2][:16] in wanted]
                if len(mine) == len(parts):
                    whole.append(file)
                else:
                    single += mine
        return sorted(whole), single, sizes

    def _dataset(self, table: Table, whole: list[str], parts: list[Part], sizes: Mapping[str, int]) -> pads.Dataset:
        """Return files and parts as one Arrow dataset: of compact files the row groups that count.

        An object store is not asked for a size that is known.
        """
        import pyarrow.dataset as pads

        fs, form = self.store.filesystem(), pads.ParquetFileFormat()
        groups: dict[str, list[int]] = {}
        for part in parts:
            groups.setdefault(part.file, []).extend(part.groups)
        fragments = [form.make_fragment(self.store.path(name), fs, file_size=sizes.get(name)) for name in whole]
        for file, wanted in sorted(groups.items()):
            if wanted:
                fragments.append(form.make_fragment(self.store.path(file), fs, row_groups=sorted(wanted)))
        return pads.FileSystemDataset(fragments, table.schema, form, fs)

    def connect(
        self,
        catalog: str = ":memory:",
        *,
        tables: Collection[Table] | None = None,
        part: Slice | None = None,
        sources: Collection[str] | None = None,
        shut: bool = False,
        most: int | None = None,
    ) -> duckdb.DuckDBPyConnection:
        """Open DuckDB with one view a table, and `units_<kind>` views that show what policy rules see.

        Args:
            catalog: a DuckDB file to keep the views in.
            tables: make views of these only, where listing all files would take long; no `units_<kind>` unless all.
            part: show the rows of one slice only.
            sources: show the rows of these sources only.
            shut: let SQL reach the dataset's own files and nothing else, change no setting, and keep at most half of
                the machine's memory: a policy's predicates are data.
            most: bytes that it may keep instead.
        """
        con = duck.connect(catalog)
        if catalog != ":memory:":
            con.execute("SET file_search_path = $1", [self.store.root])
        state = held(self.store) if catalog == ":memory:" else None
        for table in t.TABLES.values() if tables is None else tables:
            self._create_view(con, table, part, sources, state, persistent=catalog != ":memory:")
        if tables is None or t.INPUTS in tables:
            # The first path that was given for a source tells its rights.
            columns = ", ".join(RIGHTS.column_names)
            con.execute(
                f"CREATE OR REPLACE VIEW rights AS SELECT DISTINCT ON (source_id) {columns} FROM inputs "
                "ORDER BY source_id, path"
            )
        if tables is None:
            for kind in UNITS:
                con.execute(f"CREATE OR REPLACE VIEW units_{kind} AS {view_sql(kind, '{}', presence=False)}")
        if shut or most is not None:
            spare(con, most)
        if shut:
            duck.shut(con, self.store.root if self.store.local else None)
        return con

    def _create_view(
        self,
        con: duckdb.DuckDBPyConnection,
        table: Table,
        part: Slice | None,
        sources: Collection[str] | None,
        state: Mapping[str, str] | None,
        *,
        persistent: bool,
    ) -> None:
        if table is t.INPUTS and registry.parts(self.store):
            con.register("_inputs", read_registry(self.store))
            con.execute(f'CREATE OR REPLACE VIEW inputs AS SELECT * FROM "_inputs"{_narrowed(table, part, sources)}')
            return
        whole, parts, sizes = self._files(table, sources, part, state)
        rows = no_rows(table)
        if parts and persistent:
            raise StoreError(f"{table.name} holds rows that newer files replace; `lpm compact` clears them away")
        if parts or (whole and not self.store.local):
            former = self._former(table, whole)
            con.register(f"_{table.name}", self._dataset(table, whole, parts, sizes) if former is None else former)
            rows = f'SELECT * FROM "_{table.name}"'
        elif whole:
            # A catalogue goes with its folder, so its views name files as they lie in it.
            paths = whole if persistent else [self.store.path(f) for f in whole]
            listed = ", ".join("'" + f.replace("'", "''") + "'" for f in paths)
            rows = f"SELECT * FROM read_parquet([{listed}])"
            if self._older(table, whole):
                renamed = f" RENAME ({FORMER_KEY} AS {table.key[0]})" if self._has_former_key(table, whole) else ""
                read = f"read_parquet([{listed}], union_by_name=true)"
                rows = f"{no_rows(table)} UNION ALL BY NAME SELECT *{renamed} FROM {read}"
        if whole and table.grain == "dataset":
            rows += _narrowed(table, part, sources)
        con.execute(f'CREATE OR REPLACE VIEW "{table.name}" AS {rows}')

    def _older(self, table: Table, files: list[str]) -> bool:
        """Say whether files lack columns, as an older version of the program wrote them; looks at both ends."""
        wanted = set(table.column_names)
        return any(not wanted <= set(pq.read_schema(self.store.path(f)).names) for f in {files[0], files[-1]})

    def _has_former_key(self, table: Table, files: list[str]) -> bool:
        if table.name != t.MANIFEST.name or not files:
            return False
        return FORMER_KEY in pq.read_schema(self.store.path(files[0]), filesystem=self.store.filesystem()).names

    def _former(self, table: Table, files: list[str]) -> pa.Table | None:
        """Return a manifest whose key has its former name, as it would be written now; None for any other table."""
        if not self._has_former_key(table, files):
            return None
        rows = pq.read_table(self.store.path(files[0]), filesystem=self.store.filesystem())
        held = dict(zip(rows.column_names, rows.columns, strict=True))
        held[table.key[0]] = held.pop(FORMER_KEY)
        nothing: dict[str, Any] = {f.name: pa.array([None] * rows.num_rows, f.type) for f in table.schema}
        return pa.table({name: held.get(name, none) for name, none in nothing.items()})

    def query(self, sql: str, *, shut: bool = False) -> duckdb.DuckDBPyRelation:
        """Run SQL and return a DuckDB relation (`.df()`, `.arrow()`, `.fetchall()`).

        Args:
            sql: what is asked.
            shut: one SELECT that reads this dataset and nothing else, and writes nothing: for SQL of others.

        Raises:
            DatasetError: the SQL does not parse, names something that does not exist, or does what it may not.
        """
        with _told(sql):
            con = self.connect(tables=_named_in(sql), shut=shut)
            return _asked(con, sql, shut)

    def answer(
        self, sql: str, bounds: Bounds, *, shut: bool = True, stuck: Callable[[], None] | None = None
    ) -> pa.Table:
        """Run SQL and return what it answers, whole, within bounds; `stuck` is called where it does not stop at them.

        Raises:
            DatasetError: as `query`, or a bound was passed.
        """
        with _told(sql):
            con = self.connect(tables=_named_in(sql), shut=shut, most=bounds.tables)
            with contextlib.closing(con), bounded(con, bounds, stuck):
                rows: pa.Table = _asked(con, sql, shut).to_arrow_table()
                return rows

    def unit_tables(self) -> dict[str, pa.Table]:
        """Return the tables that policy rules look at, whole, by name."""
        out = {table.name: self.table(table) for table in unit_tables() if table is not RIGHTS}
        out["rights"] = self.connect(tables=[t.INPUTS]).sql("SELECT * FROM rights ORDER BY 1").to_arrow_table()
        return out

    def write_catalog(self) -> None:
        """(Re)build catalog.duckdb, commented views over the dataset's files; local datasets only.

        The views name files relative to the folder, so that a copy of it reads its own: open the catalogue there, or
        say `SET file_search_path = 'FOLDER'`.
        """
        if not self.store.local:
            return
        path = self.store.local_path("catalog.duckdb")
        temporary = path.with_name(".tmp-catalog.duckdb")
        try:
            temporary.unlink(missing_ok=True)
            with contextlib.closing(self.connect(str(temporary))) as con:
                con.execute("; ".join(("BEGIN", *comments(t.TABLES.values()), "COMMIT")))
            temporary.replace(path)
        except (OSError, duckdb.IOException) as e:
            raise StoreError(f"cannot write {path}: {e}") from e


def _asked(con: duckdb.DuckDBPyConnection, sql: str, shut: bool) -> duckdb.DuckDBPyRelation:
    if shut and [s.type for s in con.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
        raise DatasetError("a query is one SELECT; what it may do besides takes --unsafe")
    relation = con.sql(sql)
    if relation is None:
        raise DatasetError("the query returns no rows; write a SELECT")
    return relation


@contextlib.contextmanager
def _told(sql: str) -> Iterator[None]:
    """Say of a query what is wrong with it."""
    try:
        yield
    except BoundError as e:
        less = "ask for less (WHERE, LIMIT, fewer columns), or raise --max-s or --max-memory"
        raise DatasetError(f"the query {e}; {less}") from e
    except duckdb.Error as e:
        hint = "\nThe manifest's key is segment_id, as in every table." if f'"{FORMER_KEY}"' in str(e) else ""
        if isinstance(e, duckdb.ParserException):
            hint += "".join(f'\n{name} is a word of SQL: write "{name}" for the table.' for name in _unquoted(sql))
        raise DatasetError(f"query failed: {e}{hint}") from e


def _unquoted(sql: str) -> list[str]:
    """Return the tables that a query names without the quotes that their names take, being words of SQL."""
    with contextlib.closing(duck.connect()) as con:
        words = con.sql(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"
        ).fetchall()
    bare = r"(?i)(?<![\w\"']){}(?![\w\"'])"
    return [name for (name,) in words if name in t.TABLES and re.search(bare.format(name), sql)]


def _named_in(sql: str) -> list[Table] | None:
    """Return the tables that a query names, for which alone views are to be made; None where it may need others."""
    words = set(re.findall(r"\w+", sql.lower()))
    if words & {"rights", "show", "describe", "information_schema", *(f"units_{kind}" for kind in UNITS)}:
        return None
    found = [table for name, table in t.TABLES.items() if name in words]
    return found or None


def _narrowed(table: Table, part: Slice | None, sources: Collection[str] | None) -> str:
    """Return the WHERE that leaves the rows of a slice or of some sources, for a table that is one file."""
    column = next((c for c in ("source_id", "segment_id", "track_id") if c in table.column_names), None)
    if column is None:
        return ""
    if part is not None:
        return f" WHERE {part.where(column)}"
    if sources is not None:
        listed = ", ".join("'" + s.replace("'", "''") + "'" for s in sorted(sources))
        return f" WHERE {column}[1:16] IN ({listed or 'NULL'})"
    return ""
