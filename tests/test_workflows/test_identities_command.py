"""Names, splits and decisions through the engine and the command line: resume, kill, forget, merge, split, undo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import lpm, lpm_well
from engine_case import killed, policy, snapshot
from people_toy import WORKFLOW, people_source
from toy import write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, Outcome, run
from curation.engine.workflow import resolve
from curation.forget.forget import find, forget
from curation.labels import identities
from curation.labels.identities import IdentityError
from curation.pack.splits import split_warnings
from curation.storage.store import Store, table_file
from curation.verify import verify
from schemas import tables as t

CAST = {"a": (0, 1), "b": (0,), "c": (2,), "d": (3,), "e": (4,), "f": (5,)}
SPECS = {n: people_source(*who, duration_s=10.0 + i) for i, (n, who) in enumerate(CAST.items())}


def job(out: Path) -> Job:
    return Job(str(out), resolve(WORKFLOW), policy())


def go(folder: Path | None, out: Path) -> Outcome:
    named = [] if folder is None else expand([str(folder)], str(out))
    return run(job(out), LocalEngine(), named)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `in` of six sources and the dataset `out` of them."""
    root = tmp_path_factory.mktemp("people")
    go(write_sources(root / "in", **SPECS), root / "out")
    return root


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "out", tmp_path / "out"))


def rows(out: Path, table: Any) -> list[dict[str, Any]]:
    return Dataset(str(out)).table(table).to_pylist()


def files(out: Path) -> dict[str, str]:
    return {r["name"].removesuffix(".mp4"): r["source_id"] for r in rows(out, t.INPUTS)}


def names(out: Path) -> dict[str, str]:
    return {r["track_id"]: r["identity_id"] for r in rows(out, t.TRACK_IDENTITIES)}


def who(out: Path, name: str, n: int = 0) -> str:
    """Return the identity of a source's nth track."""
    return names(out)[f"{files(out)[name]}-t{n:04d}"]


def splits(out: Path) -> dict[str, str | None]:
    return {r["source_id"]: None if r["withheld"] else r["split"] for r in rows(out, t.SPLITS)}


def test_a_second_run_does_nothing_and_one_without_its_commit_does_the_same_again(out: Path) -> None:
    before = snapshot(out, "tables", "commits")
    assert go(None, out).steps["identity", "ran"] == 0, "what it remembers is no reason to run"
    assert snapshot(out, "tables", "commits") == before
    # Killed between its tables and its commit: its own results are what it remembers.
    (out / "commits" / "identity" / "dataset.json").unlink()
    assert go(None, out).steps["identity", "ran"] == 1
    assert snapshot(out, "tables", "commits") == before
    # Killed between two of its tables.
    (out / "commits" / "identity" / "dataset.json").unlink()
    (out / table_file(t.IDENTITY_REGISTRY)).unlink()
    go(None, out)
    assert snapshot(out, "tables", "commits") == before
    assert not [p for p in verify(Dataset(str(out)), media=False) if p.check in ("hashes", "joins")]


@pytest.mark.parametrize("delay_s", [pytest.param(0.3, marks=pytest.mark.slow), 0.8])
def test_killed_while_sources_are_added_and_run_again_gives_the_same_dataset(
    made: Path, tmp_path: Path, delay_s: float
) -> None:
    folder = Path(shutil.copytree(made / "in", tmp_path / "in"))
    write_sources(folder, g=people_source(1, 2), h=people_source(7), i=people_source(8), j=people_source(9))
    for name in ("whole", "killed"):
        shutil.copytree(made / "out", tmp_path / name)
    go(folder, tmp_path / "whole")
    killed(__name__, folder, tmp_path / "killed", delay_s)
    go(folder, tmp_path / "killed")
    assert snapshot(tmp_path / "killed", "tables", "commits") == snapshot(tmp_path / "whole", "tables", "commits")


