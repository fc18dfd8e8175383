"""Stage `active_speaker`: blocks of crops, tracks measured apart, gaps that say so, sound that may be missing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_media import need
from table_rows import row, source_row

from annotators.lips.active_speaker import LR_ASD_WEIGHT, LrAsdActiveSpeaker
from annotators.models import weights
from curation.memory import MemoryInputs
from curation.stage import Outputs, WorkItem
from schemas import tables as t
from schemas.table import Table
from stages.speech.active_speaker import MIN_SYNC_FRAMES, ActiveSpeakerSettings, ActiveSpeakerStage
from stages.speech.crop_blocks import CropBuffer, decode

SOURCE = "0" * 16
NO_MEDIA = Path("unused")


def jpeg(seed: int) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 255, (14, 14), np.uint8)
    ok, data = cv2.imencode(".jpg", cv2.resize(picture, (112, 112)))
    assert ok
    return bytes(data.tobytes())


JPEGS = [jpeg(seed) for seed in range(8)]


def drawn(ks: list[int], sizes: list[int], size: int = 20, margin: int = 6) -> tuple[CropBuffer, list[Any]]:
    """Feed crops in portions; return the buffer and its blocks."""
    buffer, blocks, at = CropBuffer(size, margin), [], 0
    for n in itertools.chain(sizes, [len(ks)]):
        part = ks[at : at + n]
        buffer.add(part, [JPEGS[k % 8] for k in part])
        at += len(part)
        blocks += list(buffer.blocks())
    return buffer, blocks + list(buffer.blocks(last=True))


grid = st.tuples(st.integers(0, 500), st.lists(st.sampled_from([1, 1, 1, 1, 2, 9]), max_size=150)).map(
    lambda x: list(itertools.accumulate(x[1], initial=x[0]))
)


@settings(deadline=None, max_examples=60)
@given(grid, st.lists(st.integers(0, 60), max_size=6))
def test_blocks_partition_a_track_and_do_not_depend_on_windows(ks: list[int], sizes: list[int]) -> None:
    buffer, blocks = drawn(ks, sizes)
    n = ks[-1] - ks[0] + 1
    assert buffer.first_k == ks[0] and len(buffer.seen) == n
    assert [i for i, seen in enumerate(buffer.seen) if seen] == [k - ks[0] for k in ks]
    assert blocks[0].start == 0 and blocks[-1].end == n
    assert all(a.end == b.start for a, b in itertools.pairwise(blocks))
    shown = [max(k for k in ks if k <= ks[0] + i) for i in range(n)]  # a gap shows the crop before it
    for b in blocks:
        high = min(n, b.end + 6)
        assert b.low == max(0, b.start - 6) and len(b.crops) == high - b.low <= 20 + 3 * 6
        assert (b.crops == decode([JPEGS[k % 8] for k in shown[b.low : high]])).all()
    _, whole = drawn(ks, [])
    assert [(b.start, b.end, b.low) for b in blocks] == [(b.start, b.end, b.low) for b in whole]


def test_a_long_track_keeps_only_what_its_next_block_needs() -> None:
    buffer = CropBuffer(20, 6)
    for k in range(0, 1000, 10):
        buffer.add(range(k, k + 10), JPEGS[:5] * 2)
        list(buffer.blocks())
        assert len(buffer._images) <= 20 + 3 * 6 + 10


def test_crops_out_of_order_and_crops_that_are_none_are_refused() -> None:
    buffer = CropBuffer()
    buffer.add([4, 5], JPEGS[:2])
    with pytest.raises(ValueError, match="grid index 5 is not after 5"):
        buffer.add([5], JPEGS[:1])
    with pytest.raises(ValueError, match="not a JPEG of 112 x 112"):
        decode([b"broken"])


@pytest.mark.slow
def test_blocks_score_like_the_whole() -> None:
    need(LR_ASD_WEIGHT)
    scorer = LrAsdActiveSpeaker()
    rng = np.random.default_rng(0)
    n = 640
    images = [JPEGS[i] for i in rng.integers(0, 8, n)]
    audio = rng.normal(0, 0.05, n * 640).astype(np.float32)
    buffer = CropBuffer(150, 150)
    buffer.add(range(n), images)
    blocks = list(buffer.blocks(last=True))
    assert len(blocks) > 1
    parts = [
        scorer.scores(b.crops, audio[b.low * 640 : (b.low + len(b.crops)) * 640])[b.start - b.low : b.end - b.low]
        for b in blocks
    ]
    np.testing.assert_allclose(np.concatenate(parts), scorer.scores(decode(images), audio), atol=1e-4)


def tables(
    tracks: dict[str, list[int]], windows: int = 1, speech: tuple[float, float] = (0.0, 99.0)
) -> dict[Table, list[Any]]:
    """Return tables of a silent source: each track's crops and moving mouth at the given grid indices."""
    end = max(ks[-1] for ks in tracks.values()) + 1
    step = -(-end // windows)
    crops: list[Any] = []
    faces: list[Any] = []
    pieces: list[tuple[str, str]] = []
    for w in range(windows):
        here = [(n, k) for n, ks in tracks.items() for k in ks if w * step <= k < (w + 1) * step]
        pieces += sorted({(f"{n}-w{w}", n) for n, _ in here})
        at: list[dict[str, Any]] = [{"source_id": SOURCE, "tracklet_id": f"{n}-w{w}", "k": k} for n, k in here]
        mouths = [{"t_s": x["k"] / 25, "mouth_open": 0.1 + 0.1 * np.sin(x["k"])} for x in at]
        crops.append(t.FACE_CROPS.from_rows([row(t.FACE_CROPS, **x, crop=JPEGS[x["k"] % 8]) for x in at]))
        faces.append(t.FACE_FRAMES.from_rows([row(t.FACE_FRAMES, **x, **m) for x, m in zip(at, mouths, strict=True)]))
    return {
        t.SOURCES: [t.SOURCES.from_rows([source_row(SOURCE, has_audio=False)])],
        t.TRACKLETS: [
            t.TRACKLETS.from_rows([row(t.TRACKLETS, tracklet_id=i, source_id=SOURCE, track_id=n) for i, n in pieces])
        ],
        t.SPEECH: [
            t.SPEECH.from_rows([row(t.SPEECH, source_id=SOURCE, start_s=speech[0], end_s=speech[1], probability=0.9)])
        ],
        t.FACE_CROPS: crops,
        t.FACE_FRAMES: faces,
    }


def score(parts: dict[Table, list[Any]], *units: str) -> Outputs:
    stage = ActiveSpeakerStage(ActiveSpeakerSettings(backend="heuristic"))
    return stage.run(WorkItem(SOURCE, units=units), MemoryInputs(NO_MEDIA, parts))


def test_windows_change_nothing() -> None:
    tracks = {"a": list(range(10, 200)), "b": [*range(30, 90), *range(97, 150)]}
    whole, cut = (score(tables(tracks, windows), "a", "b") for windows in (1, 5))
    assert not whole.errors and not cut.errors
    for table in (t.ASD_FRAMES, t.SYNC):
        assert whole.tables[table].equals(cut.tables[table])


def test_every_grid_point_of_a_track_has_a_score_and_a_gap_says_so() -> None:
    rows = score(tables({"b": [*range(30, 90), *range(97, 150)]}), "b").tables[t.ASD_FRAMES].to_pylist()
    assert [r["k"] for r in rows] == list(range(30, 150))
    held = {r["k"] for r in rows if r["annotator"] == "lip-motion-envelope-heuristic (last crop held)"}
    assert held == set(range(90, 97))


def test_only_the_tracks_asked_for_are_scored() -> None:
    out = score(tables({"a": list(range(60)), "b": list(range(60))}), "b")
    assert set(out.tables[t.ASD_FRAMES]["track_id"].to_pylist()) == {"b"}


def test_a_track_that_fails_does_not_stop_its_neighbour() -> None:
    parts = tables({"a": list(range(60)), "b": list(range(60))}, windows=2)
    broken = parts[t.FACE_CROPS][1].to_pylist()
    parts[t.FACE_CROPS][1] = t.FACE_CROPS.from_rows(
        [r | ({"crop": b"broken"} if r["tracklet_id"].startswith("a") else {}) for r in broken]
    )
    out = score(parts, "a", "b", "c")
    assert [(e.unit_id, e.error) for e in out.errors] == [("a", "ValueError"), ("c", "ValueError")]
    assert "not a JPEG" in out.errors[0].message and "no face crops" in out.errors[1].message
    assert (
        set(out.tables[t.ASD_FRAMES]["track_id"].to_pylist())
        == {"b"}
        == set(out.tables[t.SYNC]["track_id"].to_pylist())
    )


@pytest.mark.parametrize("n", [1, 24, 49, 50, 51, MIN_SYNC_FRAMES - 1, MIN_SYNC_FRAMES])
def test_a_short_track_has_scores_and_no_offset(n: int) -> None:
    out = score(tables({"a": list(range(n))}), "a")
    assert not out.errors and out.tables[t.ASD_FRAMES].num_rows == n
    (sync,) = out.tables[t.SYNC].to_pylist()
    assert sync["offset_ms"] is None and sync["evidence_s"] == pytest.approx(n / 25)


def test_evidence_is_speech_with_a_confirmed_face() -> None:
    (sync,) = score(tables({"a": list(range(100))}, speech=(1.0, 2.0)), "a").tables[t.SYNC].to_pylist()
    assert sync["evidence_s"] == pytest.approx(1.0)


def test_identity_names_the_scorer_without_loading_it() -> None:
    assert ActiveSpeakerSettings(backend="heuristic").provenance()["backend"].endswith("heuristic")
    named = ActiveSpeakerSettings(backend="lr-asd").provenance()
    assert named[LR_ASD_WEIGHT] == weights.sha256(LR_ASD_WEIGHT)
