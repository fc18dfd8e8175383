"""Captions of segments: from the crop's signals, on the source's clock, checked against the timeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from signal_factory import bump, face, time_axis
from table_rows import row, source_row

from annotators.captions.captioner import ClipContext, Frame, SignalCaptioner
from annotators.performance.signal_series import FaceSignals
from curation.media.encode import encode_jpeg
from curation.memory import MemoryInputs
from curation.stage import Outputs, WorkItem
from schemas import tables as t
from schemas.samples.caption import PerformanceCaption, time_words
from schemas.tables.pairing import SegmentRow
from schemas.tables.scan import FaceFrameRow
from stages.clip_plan.clip_plan import ClipPlan, ClipPlanSettings
from stages.face_series import Series, track_series
from stages.performance.performance import Performance, PerformanceSettings, partner_place, track_baselines

SOURCE = "ef" * 8
SIZE = (1280, 720)


def _rows(signals: FaceSignals, person: int) -> list[FaceFrameRow]:
    """FACE_FRAMES rows of one person's tracklet."""
    name = f"{SOURCE}-w0000-{person:03d}"
    out = []
    for k, valid in enumerate(signals.valid):
        x, y, w, h = signals.box_xywh[k]
        facts: dict[str, Any] = {"k": k, "t_s": k / 25, "x": x, "y": y, "w": w, "h": h, "has_mesh": bool(valid)}
        if valid:
            for column in ("yaw_deg", "pitch_deg", "roll_deg", "mouth_open"):
                facts[column] = getattr(signals, column)[k]
            facts["blendshapes"] = signals.blendshapes[k].tolist()
        out.append(row(t.FACE_FRAMES, source_id=SOURCE, tracklet_id=name, **facts))
    return out


def _segment(start_s: float, end_s: float, state: str, person: int = 0, **values: Any) -> SegmentRow:
    track = f"{SOURCE}-t{person}"
    times = {"start_s": start_s, "end_s": end_s, "duration_s": end_s - start_s}
    name = f"{track}-{round(1000 * start_s)}"
    return row(t.SEGMENTS, segment_id=name, source_id=SOURCE, track_id=track, state=state, **times, **values)


def _parts(
    people: Sequence[FaceSignals], segments: Sequence[SegmentRow], layout: Sequence[dict[str, Any]] = ()
) -> dict[Any, list[pa.Table]]:
    tracklets = [
        {"tracklet_id": f"{SOURCE}-w0000-{p:03d}", "source_id": SOURCE, "track_id": f"{SOURCE}-t{p}"}
        for p in range(len(people))
    ]
    frames = [r for p, signals in enumerate(people) for r in _rows(signals, p)]
    return {
        t.SOURCES: [t.SOURCES.from_rows([source_row(SOURCE, width=SIZE[0], height=SIZE[1])])],
        t.TRACKLETS: [t.TRACKLETS.from_rows(tracklets)],
        t.FACE_FRAMES: [t.FACE_FRAMES.from_rows(frames)],
        t.SEGMENTS: [t.SEGMENTS.from_rows(segments)],
        t.LAYOUT: [t.LAYOUT.from_rows([row(t.LAYOUT, source_id=SOURCE, **r) for r in layout])],
    }


def _run(stage: Performance, parts: dict[Any, list[pa.Table]], media: Path = Path("none"), **framing: float) -> Outputs:
    shot = row(t.SHOTS, source_id=SOURCE, end_s=60.0, duration_s=60.0)
    inputs = MemoryInputs(media, {**parts, t.SHOTS: [t.SHOTS.from_rows([shot])]})
    item = WorkItem(SOURCE, units=tuple(inputs.read(t.SEGMENTS)["segment_id"].to_pylist()))
    plans = ClipPlan(ClipPlanSettings(**framing)).run(item, inputs).tables.get(t.CLIP_PLANS, t.CLIP_PLANS.empty())
    return stage.run(item, MemoryInputs(media, {**parts, t.CLIP_PLANS: [plans]}))


def _smiling() -> FaceSignals:
    return face(12.0, {"mouthSmile": bump(time_axis(12.0), 6.5, 9.0, 0.9)})


def test_captions_describe_their_segment_on_the_sources_clock() -> None:
    segments = [_segment(0.0, 5.0, "listen"), _segment(5.0, 11.0, "speak", text="that is funny")]
    out = _run(Performance(PerformanceSettings()), _parts([_smiling()], segments))
    assert not out.errors
    still, smiling = out.tables[t.CAPTIONS].to_pylist()
    assert still["expressions"] == ["neutral"] and still["stance"] == "neutral" and not time_words(still["caption"])
    assert "smiling" in smiling["expressions"] and smiling["stance"] is None
    tags = {tag["name"]: tag for tag in json.loads(smiling["tags"])}
    assert tags["smile"]["start_s"] == pytest.approx(6.5, abs=0.2)
    assert tags["smile"]["end_s"] == pytest.approx(9.0, abs=0.2)
    assert {tag["annotator"] for tag in tags.values()} == {SignalCaptioner.name}
    assert still["contradictions"] == smiling["contradictions"] == []
    assert still["gaze"] == smiling["gaze"] == "camera"


