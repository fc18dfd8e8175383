"""What goes over a whole dataset: by slices as at once, nothing read twice, nothing that grows held in Python."""

from __future__ import annotations

import ast
import hashlib
import itertools
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from engine_case import GOOD, go, policy
from toy import WORKFLOW, filled, write_sources

from curation import Dataset, dataset
from curation.decisions import account, progress
from curation.decisions.survey import survey
from curation.engine.program import stamp
from curation.engine.run import Job
from curation.engine.step import Stepper
from curation.engine.workflow import resolve
from curation.pack import spool as pack_spool
from curation.pack.pack import PackSettings, pack
from curation.pack.samples import kept_entries
from curation.pack.spool import Spool
from curation.report import content
from curation.report.page import render
from curation.storage.store import Store, parquet_bytes, table_file
from curation.storage.table_writer import writing
from curation.verify import verify
from schemas import tables as t
from schemas.table import TableError
from workflows import catalog

ROOT = Path(__file__).resolve().parents[3]

BOUNDED = {
    "audit/audits.py": {"of_source": "one source"},
    "check/answers.py": {"refuse_unreadable": "one file"},
    "check/rows.py": {"samples_of_parquet": "some rows at a time", "rows_by_file": "as long as the list of clips"},
    "audit/precision.py": {"audit": "what people judged"},
    "review/draw.py": {"_judged": "what people judged", "described": "a page or a sample"},
    "review/watch.py": {"_caption": "of one segment"},
    "report/explain.py": {"_rows": "of one unit"},
    "decisions/progress.py": {"_examined": "one row a source, of one bucket"},
    "memory.py": {"run_chain": "one source, for developing"},
    "pack/pack.py": {"_Images._source": "the portraits of one source"},
    "pack/samples.py": {"_Rows._of": "some thousand kept segments at a time"},
    "pack/vectors.py": {"SampleVectors.filled": "the samples of one shard"},
    "report/content.py": {"overview": "one row a split", "facts": "the page lists the whole quarantine"},
    "report/rows.py": {"read_rows": "queries with a LIMIT"},
    "report/timelines.py": {
        "_by_source": "of the sources that are drawn", "timelines": "of the sources that are drawn",
    },
    "report/pictures.py": {"Pictures._read": "one source"},
    "engine/source_state.py": {"SourceState._length_s": "one source", "SourceState.said": "labels of one source"},
    "pack/splits.py": {"split_warnings": "one row a split"},
    "report/status.py": {"_splits": "one row a split"},
    "engine/fingerprints.py": {"Fingerprints.unit_digests": "one source"},
    "export/samples.py": {"selected": "the samples whose media is written out"},
    "labels/corrections.py": {"_of_source": "one source", "_track": "one track"},
    "review/tune.py": {"_good": "what people judged"},
    "verify/files.py": {"_quarantined": "the whole quarantine"},
    "verify/samples.py": {"_pairs": "some thousand samples at a time", "differences": "of a batch of samples"},
    "engine/fetch.py": {"MediaCache._registered": "one source"},
    "forget/strip.py": {"_table": "one file", "_shards": "one sidecar"},
    "verify/__init__.py": {"_traces": "what was forgotten"},
    "verify/shards.py": {"_shard": "some hundred samples of one shard"},
}  # fmt: skip
"""Functions that make Python objects of a table's rows, and why these do not grow with the dataset."""

BY_SOURCE_OR_PERSON = {
    "decisions/progress.py": {"run_key"},
    "report/run_status.py": {"_under_way"},
    "storage/registry.py": {"_read"},
    "check/result.py": {"as_json"},
    "forget/forget.py": {"find", "_measured", "lift", "_record"},
    "labels/identities.py": {"present_name", "listing", "members", "tracks_of_sources", "_decision_rows", "_tracks"},
    "labels/labels.py": {"_heard", "find_source", "timeline", "export", "take_in", "_checked", "_partners", "_placed"},
    "engine/register.py": {"register"},
    "engine/run.py": {"_registered", "registered", "drop_orphans"},
}  # fmt: skip
"""Functions that hold the registry, the people or the tracks as Python objects: a few hundred bytes each."""


