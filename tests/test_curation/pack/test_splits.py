"""The shares of the splits, and what is said of them, follow the clips that are kept now, not those of the last run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from engine_case import GOOD, go, policy
from people_toy import WORKFLOW, people_source
from rich.console import Console
from toy import write_sources

from curation import Dataset
from curation.decisions import account
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.pack.splits import WITHHELD, split_of, split_shares, split_warnings
from curation.report.status import render_status
from curation.storage.store import Store, table_file
from schemas import tables as t

SPECS = {name: people_source(n, duration_s=10.0 + n) for n, name in enumerate("abcdef")}
FEW = "duration_s >= 14"
"""a policy that keeps the clips of the two longest sources alone"""


def job(out: Path, keep: str = "duration_s >= 3") -> Job:
    return Job(str(out), resolve(WORKFLOW), policy(duration=keep), in_process=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of six sources, each of somebody else."""
    root = tmp_path_factory.mktemp("splits")
    folder = write_sources(root / "in", **SPECS)
    run(job(root / "out"), LocalEngine(), expand([str(folder)], str(root / "out")))
    return root / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def undeal(out: Path, n: int) -> None:
    """Leave so many sources without a split, as those are of which no clip was kept before."""
    rows = Dataset(str(out)).table(t.SPLITS)
    Store(str(out)).write_table(table_file(t.SPLITS), t.SPLITS, rows.slice(n))


def shares(data: Dataset) -> dict[str, dict[str, Any]]:
    return {r["split"]: r for r in split_shares(data).to_pylist()}


def counted(data: Dataset) -> dict[str, tuple[float, int, int]]:
    """Return seconds, sources and groups of each split, counted row by row."""
    dealt = {r.source_id: r for r in t.SPLITS.rows(data.table(t.SPLITS))}
    kept = [r for r in data.table(t.DECISIONS).to_pylist() if (r["unit"], r["outcome"]) == ("segments", "kept")]
    found: dict[str, list[dict[str, Any]]] = {}
    for r in kept:
        row = dealt.get(r["source_id"])
        found.setdefault(WITHHELD if row is None else split_of(row), []).append(r)
    out = {}
    for split, rows in found.items():
        sources = {r["source_id"] for r in rows}
        groups = {dealt[s].group_id for s in sources & dealt.keys()}
        out[split] = (sum(r["duration_s"] for r in rows), len(sources), len(groups))
    return out


@pytest.mark.parametrize("undealt", [0, 4])
@pytest.mark.parametrize("keep", ["duration_s >= 3", FEW, "false"])
def test_shares_are_those_of_the_clips_that_a_decision_keeps(out: Path, undealt: int, keep: str) -> None:
    undeal(out, undealt)
    account.write(job(out, keep).stepper())
    data = Dataset(str(out))
    found, expected = shares(data), counted(data)
    assert {"train", "val", "test"} <= found.keys()
    seen = {s: (pytest.approx(r["kept_s"]), r["n_sources"], r["n_groups"]) for s, r in found.items() if r["n_sources"]}
    assert seen == expected
    assert sum(r["share"] for r in found.values()) == pytest.approx(1.0 if expected else 0.0)
    assert {s: r["wanted"] for s, r in found.items() if r["wanted"]} == {
        "train": pytest.approx(0.6), "val": pytest.approx(0.2), "test": pytest.approx(0.2),
    }  # fmt: skip


def test_after_a_run_the_shares_are_those_that_it_wrote(made: Path) -> None:
    data = Dataset(str(made))
    written = {r["split"]: r for r in data.table(t.SPLIT_SHARES).to_pylist()}
    assert shares(data) == {s: {**r, "share": pytest.approx(r["share"])} for s, r in written.items()}


def test_what_is_said_is_of_the_clips_that_are_kept(out: Path) -> None:
    assert not split_warnings(Dataset(str(out)))
    account.write(job(out, FEW).stepper())
    said = split_warnings(Dataset(str(out)))
    assert said and all("is empty" in x and "of 2 groups" in x for x in said)
    console = Console(width=160)
    with console.capture() as capture:
        for part in render_status(Dataset(str(out))):
            console.print(part)
    assert all(f"warning: {x}" in " ".join(capture.get().split()) for x in said)
    assert "29.0" in capture.get()  # seconds of the two sources


def test_clips_of_sources_that_were_not_dealt_are_not_said_to_leak(out: Path) -> None:
    undeal(out, 4)
    assert shares(Dataset(str(out)))[WITHHELD]["n_sources"] == 4
    assert not [x for x in split_warnings(Dataset(str(out))) if "withheld" in x]


def test_where_nobody_deals_splits_there_is_nothing_to_say(tmp_path: Path) -> None:
    go(write_sources(tmp_path / "in", a=GOOD), tmp_path / "out")
    data = Dataset(str(tmp_path / "out"))
    assert split_shares(data).num_rows == 0 and split_warnings(data) == []