def test_events_are_rows_with_times_on_the_sources_clock() -> None:
    out = _run(Performance(PerformanceSettings()), _parts([_smiling()], [_segment(5.0, 11.0, "listen")]))
    rows = out.tables[t.EVENTS].to_pylist()
    assert [r["n"] for r in rows] == list(range(len(rows))) and [r["start_s"] for r in rows] == sorted(
        r["start_s"] for r in rows
    )
    (smile,) = [r for r in rows if r["event"] == "smile"]
    assert (smile["start_s"], smile["end_s"]) == pytest.approx((6.5, 9.0), abs=0.2)
    assert 0 < smile["confidence"] <= 1 and smile["count"] == 1
    assert {r["kind"] for r in rows} <= {"facial_action", "head_motion", "gaze"}


def test_the_shot_type_is_that_of_the_crop() -> None:
    far = face(4.0, face_share=0.08)
    out = _run(Performance(PerformanceSettings()), _parts([far], [_segment(0.0, 4.0, "speak")]), margin_below_body=0)
    parts = _parts([far], [_segment(0.0, 4.0, "speak")])
    wide = _run(Performance(PerformanceSettings()), parts, margin_above=8, margin_below=8, margin_beside=8)
    shots = [o.tables[t.CAPTIONS]["shot_type"].to_pylist()[0] for o in (out, wide)]
    assert shots[0] in ("close_up", "medium_close_up") and shots[1] in ("medium", "medium_full", "full")


def test_what_is_usual_for_the_person_is_taken_off() -> None:
    always = face(12.0, {"mouthSmile": 0.15})
    assert track_baselines({"x": _series(always)})["x"].shape("mouthSmile") == pytest.approx(0.16, abs=0.02)
    never = face(2.0, valid=np.zeros(50, bool))
    assert track_baselines({"x": _series(never)}) == {}


def _series(signals: FaceSignals) -> Series:
    table = t.FACE_FRAMES.from_rows(_rows(signals, 0))
    return track_series([table], {f"{SOURCE}-w0000-000": "x"}, FaceFrameRow.columns)["x"]


def test_a_face_never_measured_is_no_error_and_discards_get_no_caption() -> None:
    gone = face(12.0, valid=np.arange(300) < 150)
    segments = [_segment(0.0, 6.0, "idle"), _segment(6.0, 9.0, "listen"), _segment(9.0, 12.0, "discard")]
    out = _run(Performance(PerformanceSettings()), _parts([gone], segments))
    assert not out.errors and {r["segment_id"] for r in out.tables[t.EVENTS].to_pylist()} == {segments[0]["segment_id"]}
    seen, unseen = out.tables[t.CAPTIONS].to_pylist()
    assert seen["expressions"] == ["neutral"] and unseen["expressions"] == unseen["emotions"] == []
    assert (unseen["gaze"], unseen["body_motion"], unseen["stance"]) == ("unknown", "unknown", None)
    assert unseen["shot_type"] == seen["shot_type"] and json.loads(unseen["tags"]) == []


def test_a_segment_in_a_gap_of_its_track_takes_the_nearest_box() -> None:
    parts = _parts([face(12.0)], [_segment(5.0, 6.0, "listen"), _segment(6.0, 12.0, "listen")])
    (frames,) = parts[t.FACE_FRAMES]
    parts[t.FACE_FRAMES] = [t.FACE_FRAMES.from_rows([r for r in frames.to_pylist() if not 120 <= r["k"] < 155])]
    out = _run(Performance(PerformanceSettings()), parts)
    assert not out.errors
    hidden, shown = out.tables[t.CAPTIONS].to_pylist()
    assert hidden["expressions"] == [] and hidden["shot_type"] == shown["shot_type"]


def _sound(quiet_from_s: float) -> dict[Any, list[pa.Table]]:
    """Twelve seconds of one voice, 12 dB quieter from some time on, with seven syllables a second."""
    frames = [
        row(
            t.SPEECH_FRAMES, source_id=SOURCE, k=k, speech=0.9, level_db=-20.0 if k < 25 * quiet_from_s else -32.0,
            pitch_hz=150.0 if k % 2 else None, syllables=int(k % 4 == 0),
        )
        for k in range(300)
    ]  # fmt: skip
    turn = row(t.TURNS, speaker_id="v", source_id=SOURCE, start_s=0.0, end_s=12.0)
    return {t.SPEECH_FRAMES: [t.SPEECH_FRAMES.from_rows(frames)], t.TURNS: [t.TURNS.from_rows([turn])]}


