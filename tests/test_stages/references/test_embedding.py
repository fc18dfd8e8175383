"""Portraits of a track: which are chosen, how they are aligned and labelled, and that people are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from footage import frames
from hypothesis import given
from hypothesis import strategies as st
from table_rows import face_series, row, source_row

from annotators.face.alignment import eye_corners_and_nose_from_five
from annotators.face.boxes import crop_box, cut_square
from annotators.face.dlib_embedder import FaceEmbedder
from annotators.face.faces import FaceDetector
from annotators.face.landmarker import FaceLandmarker
from annotators.face.mesh import eye_corners_and_nose, five_points, mesh_box, to_frame
from curation.media.encode import encode_jpeg
from curation.memory import MemoryInputs, run_chain
from curation.stage import WorkItem
from schemas import tables as t
from schemas.tables.scan import LayoutRow
from stages.clip_plan.framing import Rect
from stages.face_series import Series
from stages.identity.identity import Identity, IdentitySettings
from stages.references.embedding import Embedding, EmbeddingSettings
from stages.references.portrait_text import clear_part, portrait_rect, text_share
from stages.references.portraits import Candidate, choose, light_factor

SOURCE = "cd" * 8


def _candidate(k: int, quality: float = 0.8, yaw: float = 0.0, expression: str = "neutral") -> Candidate:
    return Candidate(k, k / 25, quality, yaw, 0.0, expression)


# ------------------------------------------------------------------ choosing


def test_the_best_comes_first_and_variety_next() -> None:
    pool = [_candidate(0, 0.9), _candidate(25, 0.89), _candidate(50, 0.7, 30), _candidate(75, 0.6, 0, "smile")]
    assert [c.k for c in choose(pool, 3)] == [0, 50, 75]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-80, 80), st.sampled_from(["neutral", "smile"])), max_size=12))
def test_choosing_takes_what_there_is_in_any_order(spec: list[tuple[float, float, str]]) -> None:
    pool = [_candidate(k, *facts) for k, facts in enumerate(spec)]
    chosen = choose(pool, 5)
    assert len(chosen) == min(5, len(pool)) == len({c.k for c in chosen})
    assert choose(pool[::-1], 5) == chosen


def test_poses_that_were_not_measured_do_not_matter() -> None:
    pool = [Candidate(k, float(k), 0.5, np.nan, np.nan, "unknown") for k in range(3)]
    assert len(choose(pool, 2)) == 2


def test_light_is_a_ramp_that_spares_dark_skin() -> None:
    assert light_factor(4) == 0 and light_factor(50) == 1 and light_factor(200) == 1
    assert 0 < light_factor(30) < 1 and light_factor(250) == pytest.approx(0.2)


# ------------------------------------------------------------------ text over a portrait


def _column(**values: float) -> Series:
    return face_series([50], **{name: [v] for name, v in values.items()})


def layout_row(k: int, boxes: list[float]) -> LayoutRow:
    return row(t.LAYOUT, k=k, text_boxes=boxes)


def test_a_portraits_place_is_that_of_the_scan() -> None:
    rect = portrait_rect(_column(x=500.0, y=300.0, w=80.0, h=100.0), 0, (1000, 1000))
    assert rect is not None
    assert (rect.x0, rect.x1) == pytest.approx((0.43, 0.65)) and (rect.y0, rect.y1) == pytest.approx((0.25, 0.47))
    edge = portrait_rect(_column(x=0.0, y=0.0, w=80.0, h=100.0), 0, (1000, 1000))
    assert edge is not None and edge.x0 == edge.y0 == 0
    assert portrait_rect(_column(x=0.0, y=0.0, w=1.0, h=1.0), 1, (10, 10)) is None


@given(st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0, 0.1)), max_size=5), st.integers(0, 200))
def test_text_over_a_portrait_is_a_share_of_it(spots: list[tuple[float, float, float]], k: int) -> None:
    boxes = [x for a, b, d in spots for x in (a, b, a + d, b + d)]
    layout = [layout_row(0, boxes), layout_row(100, [])]
    share = text_share(layout, k, Rect(0.4, 0.2, 0.7, 0.5))
    assert share is not None and 0 <= share <= 1
    if k > 100 or all(b >= 0.5 or a >= 0.7 for a, b, _ in spots):
        assert share == 0
    assert text_share(layout, k, None) is None and text_share([], k, Rect(0, 0, 1, 1)) is None


def test_text_on_either_side_in_time_counts() -> None:
    layout = [layout_row(0, []), layout_row(50, [0.4, 0.4, 0.6, 0.5]), layout_row(100, [])]
    rect = Rect(0.3, 0.2, 0.7, 0.6)
    assert [text_share(layout, k, rect) for k in (0, 20, 50, 80, 100)] == pytest.approx([0, 0.125, 0.125, 0.125, 0])
    assert [text_share(layout, k, rect, 25) for k in (0, 24, 100)] == pytest.approx([0, 0.125, 0])
    assert [text_share(layout, k, rect, 50) for k in (0, 100)] == pytest.approx([0.125, 0.125])


# ------------------------------------------------------------------ real faces


@pytest.fixture(scope="module")
def faces(media: Path) -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """(picture, mesh points, mesh) of three frames of two people."""
    found = []
    detector, landmarker = FaceDetector(), FaceLandmarker()
    try:
        for name, step_s, limit in (("talk_woman_studio.mp4", 3.0, 2), ("expressive_woman_silent.mp4", 4.0, 1)):
            for _, frame in frames(media / name, step_s, limit):
                rgb = frame.to_ndarray(format="rgb24")
                square = crop_box(detector.detect(rgb)[0], 1.7)
                mesh = landmarker.landmarks(cut_square(rgb, square, 256))
                assert mesh is not None
                found.append((rgb, to_frame(mesh.points.copy(), square, 256), mesh))
    finally:
        detector.close()
        landmarker.close()
    return found


def test_portrait_points_align_nearly_as_well_as_the_mesh(faces: Any) -> None:
    embedder = FaceEmbedder()
    for rgb, points, _ in faces:
        by_mesh = embedder.embed(embedder.chip(rgb, eye_corners_and_nose(points)))
        by_five = embedder.embed(embedder.chip(rgb, eye_corners_and_nose_from_five(five_points(points))))
        assert np.linalg.norm(by_mesh - by_five) < 0.2


def test_points_that_are_no_face_are_refused() -> None:
    with pytest.raises(ValueError, match="one place"):
        eye_corners_and_nose_from_five(np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match="five finite"):
        eye_corners_and_nose_from_five(np.full((5, 2), np.nan, np.float32))


def _track(faces: Any, dark: bool = False) -> dict[Any, list[pa.Table]]:
    tracklet = f"{SOURCE}-w0000-000"
    portraits, shown = [], []
    for n, (rgb, points, mesh) in enumerate(faces):
        picture = (rgb // 20) if dark else rgb
        box = mesh_box(points)
        ids = {"source_id": SOURCE, "tracklet_id": tracklet, "k": 25 * n, "t_s": float(n)}
        portraits.append(
            row(
                t.PORTRAITS, **ids, image=encode_jpeg(picture), face_xywh=[box.x, box.y, box.w, box.h],
                points_xy=five_points(points).ravel().tolist(), face_px=min(box.w, box.h), sharpness=40.0,
                luma_mean=float(picture.mean()),
            )
        )  # fmt: skip
        pose = {"yaw_deg": mesh.yaw_deg, "pitch_deg": mesh.pitch_deg, "eye_open": 0.3}
        shown.append(row(t.FACE_FRAMES, **ids, **pose, has_mesh=True, blendshapes=mesh.blendshapes))
    shown.append(row(t.FACE_FRAMES, source_id=SOURCE, tracklet_id=tracklet, k=999))  # a frame without a mesh
    height, width = faces[0][0].shape[:2]
    return {
        t.SOURCES: [t.SOURCES.from_rows([source_row(SOURCE, width=width, height=height)])],
        t.LAYOUT: [t.LAYOUT.empty()],
        t.TRACKLETS: [t.TRACKLETS.from_rows([{"tracklet_id": tracklet, "source_id": SOURCE, "track_id": "one"}])],
        t.PORTRAITS: [t.PORTRAITS.from_rows(portraits)],
        t.FACE_FRAMES: [t.FACE_FRAMES.from_rows(shown)],
    }


def test_the_stage_embeds_labels_and_reports(faces: Any) -> None:
    stage = Embedding(EmbeddingSettings(backend="dlib", n_portraits=2))
    out = stage.run(WorkItem(SOURCE, units=("one", "none")), MemoryInputs(Path("none"), _track(faces)))
    rows = out.tables[t.FACE_EMBEDDINGS].to_pylist()
    assert len(rows) == 2 and {r["track_id"] for r in rows} == {"one"}
    assert all(len(r["embedding"]) == 128 and 0 < r["quality"] <= 1 and r["view"] == "frontal" for r in rows)
    assert [e.unit_id for e in out.errors] == ["none"] and "no portrait" in out.errors[0].message
    dark = stage.run(WorkItem(SOURCE, units=("one",)), MemoryInputs(Path("none"), _track(faces, dark=True)))
    assert max(dark.tables[t.FACE_EMBEDDINGS]["quality"].to_pylist()) < 0.05


def test_several_sources_together_are_embedded_as_each_alone(faces: Any) -> None:
    stage = Embedding(EmbeddingSettings(n_portraits=2))
    batches: list[int] = []

    class Batched:
        name, weights = "batched", ()

        def embed_many(self, portraits: Any) -> list[Any]:
            batches.append(len(portraits))
            return [np.array([portrait[0].mean(), 1.0], np.float32) for portrait in portraits]

    stage._embedder = Batched()  # type: ignore[assignment]
    work = [
        (WorkItem(SOURCE, units=units), MemoryInputs(Path("none"), _track(faces, dark)))
        for units, dark in ((("one", "none"), False), (("one",), True), ((), False))
    ]
    together = stage.run_many(work)
    assert batches == [4]
    for (item, inputs), found in zip(work, together, strict=True):
        alone = stage.run(item, inputs)
        assert found.tables == alone.tables and found.errors == alone.errors


@pytest.mark.slow
def test_people_of_real_footage(media: Path) -> None:
    from stages.scan.scan import Scan, ScanSettings
    from stages.sources.probe import Probe, ProbeSettings
    from stages.tracks.tracks import Tracks, TracksSettings

    parts: dict[Any, list[pa.Table]] = {}
    chain = [Probe(ProbeSettings()), Scan(ScanSettings()), Tracks(TracksSettings()), Embedding(EmbeddingSettings())]
    names = {"interview_cuts.mp4": "a" * 16, "talk_woman_garden.mp4": "b" * 16, "expressive_woman_silent.mp4": "c" * 16}
    for name, source in names.items():
        for table, found in run_chain(media / name, chain, source_id=source, duration_s=20.0).items():
            parts.setdefault(table, []).extend(found)
    inputs = MemoryInputs(Path("none"), parts)
    out = Identity(IdentitySettings()).run(WorkItem(), inputs)
    who = {r["track_id"]: r["identity_id"] for r in out.tables[t.TRACK_IDENTITIES].to_pylist()}
    first, second, third, fourth, fifth, garden, other = [who[k] for k in sorted(who)]
    assert first == garden and second == fourth == fifth  # talker; listener in three shots
    assert len({first, second, third, other}) == 4


_places = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(
    lambda p: (min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3]))
)


@given(st.lists(_places, min_size=1, max_size=5))
def test_the_clear_part_of_a_portrait_holds_the_head_and_no_text(
    boxes: list[tuple[float, float, float, float]],
) -> None:
    layout = [layout_row(0, [v for box in boxes for v in box])]
    rect, face = Rect(0.1, 0.1, 0.9, 0.9), Rect(0.4, 0.3, 0.6, 0.5)
    part = clear_part(layout, 0, rect, face)
    if part is not None:
        assert text_share(layout, 0, part) == pytest.approx(0)
        assert rect.x0 <= part.x0 <= face.x0 and face.x1 <= part.x1 <= rect.x1
        assert rect.y0 <= part.y0 <= face.y0 and face.y1 <= part.y1 <= rect.y1


def test_captions_below_a_face_are_cut_off_and_text_on_it_is_not() -> None:
    rect, face = Rect(0.1, 0.1, 0.9, 0.9), Rect(0.4, 0.3, 0.6, 0.5)
    captions = [layout_row(0, [0.2, 0.7, 0.8, 0.75])]
    assert clear_part(captions, 10, rect, face) == Rect(0.1, 0.1, 0.9, 0.7)
    assert clear_part([layout_row(0, [0.3, 0.4, 0.7, 0.45])], 0, rect, face) is None
    assert clear_part([layout_row(0, [])], 0, rect, face) is None
