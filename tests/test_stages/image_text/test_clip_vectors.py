"""The stages `clip_vectors` and `portrait_vectors`: what is embedded, and that nothing is without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from table_rows import row
from vector_case import searchable

from annotators.imagetext.embedder import mean_direction
from curation.engine.workflow import resolve
from curation.media.encode import encode_jpeg
from curation.memory import MemoryInputs
from curation.stage import StageSettings, WorkItem
from schemas import tables as t
from schemas.table import Table
from stages.image_text.clip_vectors import ClipVectors, ClipVectorsSettings
from stages.image_text.near_clips import NearClips
from stages.image_text.portrait_vectors import PortraitVectors, PortraitVectorsSettings

SOURCE = "ab" * 8
TRACK = f"{SOURCE}-t0000"
COLOURS = {"use": "vector_case:ColourWords"}
RED, BLUE = (200, 0, 0), (0, 0, 200)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds: red on the left and blue on the right; after one second the left turns blue too."""
    path = tmp_path_factory.mktemp("vectors") / "two.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 256, 128, "yuv420p", 4_000_000
        for k in range(50):
            picture = np.zeros((128, 256, 3), np.uint8)
            picture[:, :128], picture[:, 128:] = RED if k < 25 else BLUE, BLUE
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def _clips(media: Path, captions: dict[str, str], crops: dict[str, tuple[float, float, float]]) -> MemoryInputs:
    """Segments by name with the left edge of their crop, 128 px wide and high, and their times."""
    segments = [
        row(t.SEGMENTS, segment_id=i, source_id=SOURCE, track_id=TRACK, start_s=a, end_s=b, duration_s=b - a)
        for i, (_, a, b) in crops.items()
    ]
    plans = [
        row(t.CLIP_PLANS, segment_id=i, source_id=SOURCE, packed_short_px=64.0, crop_path=[0.0, x, 0.0, 128.0, 128.0])
        for i, (x, _, _) in crops.items()
    ]
    said = [row(t.CAPTIONS, segment_id=i, source_id=SOURCE, caption=text) for i, text in captions.items()]
    parts: dict[Table, list[pa.Table]] = {
        t.SEGMENTS: [t.SEGMENTS.from_rows(segments)],
        t.CLIP_PLANS: [t.CLIP_PLANS.from_rows(plans)],
        t.CAPTIONS: [t.CAPTIONS.from_rows(said)],
    }
    return MemoryInputs(media, parts)


def _run(inputs: MemoryInputs, units: tuple[str, ...], **settings: Any) -> Any:
    stage = ClipVectors(ClipVectorsSettings.model_validate({"embedder": COLOURS, **settings}))
    return stage.run(WorkItem(SOURCE, units=units), inputs)


def test_a_clips_vector_is_of_its_own_pictures_and_the_caption_is_held_against_it(media: Path) -> None:
    crops = {"left": (0.0, 0.0, 1.0), "right": (128.0, 0.0, 1.0), "both": (0.0, 0.0, 2.0)}
    inputs = _clips(media, {"left": "a red wall", "right": "a red wall", "both": ""}, crops)
    out = _run(inputs, tuple(crops))
    vectors = {r["segment_id"]: r for r in out.tables[t.CLIP_VECTORS].to_pylist()}
    np.testing.assert_allclose(vectors["left"]["vector"], [1, 0, 0], atol=0.1)
    np.testing.assert_allclose(vectors["right"]["vector"], [0, 0, 1], atol=0.1)
    np.testing.assert_allclose(vectors["both"]["vector"], mean_direction(np.eye(3, dtype=np.float32)[[0, 2]]), atol=0.1)
    assert {(r["n_frames"], r["annotator"]) for r in vectors.values()} == {(4, "colours")}
    scores = {r["segment_id"]: r for r in out.tables[t.CLIP_SCORES].to_pylist()}
    assert scores["left"]["caption_similarity"] == pytest.approx(1, abs=0.05)
    assert scores["right"]["caption_similarity"] == pytest.approx(0, abs=0.1)
    assert scores["both"]["caption_similarity"] is None and scores["left"]["aesthetic"] is None


def test_one_clip_alone_gets_the_vector_that_it_gets_among_others(media: Path) -> None:
    crops = {"a": (0.0, 0.0, 1.0), "b": (128.0, 0.4, 1.2)}
    inputs = _clips(media, {"a": "red", "b": "blue"}, crops)
    together, alone = _run(inputs, ("a", "b")), _run(inputs, ("b",))
    for table in (t.CLIP_VECTORS, t.CLIP_SCORES):
        assert together.tables[table].slice(1, 1).to_pylist() == alone.tables[table].to_pylist()


def test_a_head_scores_the_vector(media: Path, tmp_path: Path) -> None:
    head = torch.nn.Linear(3, 1)
    with torch.no_grad():
        head.weight[:] = torch.tensor([[5.0, 0.0, 1.0]])
        head.bias[:] = 2.0
    torch.save(head.state_dict(), tmp_path / "taste.pth")
    inputs = _clips(media, {}, {"left": (0.0, 0.0, 1.0), "right": (128.0, 0.0, 1.0)})
    laion = {"use": "laion", "model": str(tmp_path / "taste.pth")}
    rows = _run(inputs, ("left", "right"), aesthetic=laion).tables[t.CLIP_SCORES].to_pylist()
    assert [r["aesthetic"] for r in rows] == pytest.approx([7.0, 3.0], abs=0.3)
    assert {r["annotator"] for r in rows} == {"colours+aesthetic:taste"}
    chosen = ClipVectorsSettings.model_validate({"embedder": COLOURS, "aesthetic": laion}).provenance()
    assert chosen["aesthetic"] == "aesthetic:taste" and len(chosen["taste.pth"]) == 64


