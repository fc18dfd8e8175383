"""The stage `body`: who is looked at when, in source pixels, and what happens without the networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
from body_factory import body
from speech_media import need
from table_rows import row, source_row

from annotators.body.analyzer import WEIGHTS, MediaPipeBody
from annotators.face.faces import FaceDetector
from annotators.models import weights
from annotators.models.pruning import without_output
from annotators.models.tflite import TfliteNetwork
from annotators.protocols import Box, Image
from annotators.protocols_body import SHOULDERS, Body
from annotators.shipped import NO_BODY
from curation.memory import MemoryInputs
from curation.stage import WorkItem
from schemas import tables as t
from schemas.tables.pairing import SegmentRow
from stages.performance.body import BodySettings, BodyStage, looked_at
from workflows.stand_ins import sentence

SOURCE = "cd" * 8
LENGTH_S = 3.0


class Pretend:
    """An analyzer that finds every body but at odd calls, and remembers what it was shown and handed."""

    name = "pretend"
    weights: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.shown: list[tuple[tuple[int, ...], Box, int]] = []
        self.handed: list[Body | None] = []
        self.found: list[Body | None] = []

    def measure(
        self, rgb: Image, face: Box, others: Sequence[Box] = (), hands: bool = True, before: Body | None = None
    ) -> Body | None:
        self.shown.append((rgb.shape, face, len(others)))
        self.handed.append(before)
        self.found.append(self._see(rgb))
        return self.found[-1]

    def _see(self, rgb: Image) -> Body | None:
        return None if len(self.shown) % 2 else body()

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of grey at 25 frames a second, 1280 x 960."""
    path = tmp_path_factory.mktemp("body") / "grey.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 960, "yuv420p"
        for k in range(round(25 * LENGTH_S)):
            grey = np.full((960, 1280, 3), k, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(stream.encode())
    return path


def _segment(start_s: float, end_s: float, person: int = 0) -> SegmentRow:
    track = f"{SOURCE}-t{person}"
    times = {"start_s": start_s, "end_s": end_s, "duration_s": end_s - start_s}
    return row(
        t.SEGMENTS,
        segment_id=f"{track}-{round(1000 * start_s)}",
        source_id=SOURCE,
        track_id=track,
        state="speak",
        **times,
    )


def _inputs(clip: Path, segments: Sequence[SegmentRow], people: int = 1) -> MemoryInputs:
    frames = [
        row(t.FACE_FRAMES, source_id=SOURCE, tracklet_id=f"{SOURCE}-w0000-{p:03d}", k=k, t_s=k / 25,
            x=580.0 + 300 * p, y=140.0, w=120.0, h=160.0, has_mesh=True)
        for p in range(people) for k in range(75)
    ]  # fmt: skip
    tracklets = [
        {"tracklet_id": f"{SOURCE}-w0000-{p:03d}", "source_id": SOURCE, "track_id": f"{SOURCE}-t{p}"}
        for p in range(people)
    ]
    parts: dict[Any, list[pa.Table]] = {
        t.SOURCES: [t.SOURCES.from_rows([source_row(SOURCE, width=1280, height=960)])],
        t.TRACKLETS: [t.TRACKLETS.from_rows(tracklets)],
        t.FACE_FRAMES: [t.FACE_FRAMES.from_rows(frames)],
        t.SEGMENTS: [t.SEGMENTS.from_rows(segments)],
        t.LAYOUT: [t.LAYOUT.empty()],
    }
    return MemoryInputs(clip, parts)


def _item(segments: Sequence[SegmentRow]) -> WorkItem:
    return WorkItem(SOURCE, units=tuple(s.segment_id for s in segments))


def test_bodies_are_looked_at_up_to_five_times_a_second_in_source_pixels(clip: Path) -> None:
    segments = [_segment(0.1, 1.0), _segment(0.5, 1.0, person=1)]
    analyzer = Pretend()
    stage = BodyStage(BodySettings(max_side_px=640), analyzer)
    out = stage.run(_item(segments), _inputs(clip, segments, people=2))
    assert looked_at(segments[0], 5) == [5, 10, 15, 20] and looked_at(segments[1], 5) == [15, 20]
    assert [shape for shape, _, _ in analyzer.shown] == [(480, 640, 3)] * 6
    assert {(face.x, face.w) for _, face, _ in analyzer.shown} == {(290.0, 60.0), (440.0, 60.0)}
    assert {others for _, _, others in analyzer.shown} == {1}
    rows = out.tables[t.BODY_FRAMES].to_pylist()
    assert len(rows) == 3 and {r["annotator"] for r in rows} == {"pretend"}
    assert rows[0]["shoulders_xy"] == [740.0, 360.0, 540.0, 360.0] and rows[0]["shoulder_width"] == pytest.approx(200)
    told = {r["segment_id"]: r for r in out.tables[t.BODIES].to_pylist()}
    assert [told[s["segment_id"]]["n_looked_at"] for s in segments] == [4, 2]
    ratios = [told[s["segment_id"]]["measured_ratio"] for s in segments]
    assert ratios == [0.25, 1.0] == [told[s["segment_id"]]["hands_visible_ratio"] for s in segments]


def test_while_no_wrist_is_in_view_every_second_look_is_passed_over(clip: Path) -> None:
    class HandsRise(Pretend):
        def _see(self, rgb: Image) -> Body | None:
            return (
                body()
                if len(self.shown) in {4, 5, 6}
                else body(visibility=np.zeros(33, np.float32), hands=(None, None))
            )

    segment = _segment(0.0, 2.0)
    analyzer = HandsRise()
    out = BodyStage(BodySettings(), analyzer).run(_item([segment]), _inputs(clip, [segment]))
    rows = out.tables[t.BODY_FRAMES].to_pylist()
    assert [(r["k"], r["looks"]) for r in rows] == [(0, 2), (10, 2), (20, 1), (25, 1), (30, 1), (35, 1), (40, 2)]
    assert len(analyzer.shown) == 7  # 25 is measured after 30, where wrists are seen
    found, handed = analyzer.found, analyzer.handed
    assert handed == [None, found[0], found[1], found[2], found[2], found[3], found[5]]  # each from the one before it
    told = out.tables[t.BODIES].to_pylist()[0]
    assert told["n_looked_at"] == 10 and told["measured_ratio"] == 1.0
    assert told["hands_visible_ratio"] == pytest.approx(3 / 10)


def test_a_body_is_handed_on_within_a_segment_and_not_over_a_gap(clip: Path) -> None:
    class Sometimes(Pretend):
        def _see(self, rgb: Image) -> Body | None:
            return None if len(self.shown) == 3 else body()

    segments = [_segment(0.0, 1.0), _segment(1.0, 1.6)]
    analyzer = Sometimes()
    BodyStage(BodySettings(), analyzer).run(_item(segments), _inputs(clip, segments))
    found = analyzer.found
    # The look after the one without a body is held, and both are new.
    assert analyzer.handed == [None, found[0], found[1], None, None, None, found[5], found[6]]
    slow = Pretend()
    slow._see = lambda rgb: body()  # type: ignore[method-assign]
    BodyStage(BodySettings(every=12), slow).run(_item(segments), _inputs(clip, segments))
    assert slow.handed and all(one is None for one in slow.handed)  # 0.48 s apart


def test_a_segment_is_measured_alike_with_or_without_others(clip: Path) -> None:
    class Steady(Pretend):
        def _see(self, rgb: Image) -> Body | None:
            points = body().points + np.float32(rgb[0, 0, 0])  # follows the picture
            return body(points=points)

    segments = [_segment(0.0, 0.5), _segment(2.6, 3.0)]
    both = BodyStage(BodySettings(), Steady()).run(_item(segments), _inputs(clip, segments))
    alone = BodyStage(BodySettings(), Steady()).run(_item(segments[1:]), _inputs(clip, segments))
    late = [r for r in both.tables[t.BODY_FRAMES].to_pylist() if r["segment_id"] == segments[1]["segment_id"]]
    assert late == alone.tables[t.BODY_FRAMES].to_pylist() and [r["k"] for r in late] == [65, 70]
    assert late[0]["t_s"] == pytest.approx(2.6)


def test_without_the_networks_the_run_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    found = weights.find
    monkeypatch.setattr(weights, "find", lambda name: None if name in WEIGHTS else found(name))
    stage = BodyStage(BodySettings())
    segments = [_segment(0.1, 1.0)]
    out = stage.run(_item(segments), _inputs(clip, segments))
    assert not out.errors and all(table.num_rows == 0 for table in out.tables.values())
    assert BodySettings().provenance() == {"backend": NO_BODY}
    assert "not measured" in sentence(WEIGHTS[0], NO_BODY)


def test_the_networks_are_declared_with_what_stands_in() -> None:
    known = weights.registry()
    assert all(known[name].stand_in == (NO_BODY,) and known[name].licence == "Apache-2.0" for name in WEIGHTS)


def test_other_bytes_are_no_network() -> None:
    with pytest.raises(ValueError, match="no TFLite"):
        without_output(b"\0" * 64, 0)


def test_what_nobody_reads_of_the_pose_is_not_computed_and_the_rest_is_the_same() -> None:
    need(*WEIGHTS)
    network, mask = weights.resolve("pose_landmark_full.tflite").read_bytes(), 2
    less = without_output(network, mask)
    assert less == without_output(network, mask)
    picture = np.random.default_rng(3).random((1, 256, 256, 3), np.float32)
    whole, pruned = TfliteNetwork(network).run(picture), TfliteNetwork(less).run(picture)
    for number, (a, b) in enumerate(zip(whole, pruned, strict=True)):
        assert a.shape == b.shape
        assert not b.any() if number == mask else np.array_equal(a, b)


def test_a_real_speaker_has_shoulders_below_his_face() -> None:
    need("obama_speech.mp4", *WEIGHTS, *FaceDetector.weights)
    with av.open(str(weights.resolve("obama_speech.mp4"))) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    with FaceDetector() as detector, MediaPipeBody() as analyzer:
        faces: list[Box] = list(detector.detect(rgb))
        bodies = [analyzer.measure(rgb, f, [o for o in faces if o is not f]) for f in faces]
        assert len(faces) == 2 and all(bodies)
        for face, found in zip(faces, bodies, strict=True):
            assert found is not None
            left, right = found.points[list(SHOULDERS)]
            assert left[0] > face.x + face.w / 2 > right[0] and min(left[1], right[1]) > face.y + face.h / 2
        again = analyzer.measure(rgb, faces[0], faces[1:])
        assert again is not None and bodies[0] is not None and (again.points == bodies[0].points).all()
        nobody = Box(2.0, 2.0, 12.0, 12.0)
        assert analyzer.measure(rgb, nobody, faces) is None