def test_adding_sources_renames_nobody_and_moves_no_clip(out: Path, made: Path, tmp_path: Path) -> None:
    before, dealt = names(out), splits(out)
    folder = Path(shutil.copytree(made / "in", tmp_path / "in"))
    go(write_sources(folder, g=people_source(1, 2), h=people_source(3), i=people_source(9)), out)
    after = names(out)
    assert {i: after[i] for i in before} == before and len(after) == len(before) + 4
    assert {s: splits(out)[s] for s in dealt} == dealt
    assert who(out, "h") == who(out, "d") and splits(out)[files(out)["h"]] == dealt[files(out)["d"]]
    # g shows people of a and of c: it joins their split where they are in one, and else is in none.
    two = {dealt[files(out)["a"]], dealt[files(out)["c"]]}
    assert splits(out)[files(out)["g"]] == (two.pop() if len(two) == 1 else None)


def test_forgetting_keeps_all_others_as_they_were_and_leaves_no_trace(out: Path) -> None:
    ids = files(out)
    dataset = Dataset(str(out))
    with_a = who(out, "a")
    identities.merge(dataset, who(out, "c"), who(out, "d"), "Ann")
    identities.merge(dataset, who(out, "e"), who(out, "f"), "Ann")
    go(None, out)
    before, dealt = names(out), splits(out)
    assert len(set(before.values())) == 4 and len(rows(out, t.IDENTITY_ALIASES)) == 2
    proof = forget(job(out), find(dataset, ["a.mp4", "d.mp4"]))
    assert not proof.traces and proof.whole
    gone = {ids["a"], ids["d"]}
    assert names(out) == {i: n for i, n in before.items() if i[:16] not in gone}
    stayed = {s: v for s, v in dealt.items() if s not in gone and v is not None}
    assert stayed and {s: splits(out)[s] for s in stayed} == stayed
    assert who(out, "b") == with_a, "who was named after a forgotten track keeps the name"
    left = [r for table in t.REMEMBERED for r in rows(out, table)]
    assert not [r for r in left if r["source_id"] in gone]
    assert go(None, out).steps["identity", "ran"] == 0
    assert not [p for p in verify(Dataset(str(out)), media=False) if p.check in ("hashes", "joins", "forgotten")]


def test_a_replaced_file_takes_its_names_with_it(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a=people_source(0), f=people_source(5))
    out = tmp_path / "out"
    go(folder, out)
    old, first = files(out)["f"], who(out, "a")
    go(write_sources(folder, f=people_source(5, duration_s=30.0)), out)
    assert files(out)["f"] != old and who(out, "a") == first
    assert not [r for table in t.REMEMBERED for r in rows(out, table) if r["source_id"] == old]


def test_a_person_may_be_forgotten_by_a_former_name(out: Path) -> None:
    dataset, names_ = Dataset(str(out)), sorted([who(out, "c"), who(out, "d")])
    kept = identities.merge(dataset, *names_, "Ann").name
    go(None, out)
    former = next(n for n in names_ if n != kept)
    assert identities.present_name(dataset, former) == kept
    assert {d.source_id for d in find(dataset, [], [former])} == {files(out)["c"], files(out)["d"]}


def test_a_split_that_is_empty_is_told(out: Path, tmp_path: Path) -> None:
    assert not split_warnings(Dataset(str(out)))
    few = tmp_path / "few"
    go(write_sources(tmp_path / "two", a=people_source(0), b=people_source(1)), few)
    said = split_warnings(Dataset(str(few)))
    assert len(said) == 1 and "split test is empty (wanted: 20 %" in said[0]


