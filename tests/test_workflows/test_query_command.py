"""`lpm query`: it reads its dataset and nothing else, changes nothing, and ends at its limits with a sentence."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from engine_case import GOOD, go, snapshot
from toy import write_sources

from curation.dataset import Dataset, DatasetError
from curation.storage import bounds
from curation.storage.bounds import BoundError, in_time
from curation.storage.store import table_file
from schemas.tables import INPUTS
from workflows import cli


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("asked")
    go(write_sources(root / "in", good=GOOD), root / "out")
    (root / "beside.csv").write_text("a\n1\n")
    return root


@pytest.fixture
def ask(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.chdir(tmp_path)
    return Ask(made / "out", capsys)


class Ask:
    """`lpm query` on one dataset, in this process."""

    def __init__(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self._capsys = out, capsys

    def __call__(self, sql: str, *options: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["query", str(self.out), sql, *options])
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'other.db'",
        "DROP VIEW tracks",
        "CREATE TABLE mine AS SELECT 1",
        "COPY (SELECT 1) TO 'written.csv'",
        "EXPORT DATABASE 'written'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '1TB'",
        "SET enable_external_access = true",
        "RESET memory_limit",
        "PRAGMA memory_limit = '1TB'",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "SELECT 1; SELECT 2",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv('{root}/beside.csv')",
        "SELECT * FROM read_text('{out}/../beside.csv')",
        "SELECT * FROM '{root}/beside.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('https://example.org/a.csv')",
        "SELECT * FROM read_parquet('s3://bucket/a.parquet')",
        "SELECT * FROM sqlite_scan('a.db', 'b')",
        "SELECT * FROM enable_logging()",
        "FROM query('COPY (SELECT 1) TO ''written.csv''')",
    ],
)
def test_a_query_reads_its_dataset_and_nothing_else(ask: Ask, tmp_path: Path, sql: str) -> None:
    before = snapshot(ask.out)
    code, said = ask(sql.format(root=ask.out.parent, out=ask.out))
    assert code == 1 and "Traceback" not in said
    assert said.startswith("lpm: query failed") or "takes --unsafe" in said, said
    assert snapshot(ask.out) == before and list(tmp_path.iterdir()) == []


def test_unsafe_reads_and_writes_what_it_is_told_to(ask: Ask, tmp_path: Path) -> None:
    code, said = ask(f"SELECT a + 41 AS b FROM read_csv('{ask.out.parent}/beside.csv')", "--unsafe", "--format", "csv")
    assert code == 0 and "42" in said
    code, said = ask("COPY (SELECT count(*) AS n FROM tracks) TO 'written.csv'; SELECT 1 AS x", "--unsafe")
    assert code == 0 and (tmp_path / "written.csv").read_text() == "n\n2\n"


def test_its_own_tables_and_files_are_read(ask: Ask) -> None:
    code, said = ask("SELECT count(*) AS n FROM tracks", "--format", "csv")
    assert code == 0 and '"n"\n2' in said
    code, said = ask(f"SELECT count(*) AS n FROM read_parquet('{ask.out}/{table_file(INPUTS)}')", "--format", "csv")
    assert code == 0 and '"n"\n1' in said


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.parquet", "X.CSV", "x.txt"])
def test_a_file_is_written_in_the_format_that_its_suffix_says(ask: Ask, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert ask("SELECT 7 AS n", "--out", str(file)) == (0, "")
    if file.suffix == ".parquet":
        assert pq.read_table(file).to_pylist() == [{"n": 7}]
    elif file.suffix.startswith(".json"):
        assert json.loads(file.read_text()) == {"n": 7}
    else:
        assert (file.read_text() == '"n"\n7\n') == (file.suffix.lower() == ".csv")


@pytest.mark.parametrize(("form", "name"), [("csv", "x.parquet"), ("parquet", "x.csv"), ("long", "x.jsonl")])
def test_a_format_that_the_suffix_denies_is_refused(ask: Ask, tmp_path: Path, form: str, name: str) -> None:
    code, said = ask("SELECT 7 AS n", "--format", form, "--out", str(tmp_path / name))
    assert code != 0 and f"--format {form} is not what {name} ends in" in said
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 4000000000))",
        "SELECT repeat('x', 3000000) FROM range(1000)",
        "SELECT list(range) FROM range(1000000000)",
        "SELECT replace(replace(replace(repeat('a', 1000), 'a', repeat('a', 1000)), 'a', repeat('a', 1000)), 'a', 'b')",
    ],
)
def test_what_needs_more_memory_ends_with_a_sentence(ask: Ask, sql: str) -> None:
    code, said = ask(sql, "--max-memory", "0.25")
    assert code == 1 and "the query needs more than 0.233 GiB of memory; ask for less" in said, said
    assert ask("SELECT 1")[0] == 0  # and this process may hold what it could before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000000) b",
        "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x FROM t) SELECT count(*) FROM t",
        "SELECT pg_sleep(600)",
    ],
)
def test_what_takes_longer_ends_with_a_sentence(ask: Ask, sql: str) -> None:
    code, said = ask(sql, "--max-s", "0.2")
    assert code == 1 and "the query took longer than 0.2 s; ask for less" in said and "--max-s" in said, said


def test_limits_that_are_none_are_refused(ask: Ask) -> None:
    assert ask("SELECT 1", "--max-s", "-1")[0] != 0
    code, said = ask("SELECT 1", "--max-memory", "0.001")
    assert code != 0 and "0.25 (GB) or more" in said
    assert ask("SELECT 1", "--max-s", "0")[0] == 0


def test_sql_that_does_not_stop_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_GRACE_S", 0.0)
    told: list[str] = []
    slow = "SELECT levenshtein(repeat('x', 20000), repeat('y', 20000))"  # one call, which looks at nothing meanwhile
    with duckdb.connect() as con, contextlib.suppress(BoundError), in_time(con, 0.01, lambda: told.append("stuck")):
        con.execute(slow)
    assert set(told) == {"stuck"}


def test_time_that_is_not_up_costs_nothing() -> None:
    began = time.monotonic()
    with duckdb.connect() as con, in_time(con, 600):
        assert con.execute("SELECT 1").fetchall() == [(1,)]
    assert time.monotonic() - began < 600


def test_json_lines_are_json(tmp_path: Path, made: Path) -> None:
    file = tmp_path / "rows.jsonl"
    sql = "SELECT 'nan'::DOUBLE AS x, 'a'::BLOB AS b, INTERVAL 1 DAY AS v"
    with contextlib.suppress(SystemExit):
        cli.main(["query", str(made / "out"), sql, "--out", str(file)])
    row = json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert row == {"x": None, "b": "YQ==", "v": "0 months 1 days 0 s"}


@pytest.mark.parametrize("options", [(), ("--unsafe",)])
@pytest.mark.parametrize("sql", ["SELECT * FROM references", 'SELECT References.kind FROM "references"'])
def test_a_table_that_is_a_word_of_sql_is_told_to_be_quoted(ask: Ask, sql: str, options: tuple[str, ...]) -> None:
    hint = 'references is a word of SQL: write "references" for the table.'
    code, said = ask(sql, *options)
    assert code == 1 and hint in said
    with pytest.raises(DatasetError, match=hint):
        Dataset(ask.out).query(sql)
    assert ask('SELECT count(*) AS n FROM "references"')[0] == 0
    for other in ('SELECT FROM FROM "references"', "SELECT * FROM tracks WHERE", "SELECT 'references' FROM"):
        assert hint not in ask(other)[1]