def test_a_clip_that_fails_harms_no_other(media: Path) -> None:
    inputs = _clips(media, {}, {"good": (0.0, 0.0, 1.0), "after": (0.0, 70.0, 71.0)})
    out = _run(inputs, ("good", "after", "unplanned"))
    assert out.tables[t.CLIP_VECTORS]["segment_id"].to_pylist() == ["good"]
    assert sorted(e.unit_id for e in out.errors) == ["after", "unplanned"]


def _portraits(parts: dict[int, list[float]]) -> MemoryInputs:
    """Portraits at k that are red on the left and blue on the right, of which a part may be taken."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = RED, BLUE
    tracklet = f"{SOURCE}-w0000-000"
    faces = [row(t.FACE_EMBEDDINGS, track_id=TRACK, source_id=SOURCE, k=k, part_xywh=p) for k, p in parts.items()]
    images = [
        row(t.PORTRAITS, tracklet_id=tracklet, source_id=SOURCE, k=k, image=encode_jpeg(picture)) for k in range(9)
    ]
    tracklets = [row(t.TRACKLETS, tracklet_id=tracklet, source_id=SOURCE, track_id=TRACK)]
    return MemoryInputs(
        Path("unread"),
        {
            t.FACE_EMBEDDINGS: [t.FACE_EMBEDDINGS.from_rows(faces)],
            t.PORTRAITS: [t.PORTRAITS.from_rows(images)],
            t.TRACKLETS: [t.TRACKLETS.from_rows(tracklets)],
        },
    )


def test_a_portraits_vector_is_of_the_part_that_is_the_reference() -> None:
    stage = PortraitVectors(PortraitVectorsSettings.model_validate({"embedder": COLOURS}))
    inputs = _portraits({5: [], 2: [0.0, 0.0, 0.4, 1.0]})
    rows = stage.run(WorkItem(SOURCE, units=(TRACK, f"{SOURCE}-t0001")), inputs).tables[t.PORTRAIT_VECTORS].to_pylist()
    assert [(r["track_id"], r["k"]) for r in rows] == [(TRACK, 2), (TRACK, 5)]
    np.testing.assert_allclose(rows[0]["vector"], [1, 0, 0], atol=0.1)
    np.testing.assert_allclose(rows[1]["vector"], [0.7, 0, 0.7], atol=0.1)


def test_without_a_model_nothing_is_decoded_and_the_tables_stay_empty() -> None:
    inputs = MemoryInputs(Path("there is no such file"), {})
    for stage in (
        ClipVectors(ClipVectorsSettings.model_validate({"aesthetic": {"use": "laion", "model": "unread.pth"}})),
        PortraitVectors(PortraitVectorsSettings.model_validate({})),
    ):
        out = stage.run(WorkItem(SOURCE, units=(TRACK,)), inputs)
        assert [rows.num_rows for rows in out.tables.values()] == [0] * len(stage.writes) and not out.errors
    unused = ClipVectorsSettings.model_validate({"aesthetic": {"use": "laion", "model": "unread.pth"}})
    assert unused.provenance() == {"embedder": "none"}


def test_one_line_of_a_workflow_chooses_the_model_for_both_stages() -> None:
    pipeline = resolve(searchable({}), ["shared.image_text=vector_case:ColourWords"])
    for table in (t.CLIP_VECTORS, t.PORTRAIT_VECTORS):
        stage = pipeline.writer(table)
        assert stage is not None and stage.provenance()["embedder"] == "colours"


def test_the_first_of_clips_that_show_the_same_has_no_near_clip() -> None:
    clips = {"a-1": [1.0, 0.0], "a-2": [1.0, 0.0], "b-1": [0.6, 0.8], "c-1": [1.0, 0.0], "c-2": [0.0, 1.0]}
    rows = [row(t.CLIP_VECTORS, segment_id=i, source_id=i[0], vector=v) for i, v in clips.items()]
    inputs = MemoryInputs(Path("unread"), {t.CLIP_VECTORS: [t.CLIP_VECTORS.from_rows(rows)]})
    out = NearClips(StageSettings()).run(WorkItem(), inputs).tables[t.NEAR_CLIPS].to_pylist()
    near = {r["segment_id"]: (r["near_clip"], r["near_clip_similarity"]) for r in out}
    assert near["a-1"] == near["a-2"] == (None, None)
    assert near["b-1"] == ("a-1", pytest.approx(0.6)) and near["c-1"] == ("a-1", pytest.approx(1.0))
    assert near["c-2"] == ("b-1", pytest.approx(0.8))
    nothing = NearClips(StageSettings()).run(WorkItem(), MemoryInputs(Path("unread"), {}))
    assert nothing.tables[t.NEAR_CLIPS].num_rows == 0