def test_the_command_line(made: Path, tmp_path: Path) -> None:
    out, workflow, folder = tmp_path / "dataset", tmp_path / "people.yaml", tmp_path / "in"
    workflow.write_text(json.dumps(WORKFLOW.model_dump(mode="json")))
    for name in ("a", "b", "c"):
        folder.mkdir(exist_ok=True)
        shutil.copy(made / "in" / f"{name}.mp4", folder)
    go_on = ("run", "--out", str(out), "--engine", "local")
    said = lpm_well("run", str(folder), "--out", str(out), "--workflow", str(workflow), "--engine", "local", "--policy",
                    _policy(tmp_path))  # fmt: skip
    assert "warning: split test is empty" in said.stderr and "splits of the kept clips" in said.stdout
    assert "warning: split test is empty" in lpm_well("status", str(out)).stdout
    assert "split test is empty" in (out / "report" / "index.html").read_text()
    shown = lpm_well("identities", "list", str(out)).stdout
    both, other, third = who(out, "a"), who(out, "a", 1), who(out, "c")
    assert all(name in shown for name in (both, other, third)) and "b.mp4" in shown
    listed = json.loads(lpm_well("identities", "list", str(out), "--json").stdout)
    assert {r["identity_id"]: len(r["tracks"]) for r in listed} == {both: 2, other: 1, third: 1}

    refused = lpm("identities", "merge", str(out), both, other)
    assert refused.returncode == 1 and "in view at the same time" in refused.stderr and "--force" in refused.stderr
    assert "did you mean" in lpm("identities", "merge", str(out), both, third[:-1]).stderr
    assert "one person already" in lpm("identities", "merge", str(out), both, both).stderr
    told = lpm_well("identities", "merge", str(out), other, third, "--author", "Ann", "--note", "same scar").stdout
    assert f"{other} and {third} are one person: {third}" in told and "uses it" in told
    lpm_well(*go_on)
    assert who(out, "a", 1) == who(out, "c") == third
    assert "former names" in lpm_well("identities", "list", str(out)).stdout

    assert "is no track of" in lpm("identities", "split", str(out), both, "--tracks", "x").stderr
    told = lpm_well("identities", "split", str(out), third, "--source", "c.mp4").stdout
    assert "1 tracks of" in told and "it overrules" in told
    lpm_well(*go_on)
    new = who(out, "c")
    assert new not in (both, other, third) and who(out, "a", 1) == third
    assert "split" in lpm_well("identities", "decisions", str(out)).stdout

    assert "is taken back" in lpm_well("identities", "undo", str(out)).stdout
    lpm_well(*go_on)
    assert who(out, "a", 1) == who(out, "c") == third
    first = next(iter(identities.decisions(Dataset(str(out))))).decision_id
    lpm_well("identities", "undo", str(out), first)
    lpm_well(*go_on)
    assert (who(out, "a"), who(out, "a", 1), who(out, "c")) == (both, other, third)
    assert "nothing was decided" in lpm("identities", "undo", str(out)).stderr


def _policy(folder: Path) -> str:
    file = folder / "policy.yaml"
    file.write_text(json.dumps(policy().model_dump(mode="json")))
    return str(file)


def test_wrong_decisions_are_refused_and_change_nothing(out: Path) -> None:
    dataset, before = Dataset(str(out)), snapshot(out)
    a = who(out, "a")
    with pytest.raises(IdentityError, match="all tracks of them are"):
        identities.split(dataset, a, identities.members(dataset, a), "Ann")
    with pytest.raises(IdentityError, match="no track of them is"):
        identities.split(dataset, a, [], "Ann")
    with pytest.raises(IdentityError, match="no such source"):
        identities.tracks_of_sources(dataset, a, ["z.mp4"])
    with pytest.raises(IdentityError, match="no identity 'p-0'"):
        identities.merge(dataset, a, "p-0", "Ann")
    with pytest.raises(IdentityError, match="name who decides"):
        identities.merge(dataset, a, who(out, "c"), " ")
    with pytest.raises(IdentityError, match="nothing was decided"):
        identities.undo(dataset, "x")
    assert snapshot(out) == before
    assert identities.merge(dataset, a, who(out, "a", 1), "Ann", force=True).tracks == (2, 1)
    assert Store(str(out)).exists(table_file(t.IDENTITY_DECISIONS))