def rows_as_objects(file: Path) -> set[str]:
    """Return the functions of a file that call `to_pylist`, `TABLE.rows` or their like."""
    found: set[str] = set()

    def walk(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".lstrip(".")
            if isinstance(child, ast.Attribute) and child.attr in ("to_pylist", "to_pydict", "to_pandas", "fetchdf"):
                found.add(name)
            called = child.func if isinstance(child, ast.Call) else None
            # `Table.rows(arrow)` and `Column.values(arrow)`; a dict's own `values()` takes nothing
            if isinstance(called, ast.Attribute) and called.attr in ("rows", "values") and child.args:
                found.add(name)
            walk(child, inner)

    walk(ast.parse(file.read_text(encoding="utf-8")), "")
    return found


def test_no_table_that_grows_with_the_dataset_becomes_python_objects() -> None:
    for file in sorted((ROOT / "curation").rglob("*.py")):
        name = str(file.relative_to(ROOT / "curation"))
        allowed = set(BOUNDED.get(name, {})) | BY_SOURCE_OR_PERSON.get(name, set())
        found = rows_as_objects(file)
        assert found == allowed, f"{name}: use SQL or go slice by slice in {sorted(found - allowed)}"


# ------------------------------------------------------------------------------------------------ toy dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scale")
    specs: dict[str, Any] = {f"s{i}": {**GOOD, "duration_s": 10.0 + i} for i in range(6)}
    specs |= {
        "bad": {**GOOD, "duration_s": 17.0, "fail": "toy_scan"},
        "unit": {**GOOD, "duration_s": 18.0, "faces": [120, 130], "fail_track": 1},
        "small": {"duration_s": 19.0, "faces": [40]},
    }
    go(write_sources(root / "in", **specs), root / "out")
    return root / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def job(out: Path, **rules: str) -> Job:
    return Job(str(out), resolve(WORKFLOW), policy(**rules))


def ledger_bytes(out: Path) -> list[bytes]:
    return [(out / table_file(x)).read_bytes() for x in (t.DECISIONS, t.ERRORS)]


def test_slices_decide_and_count_like_the_whole(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Dataset(str(out)).slices()) == 1
    whole, counted = ledger_bytes(out), survey(Dataset(str(out)))
    monkeypatch.setattr(dataset, "SLICE_BYTES", 1)
    assert len(Dataset(str(out)).slices()) > 3
    account.write(job(out).stepper())
    assert ledger_bytes(out) == whole
    sliced = survey(Dataset(str(out)))
    assert (sliced.reasons, [b.counts for b in sliced.balances]) == (
        counted.reasons, [b.counts for b in counted.balances],
    )  # fmt: skip
    assert [s.count for s in sliced.funnel.steps] == [s.count for s in counted.funnel.steps]


def test_what_sources_have_come_to_is_looked_up_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account.write(job(out).stepper())  # of the copy: its files are newer than what is kept
    whole, looked = ledger_bytes(out), []
    examine = progress._examine
    monkeypatch.setattr(progress, "_examine", lambda stepper, s: looked.append(s) or examine(stepper, s))
    account.write(job(out).stepper())
    assert not looked and ledger_bytes(out) == whole
    looser = account.decide(job(out, face_size="median_face_px >= 1").stepper(), dry_run=True)
    assert not looked and looser.pending and ledger_bytes(out) == whole
    commit = next((out / "commits" / "toy_packing").rglob("*.json"))
    commit.unlink()
    (gone,) = (r for r in account.decide(job(out).stepper()).counts if r[0] == "sources")
    assert gone[2:] == ("pending", "toy_packing") and commit.stem in looked


def test_what_is_kept_may_be_deleted_and_other_settings_do_not_believe_it(out: Path) -> None:
    whole = ledger_bytes(out)
    shutil.rmtree(out / "progress")
    account.write(job(out).stepper())
    assert ledger_bytes(out) == whole
    changed = Job(str(out), resolve(WORKFLOW, ["toy_active.tweak=2"]), policy())
    assert account.decide(changed.stepper(), dry_run=True).pending


def test_deciding_again_needs_no_stage_as_long_as_none_can_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    go(write_sources(tmp_path / "in", good=GOOD, small={"duration_s": 19.0, "faces": [40]}), out)

    def refused() -> Stepper:
        raise AssertionError("a stage was asked for")

    monkeypatch.setattr(progress, "stamp", lambda workflow, code: "these stages")
    account.write(job(out).stepper())
    whole, store = ledger_bytes(out), Store(str(out))
    again = account.decide_by(store, policy(), progress.ProgressReader(store, "these stages", refused))
    assert not again.counts and not again.pending and ledger_bytes(out) == whole
    with pytest.raises(AssertionError, match="asked for"):
        progress.ProgressReader(store, "others", refused)
    next((out / "commits" / "toy_packing").rglob("*.json")).unlink()
    with pytest.raises(AssertionError, match="asked for"):
        account.decide_by(store, policy(), progress.ProgressReader(store, "these stages", refused))


def test_a_program_is_known_by_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = catalog.workflow("conversation")
    monkeypatch.setenv("OPENLPM_MODELS", str(tmp_path))
    before = stamp(built_in, {})
    assert before == stamp(built_in, {}) is not None
    (tmp_path / "weights.onnx").write_bytes(b"1")
    changed = built_in.model_copy(update={"window_s": 60.0})
    assert len({before, stamp(built_in, {}), stamp(changed, {}), stamp(built_in, {"mine.py": ""})}) == 4
    assert stamp(WORKFLOW, {}) is None and stamp(WORKFLOW, {"toy.py": "1"}) != stamp(WORKFLOW, {"toy.py": "2"})


def test_a_dry_run_of_packing_writes_nothing(out: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    done = pack(job(out), dry_run=True)
    kept = Dataset(str(out)).query("SELECT count(*) FROM decisions WHERE unit = 'segments' AND outcome = 'kept'")
    assert (done.index.samples, done.status) == (kept.fetchall()[0][0], "unwritten") and done.index.bytes > 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_tables_are_verified_without_opening_a_shard(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.verify.shards.broken", lambda *_: pytest.fail("a shard was opened"))
    before = {p.what for p in verify(Dataset(str(out)), shards=False)}
    file = next((out / "tables" / "tracks").rglob("*.parquet"))
    rows = Store(str(out)).read_table(str(file.relative_to(out)), t.TRACKS)
    moved = rows.set_column(rows.column_names.index("shot_id"), "shot_id", pa.array(["nowhere"] * rows.num_rows))
    file.write_bytes(parquet_bytes(moved))
    found = [p.what for p in verify(Dataset(str(out)), shards=False) if p.what not in before]
    assert len(found) == 2 and "changed since" in found[0] and found[1] == "tracks.shot_id nowhere has no row in shots"


def test_the_report_opens_measurements_of_the_sources_that_it_shows_only(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_SOURCES", 1)
    _, (shown,) = content.some_sources(Dataset(str(out)))
    for file in (out / "tables" / "asd_frames").rglob("*.parquet"):
        if file.stem != shown:
            file.write_bytes(b"no Parquet")
    assert shown in render(Dataset(str(out)))


# ------------------------------------------------------------------------------------------------ writing


def test_a_table_written_in_pieces_has_the_bytes_of_one_written_whole(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rows = t.ERRORS.from_rows(
        filled(t.ERRORS, source_id=f"{i:08d}", stage="x", message=f"m{i % 7}") for i in range(140_000)
    )
    for cuts in ([0, 140_000], [0, 1, 70_000, 131_072, 140_000], [0, 0]):
        with writing(store, "pieces.parquet", t.ERRORS) as append:
            for a, b in itertools.pairwise(cuts):
                append(rows.slice(a, b - a))
        assert store.read("pieces.parquet") == parquet_bytes(rows.slice(0, cuts[-1]).cast(t.ERRORS.described))
    with pytest.raises(TableError, match="repeats"), writing(store, "wrong.parquet", t.ERRORS) as append:
        append(rows.slice(0, 2))
        append(rows.slice(1, 1))
    assert not store.exists("wrong.parquet")


def test_samples_wider_than_memory_are_put_in_order_of_shards(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_spool, "MEMORY", "48MB")
    (first, *_) = kept_entries(Dataset(str(out)), {}, "p")
    noise = random.Random(1)
    ids = [f"{first.sample.sample_id[:16]}-{i:05d}" for i in range(200)]
    said = {i: noise.randbytes(200_000).hex() for i in ids}
    entries = (
        replace(first, sample=first.sample.model_copy(update={"sample_id": i, "text": said[i], "split": "train"}))
        for i in ids
    )
    with Spool(Store(str(out))) as spool:
        spool.fill(entries, PackSettings())
        assert spool.splits() == ["train"]
        places = [place for place, _ in spool.sizes("train")]
        found = [e.sample for e in spool.entries("train", places[0], places[-1])]
        assert [(s.sample_id, s.text) for s in found] == [(i, said[i]) for i in sorted(ids, key=_place)]
        runs = spool.runs(80)
        assert runs == [(ids[0], ids[79]), (ids[80], ids[159]), (ids[160], ids[199])]


def _place(sample_id: str) -> str:
    return hashlib.sha256(sample_id.encode()).hexdigest()
