"""The single decode pass on real footage: cuts, faces, and independence of window borders."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import hostile
import numpy as np
import pytest

from curation.media.errors import MediaError
from curation.memory import run_chain
from schemas import tables as t
from stages.scan.grid import Shown
from stages.scan.picture import PictureMeter
from stages.scan.scan import Scan, ScanSettings
from stages.sources.probe import Probe, ProbeSettings
from stages.tracks.tracks import Tracks, TracksSettings


@pytest.fixture(scope="module")
def scan() -> Any:
    stage = Scan(ScanSettings())
    yield stage
    stage.close()


def chain(path: Path, scan: Scan, window_s: float = 1e9) -> dict[str, Any]:
    probed = run_chain(path, [Probe(ProbeSettings())])
    duration = probed[t.SOURCES][0].to_pylist()[0]["duration_s"]
    tables = run_chain(path, [scan, Tracks(TracksSettings())], duration_s=duration, window_s=window_s, tables=probed)
    return {table.name: [r for part in parts for r in part.to_pylist()] for table, parts in tables.items()}


def test_split_screen_gives_both_people_for_the_whole_time(media: Path, scan: Scan) -> None:
    found = chain(media / "split_screen.mp4", scan)
    assert sorted(round(r["center_x"], 1) for r in found["tracks"]) == [0.3, 0.7]
    assert all(r["visible_ratio"] == 1.0 and r["duration_s"] == 7.0 for r in found["tracks"])
    assert len(found["frames"]) == 175 and {r["n_faces"] for r in found["frames"]} == {2}
    assert all(len(r["blendshapes"]) == 52 for r in found["face_frames"] if r["has_mesh"])
    talker = [r["mouth_open"] for r in found["face_frames"] if r["x"] < 640]
    listener = [r["mouth_open"] for r in found["face_frames"] if r["x"] >= 640]
    assert np.std(talker) > 5 * np.std(listener)


def test_few_frames_out_of_order_are_left_out_and_many_refuse_the_file(tmp_path: Path, scan: Scan) -> None:
    found = chain(hostile.make_disordered(tmp_path / "few.mkv"), scan)
    assert [r["k"] for r in found["frames"]][:24] == list(range(24))
    with pytest.raises(MediaError, match="wrong_times: 9 of 25 frames have times before"):
        chain(hostile.make_disordered(tmp_path / "many.mkv", back=10), scan)


def test_a_picture_that_changes_its_size_is_one_recording(tmp_path: Path, scan: Scan) -> None:
    found = chain(hostile.make_resized(tmp_path / "call.ts"), scan)
    assert [r["k"] for r in found["frames"]] == list(range(50)) and not found["cuts"]


@pytest.mark.slow
def test_windows_change_nothing_but_the_pieces(media: Path, scan: Scan) -> None:
    whole = chain(media / "interview_cuts.mp4", scan)
    parts = chain(media / "interview_cuts.mp4", scan, window_s=3.0)
    for one in (whole, parts):
        assert [(r["t_s"], r["frame"]) for r in one["cuts"]] == [(4.0, 100), (8.0, 200), (11.6, 290), (14.6, 365)]
        assert [(r["start_s"], r["end_s"]) for r in one["tracks"]] == [
            (0.0, 4.0), (4.0, 8.0), (8.0, 11.6), (11.6, 14.6), (14.6, 18.0),
        ]  # fmt: skip
    assert [r["k"] for r in whole["frames"]] == [r["k"] for r in parts["frames"]]
    same = ("luma_mean", "n_faces", "is_black")
    assert [[r[c] for c in same] for r in whole["frames"]] == [[r[c] for c in same] for r in parts["frames"]]


@pytest.mark.slow
def test_same_window_gives_the_same_bytes(media: Path, scan: Scan) -> None:
    assert chain(media / "offscreen_voice.mp4", scan) == chain(media / "offscreen_voice.mp4", scan)


def test_a_frame_that_stays_on_screen_stands_still() -> None:
    """A stream that stalls gives no more frames, and the last one is shown on; at 12 a second each is shown twice."""
    noise = np.random.default_rng(0)
    meter = PictureMeter("0" * 16, MagicMock(), 1e9)
    for grid in (range(0, 1), range(1, 3), range(3, 5), range(5, 40), range(40, 41)):
        rgb = noise.integers(0, 255, (90, 160, 3)).astype(np.uint8)
        meter.add(Shown(grid[0] / 25, 0, grid, rgb, rgb, (160, 90)), [], True, len(grid))
    assert [row.k for row in meter.frames if row.is_frozen] == list(range(6, 40))
