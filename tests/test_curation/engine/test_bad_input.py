"""Bad and odd input through the whole workflow: each ends with a reason or a sample, and its neighbours go on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import hostile
import pytest
from engine_case import GOOD, go
from toy import write_sources

from curation import Dataset
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, run
from curation.engine.workflow import resolve
from curation.pack.pack import pack
from schemas.files.places import local_path
from schemas.settings.policy import parse_policy
from schemas.tables import INPUTS
from workflows import catalog

POLICY = parse_policy(
    {"name": "all", "rules": [{"id": "any", "on": "sources", "step": "quality", "keep": "duration_s > 0"}]}, "test"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One of each odd file, together in one run."""
    folder = tmp_path_factory.mktemp("hostile")
    made = hostile.make_all(folder)
    hostile.make_empty(folder / "empty.mp4")
    hostile.make_text(folder / "text.mp4")
    hostile.make_truncated(folder / "truncated.mp4")
    hostile.make_no_video(folder / "audio_only.mp4")
    for name in hostile.HOSTILE_NAMES:
        (folder / name).write_bytes(made["plain"].read_bytes())
    out = tmp_path_factory.mktemp("out") / "dataset"
    spec = catalog.workflow("conversation")
    job = Job(str(out), resolve(spec), POLICY)
    run(job, LocalEngine(), expand([str(folder / "*")]), packer=pack)
    return Dataset(str(out))


def rows(dataset: Dataset) -> dict[str, tuple[str, str | None, str | None]]:
    sql = "SELECT name, outcome, rule, reason FROM decisions JOIN inputs USING (source_id) WHERE unit = 'sources'"
    return {n: (o, r, why) for n, o, r, why in dataset.query(sql).fetchall()}


def test_every_file_ends_with_an_outcome_and_a_reason(dataset: Dataset) -> None:
    found = rows(dataset)
    assert found
    assert all(o == "kept" or why for o, _, why in found.values())
    assert all(o != "pending" for o, *_ in found.values())


def test_broken_files_are_named_for_what_they_are(dataset: Dataset) -> None:
    sql = "SELECT error, count(*) FROM errors WHERE stage = 'probe' GROUP BY 1"
    codes = {code for code, _ in dataset.query(sql).fetchall()}
    assert {"empty_file", "not_a_video", "truncated", "no_video_stream"} <= codes


def test_odd_but_sound_files_are_measured(dataset: Dataset) -> None:
    """VFR, rotated, odd sizes, HEVC, 5.1, silent sound and hostile names: no error after the probe."""
    late = dataset.query("SELECT stage, error, message FROM errors WHERE stage NOT IN ('probe')").fetchall()
    assert late == []
    facts = dataset.query(
        "SELECT bool_or(is_vfr), bool_or(rotation_deg <> 0), max(audio_channels) FROM sources"
    ).fetchall()
    assert facts == [(True, True, 6)]


def test_hostile_file_names_survive(dataset: Dataset) -> None:
    names = set(rows(dataset))
    assert any(r"\x0a" in n for n in names) and any("'" in n or '"' in n for n in names)
    assert any(not n.isascii() for n in names)


def test_nothing_is_written_beside_the_input(dataset: Dataset) -> None:
    path = dataset.query("SELECT path FROM inputs LIMIT 1").fetchall()[0][0]
    assert not [p for p in Path(path).parent.iterdir() if p.is_dir()]


def test_names_of_any_bytes_are_registered_and_read(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", good={**GOOD})
    for n, name in enumerate((b"not\xff\xfeutf8.mp4", b"esc\x1b[31m.mp4", b"line\nend.mp4")):
        (folder / os.fsdecode(name)).write_text(json.dumps({**GOOD, "name": f"x{n}"}))
    go(folder, tmp_path / "out")
    dataset = Dataset(str(tmp_path / "out"))
    rows = INPUTS.rows(dataset.table(INPUTS))
    assert {r.name for r in rows} == {"good.mp4", "not%FF%FEutf8.mp4", r"esc\x1b[31m.mp4", r"line\x0aend.mp4"}
    assert all(local_path(r.path) in folder.iterdir() for r in rows)
    ((measured,),) = dataset.query("SELECT count(*) FROM sources").fetchall()
    assert measured == 4