def test_voice_camera_and_clothes_stand_in_the_caption() -> None:
    red = np.full((300, 300, 3), 128, np.uint8)
    red[60:180, 110:190], red[190:] = (205, 160, 135), (190, 30, 35)
    names = {"source_id": SOURCE, "tracklet_id": f"{SOURCE}-w0000-000"}
    portraits = [
        row(t.PORTRAITS, **names, k=k, t_s=k / 25, image=encode_jpeg(red), face_xywh=[110.0, 60.0, 80.0, 120.0])
        for k in (0, 100, 200)
    ]
    camera = {"camera_motion": 0.05, "camera_x": -0.05, "camera_y": 0.0, "camera_zoom": 0.0}
    frames = [row(t.FRAMES, source_id=SOURCE, k=k, t_s=k / 25, **camera) for k in range(300)]
    parts = _parts(
        [face(12.0)],
        [_segment(0.0, 6.0, "listen"), _segment(6.0, 12.0, "speak", text=None)],
    )
    parts |= {t.PORTRAITS: [t.PORTRAITS.from_rows(portraits)], t.FRAMES: [t.FRAMES.from_rows(frames)]} | _sound(6.0)
    out = _run(Performance(PerformanceSettings()), parts)
    assert not out.errors
    listens, speaks = out.tables[t.CAPTIONS].to_pylist()
    assert speaks["speaking_style"] == ["fast", "soft"] and listens["speaking_style"] == []
    assert speaks["syllables_per_s"] == pytest.approx(6.25, abs=0.3) and listens["syllables_per_s"] is None
    assert speaks["level_over_usual_db"] < -6
    assert listens["camera"] == speaks["camera"] == "pan_right"
    assert listens["clothing"] == speaks["clothing"] == "red"
    assert "person in red speaking fast and softly" in speaks["caption"]
    assert speaks["caption"].endswith("The camera pans to frame right.")


def test_a_segment_with_two_voices_or_music_has_no_style() -> None:
    segments = [
        _segment(0.0, 4.0, "speak", overlap_ratio=0.5),
        _segment(4.0, 8.0, "speak", music=0.6),
        _segment(8.0, 12.0, "both"),
    ]
    out = _run(Performance(PerformanceSettings()), _parts([face(12.0)], segments) | _sound(6.0))
    assert [r["syllables_per_s"] for r in out.tables[t.CAPTIONS].to_pylist()] == [None] * 3


def test_partners_are_placed() -> None:
    left, right = face(4.0), face(4.0, box_xywh=np.tile([1000.0, 300.0, 170, 216], (100, 1)))
    series = {f"{SOURCE}-t0": _series(left), f"{SOURCE}-t1": _series(right)}
    seen = _segment(0.0, 4.0, "listen", partner_track_id=f"{SOURCE}-t1", partner=f"{SOURCE}-t1")
    assert partner_place(seen, series, [], SIZE) == ("on_screen", "right")
    split = [row(t.LAYOUT, source_id=SOURCE, panel_boxes=[0.0, 0.0, 0.6, 1.0, 0.6, 0.0, 1.0, 1.0])]
    assert partner_place(seen, series, split, SIZE) == ("on_screen", None)
    heard = _segment(0.0, 4.0, "listen", partner=f"{SOURCE}-v1")
    assert partner_place(heard, series, [], SIZE) == ("off_screen", None)
    assert partner_place(_segment(0.0, 4.0, "speak"), series, [], SIZE) == (None, None)


class _Liar(SignalCaptioner):
    """Says of a silent person that they laugh and speak; asks for frames."""

    name = "liar"
    n_frames = 4

    def __init__(self) -> None:
        self.seen: list[Frame] = []

    def caption(self, clip: ClipContext, frames: Sequence[Frame] = ()) -> PerformanceCaption:
        self.seen = list(frames)
        honest = super().caption(clip)
        return honest.model_copy(update={"prose": "A person laughing and talking.", "annotator": self.name})


def test_contradictions_are_recorded_and_frames_are_of_the_crop(tmp_path: Path) -> None:
    media = hostile.write(tmp_path / "a.mp4", hostile.pictures(4.0, 25, *SIZE))
    stage, liar = Performance(PerformanceSettings()), _Liar()
    stage._captioner = liar
    out = _run(stage, _parts([face(4.0)], [_segment(1.0, 3.0, "listen")]), media)
    (caption,) = out.tables[t.CAPTIONS].to_pylist()
    assert any("talking" in c for c in caption["contradictions"])
    assert any("smile" in c for c in caption["contradictions"])
    assert [f.t_s for f in liar.seen] == pytest.approx([1.24, 1.76, 2.24, 2.76], abs=0.021)
    assert {f.rgb.shape for f in liar.seen} == {liar.seen[0].rgb.shape}
    assert liar.seen[0].rgb.shape[0] == liar.seen[0].rgb.shape[1] < SIZE[1] + 1


def test_an_endpoint_needs_an_address_and_a_model() -> None:
    with pytest.raises(ValidationError, match="base_url"):
        PerformanceSettings(backend="openai")
    served = {"use": "openai", "base_url": "http://host:8000/v1", "model": "some/model"}
    settings = PerformanceSettings(backend=served)
    assert settings.provenance() == {"backend": "openai:some/model", "backend.settings": '{"model": "some/model"}'}
    assert Performance(settings)._captioner.n_frames == 8
