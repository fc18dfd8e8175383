"""Packed datasets in the readers that people have: every sample has the same members, every column says what it is."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import reader_case
import soundfile
import webdataset
import yaml
from PIL import Image
from torch.utils.data import DataLoader

from curation.dataset import Dataset, DatasetError
from curation.export import fiftyone, lerobot, webdataset_shards
from curation.export.samples import ExportError, selected
from curation.publish import croissant
from curation.publish.card import render
from curation.publish.errors import PublishError
from curation.publish.figures import figures
from curation.storage.store import Store, table_file
from lpm_train.data.shards import Shards
from schemas import tables as t
from schemas.samples.members import MEMBERS, NO_REFERENCE, pictures
from schemas.tables.output import FORMER_KEY

COUNTS = [0, 1, 2, 3, 0, 1, 2, 3]
UNCLOSED = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its files to the collector


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = reader_case.packed(tmp_path_factory.mktemp("readers") / "d")
    dataset.write_catalog()
    return dataset


def urls(dataset: Dataset) -> list[str]:
    return sorted(str(p) for p in Path(dataset.store.root, "shards").glob("*.tar"))


def further(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        return files.getnames()


def test_every_sample_has_the_same_members(made: Dataset) -> None:
    rows = t.MANIFEST.rows(made.table(t.MANIFEST))
    assert [len(r.reference_names) for r in rows] == COUNTS
    assert all([m["name"] for m in r.members] == [f"{r.segment_id}.{s}" for s in MEMBERS] for r in rows)
    shards = Shards(made.store.root)
    for r in rows:
        assert len(shards.pictures(shards[r.segment_id], r.reference_names)) == r.n_references
    none = shards.read(shards[rows[0].segment_id], ["ref.jpg", "refs.tar"])
    assert none["ref.jpg"] == NO_REFERENCE and further(none["refs.tar"]) == []
    assert Image.open(io.BytesIO(NO_REFERENCE)).convert("RGB").size == (1, 1)


@UNCLOSED
def test_webdataset_and_the_loader_of_torch_batch_what_they_decode(made: Dataset) -> None:
    def useful(sample: dict[str, Any]) -> tuple[str, Any, Any, int]:
        wave, _ = soundfile.read(io.BytesIO(sample["speak.flac"]), dtype="float32")
        return sample["__key__"], np.asarray(sample["ref.jpg"]).shape[-1], wave, len(further(sample["refs.tar"]))

    # Its own decoder of FLAC needs torchaudio with a codec; sound is read as a user without one would.
    read = webdataset.WebDataset(urls(made), shardshuffle=False).decode("pil", only=["ref.jpg", "json"]).map(useful)
    keys, channels, waves, more = zip(*DataLoader(read, batch_size=4), strict=True)
    assert [k for batch in keys for k in batch] == list(Shards(made.store.root).ids)
    assert all(batch.shape == (4, 8 * 1920) for batch in waves) and {int(c) for b in channels for c in b} == {3}
    assert [int(n) for batch in more for n in batch] == [max(0, n - 1) for n in COUNTS]


def test_pandas_and_duckdb_read_the_manifest_and_what_its_columns_mean(made: Dataset) -> None:
    file = Path(made.store.root, "manifest.parquet")
    frame = pd.read_parquet(file)
    assert set(frame["rights_holder"]) == {"none: synthetic"} and set(frame["uri"]) == {"/footage/puppet.mp4"}
    assert {"name", "consent", "license"} <= set(frame.columns)
    for column in pq.read_schema(file):
        assert column.metadata[b"comment"], column.name
    assert pq.read_schema(file).field("duration_s").metadata[b"unit"] == b"s"
    with contextlib.closing(duckdb.connect(str(file.parent / "catalog.duckdb"), read_only=True)) as con:
        bare = con.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal"
        )
        assert [x for x in bare.fetchall() if not x[0].startswith(("units_", "rights"))] == []


def test_a_catalogue_travels_with_its_folder(made: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "it's a copy"
    shutil.copytree(made.store.root, copy)
    rows = made.table(t.MANIFEST).slice(0, 3)
    Store(str(copy)).write_table(table_file(t.MANIFEST), t.MANIFEST, rows)
    with contextlib.closing(duckdb.connect(str(copy / "catalog.duckdb"), read_only=True)) as con:
        con.execute("SET file_search_path = $1", [str(copy)])
        assert con.execute("SELECT count(*) FROM manifest").fetchall() == [(3,)]
    monkeypatch.chdir(copy)
    with contextlib.closing(duckdb.connect("catalog.duckdb", read_only=True)) as con:
        assert con.execute("SELECT count(segment_id) FROM manifest").fetchall() == [(3,)]


def test_a_manifest_of_before_is_read_and_a_query_of_before_is_told_the_name(made: Dataset, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(made.store.root, old)
    rows = made.table(t.MANIFEST).rename_columns({"segment_id": FORMER_KEY}).drop_columns(["uri", "reference_names"])
    pq.write_table(rows, old / "manifest.parquet")
    dataset = Dataset(str(old))
    dataset.write_catalog()
    ids = made.table(t.MANIFEST)["segment_id"].to_pylist()
    assert dataset.table(t.MANIFEST, ["segment_id", "uri"])["segment_id"].to_pylist() == ids == list(Shards(old).ids)
    assert dataset.query("SELECT count(segment_id) FROM manifest").fetchall() == [(len(ids),)]
    with pytest.raises(DatasetError, match="key is segment_id, as in every table"):
        dataset.query("SELECT sample_id FROM manifest")


def test_references_of_before_are_members_of_their_own() -> None:
    members = {"ref_global_0.jpg": b"a", "ref_view_0.jpg": b"b"}
    assert pictures(members, ["ref_view_0.jpg"]) == {"ref_view_0.jpg": b"b"}


@UNCLOSED
def test_a_part_is_written_as_webdataset_shards_of_its_own(made: Dataset, tmp_path: Path) -> None:
    rows = selected(made, "n_references > 0")
    files = webdataset_shards.export(made, rows, tmp_path / "100%", max_samples=4)
    assert [f.name for f in files] == ["train-000000.tar", "train-000001.tar"]
    read = {s["__key__"]: s for s in webdataset.WebDataset([str(f) for f in files], shardshuffle=False)}
    assert list(read) == sorted(r.segment_id for r in rows) and len(read) == 6
    shards = Shards(made.store.root)
    for segment_id, sample in read.items():
        assert {m: sample[m] for m in MEMBERS} == shards.read(shards[segment_id], MEMBERS)
    small = webdataset_shards.export(made, rows, tmp_path / "again", max_samples=4)
    assert [f.read_bytes() for f in small] == [f.read_bytes() for f in files]
    with pytest.raises(ExportError, match="not an empty folder"):
        webdataset_shards.export(made, rows, tmp_path / "100%")


def test_fiftyones_import_folder_holds_each_clip_and_its_states(made: Dataset, tmp_path: Path) -> None:
    rows = selected(made, None)
    assert fiftyone.export(made, rows, tmp_path / "fo") == 8
    labels = json.loads((tmp_path / "fo" / "labels.json").read_text())["labels"]
    assert set(labels) == {p.stem for p in (tmp_path / "fo" / "data").glob("*.mp4")}
    for states in labels.values():
        assert states[0]["support"][0] == 1 and states[-1]["support"][1] == 8
        assert all(a["support"][1] < b["support"][0] for a, b in itertools.pairwise(states))
    with pytest.raises(ExportError, match="not an empty folder"):
        fiftyone.export(made, rows, tmp_path / "fo")


def test_lerobots_folder_holds_a_row_a_frame_and_an_episode_a_clip(made: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "robot"
    assert lerobot.export(made, selected(made, "n_references > 0"), out) == (6, 0)
    info = json.loads((out / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0" and (info["total_episodes"], info["total_frames"]) == (6, 48)
    frames = pd.read_parquet(out / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(frames) | {lerobot.VIDEO} == set(info["features"])
    tasks = pd.read_parquet(out / "meta" / "tasks.parquet")
    shards = Shards(made.store.root)
    for one in pq.read_table(out / "meta" / "episodes").to_pylist():
        mine = frames[one["dataset_from_index"] : one["dataset_to_index"]]
        assert set(mine["episode_index"]) == {one["episode_index"]} and len(mine) == one["length"] == 8
        assert set(mine["task_index"]) == {tasks.loc[one["tasks"][0], "task_index"]}
        members = shards.read(shards[one["segment_id"]], ["mp4", "listen.flac"])
        place = {k: one[f"videos/{lerobot.VIDEO}/{k}"] for k in ("chunk_index", "file_index")}
        assert (out / info["video_path"].format(video_key=lerobot.VIDEO, **place)).read_bytes() == members["mp4"]
        wave, _ = soundfile.read(io.BytesIO(members["listen.flac"]), dtype="float32")
        assert np.array_equal(np.concatenate(list(mine["observation.listen"])), wave)
        assert set(mine["state"]) <= {"speak", "listen", "idle", "both"}
    for wrong in ("no such", "1=1) OR (1=1", "true ORDER BY 1"):
        with pytest.raises(ExportError, match="not a condition"):
            selected(made, wrong)


def test_the_card_counts_what_is_there_and_names_what_is_not_known(made: Dataset) -> None:
    found = figures(made)
    text = render(found, "Puppets | <b>")
    _, front, body = text.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "cc0-1.0" and head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "shards/train-*.tar"}]
    assert [c["name"] for c in head["dataset_info"]["features"][:6]] == list(MEMBERS)
    assert "# Puppets \\| &lt;b>" in body and "| train | 8 |" in body and "| no reference image | 2 | 25.0 % |" in body
    assert "no precision is known" in body
    with pytest.raises(PublishError, match="nothing is packed"):
        empty = Store(made.store.root + "-empty")
        empty.write_json("dataset.json", {"format": 1, "name": "openlpm"})
        figures(Dataset(empty.uri))


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_finds_nothing_wrong_and_reads_the_samples(made: Dataset) -> None:
    import mlcroissant

    said = croissant.metadata(made, figures(made), "Puppets", "https://example.org/puppets", "2026-11-23")
    file = Path(made.store.root, croissant.FILE)
    file.write_text(json.dumps(said), encoding="utf-8")
    read = mlcroissant.Dataset(file)
    assert not read.metadata.ctx.issues.errors and not read.metadata.ctx.issues.warnings
    assert read.metadata.data_biases and read.metadata.data_limitations and read.metadata.personal_sensitive_information
    rows = list(read.records("samples"))
    assert [r["samples/segment_id"].decode() for r in rows] == list(Shards(made.store.root).ids)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("streaming", [True, False])
def test_hugging_face_loads_the_folder_by_its_card(made: Dataset, streaming: bool, tmp_path: Path) -> None:
    import datasets

    Path(made.store.root, "README.md").write_text(render(figures(made), "Puppets"), encoding="utf-8")
    read = datasets.load_dataset(made.store.root, split="train", streaming=streaming, cache_dir=str(tmp_path))
    rows = list(read)
    assert sorted(r["__key__"] for r in rows) == list(Shards(made.store.root).ids)
    assert {r["json"]["text"] for r in rows} == {"hello", None} and {r["ref.jpg"].mode for r in rows} == {"RGB"}
    assert sorted(len(further(r["refs.tar"])) for r in rows) == sorted(max(0, n - 1) for n in COUNTS)
    assert soundfile.info(io.BytesIO(rows[0]["speak.flac"])).frames == 8 * 1920


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_the_rows_of_the_lerobot_folder_have_the_types_that_it_declares(made: Dataset, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "robot"
    lerobot.export(made, selected(made, None), out)
    info = json.loads((out / "meta" / "info.json").read_text())
    features = {name: f for name, f in info["features"].items() if name != lerobot.VIDEO}
    shown = {name: (datasets.Value(f["dtype"]), f["shape"][0]) for name, f in features.items()}
    kinds = {name: kind if n == 1 else datasets.Sequence(kind, n) for name, (kind, n) in shown.items()}
    rows = datasets.Dataset.from_parquet(
        str(out / "data/*/*.parquet"), features=datasets.Features(kinds), cache_dir=str(tmp_path / "c")
    )
    assert len(rows) == info["total_frames"] == 64


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ray_data_reads_the_shards(made: Dataset) -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    try:
        read = ray.data.read_webdataset(urls(made), suffixes=["json", "ref.jpg", "refs.tar", "speak.flac"])
        rows = read.take_all()
    finally:
        ray.shutdown()
    assert sorted(r["__key__"] for r in rows) == list(Shards(made.store.root).ids)
    assert {r["json"]["state"] for r in rows} <= {"speak", "listen", "idle", "both"}
    assert sorted(len(further(r["refs.tar"])) for r in rows) == sorted(max(0, n - 1) for n in COUNTS)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_daft_reads_manifest_and_shards(made: Dataset) -> None:
    import daft

    listed = daft.read_parquet(str(Path(made.store.root, "manifest.parquet")))
    assert listed.where(listed["n_references"] > 1).count_rows() == 4
    keys: list[str] = []
    for shard in urls(made):  # several at once stand still on a machine of two cores
        read = daft.read_webdataset(shard).exclude("json").select("__key__", "mp4", "ref.jpg", "refs.tar").to_pydict()
        keys += read["__key__"]
        with read["refs.tar"][0].open() as file:
            assert tarfile.is_tarfile(file)
    assert sorted(keys) == list(Shards(made.store.root).ids)
