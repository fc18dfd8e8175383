"""Frames: windows partition a file exactly, pictures are upright and of the right shade, damage is counted."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.media.errors import MediaError
from curation.media.frame import Frame
from curation.media.probe import probe
from curation.media.video import DecodeReport, frame_times, iter_frames, read_frame_at, read_frames_at

KINDS = ("plain", "vfr", "hevc", "fps30", "fps11_9", "late_start", "matroska")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.make_all(tmp_path_factory.mktemp("hostile"))


def numbers(frames: list[Frame]) -> list[int]:
    return [hostile.read_number(f.rgb()) for f in frames]


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_comes_once_in_order(made: dict[str, Path], kind: str) -> None:
    frames = list(iter_frames(made[kind]))
    assert numbers(frames) == list(range(probe(made[kind]).n_video_packets))
    assert [f.index for f in frames] == list(range(len(frames)))
    times = [f.pts_s for f in frames]
    assert times[0] == 0 and times == sorted(times)
    assert np.allclose(times, frame_times(made[kind]), atol=1e-9)
    if kind == "vfr":
        assert times == pytest.approx(hostile.vfr_times(60), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_partition_the_frames(made: dict[str, Path], kind: str, data: st.DataObject) -> None:
    times = frame_times(made[kind])
    on_frames = st.sampled_from(times.tolist())
    anywhere = st.floats(-0.5, float(times[-1]) + 0.5)
    borders = sorted(data.draw(st.lists(st.one_of(on_frames, anywhere), min_size=1, max_size=4)))
    borders = [-1.0, *borders, float(times[-1]) + 1]
    pieces = [list(iter_frames(made[kind], a, b)) for a, b in itertools.pairwise(borders)]
    joined = [f.pts_s for piece in pieces for f in piece]
    assert joined == [f.pts_s for f in iter_frames(made[kind])]
    for piece, (a, b) in zip(pieces, itertools.pairwise(borders), strict=True):
        assert all(a <= f.pts_s < b for f in piece)


def test_windows_of_real_footage_have_the_pictures_of_the_whole(media: Path) -> None:
    for name in ("stage_cuts.mp4", "talkers/real_newsreader_offset.avi", "talk_woman_studio.mp4"):
        path = media / name
        whole = {f.pts_s: f.gray(64) for f in iter_frames(path, 0, 4)}
        windows = [f for a, b in ((0, 1.33), (1.33, 2.5), (2.5, 4)) for f in iter_frames(path, a, b)]
        assert [f.pts_s for f in windows] == list(whole)
        assert all(np.array_equal(f.gray(64), whole[f.pts_s]) for f in windows), name


def test_index_is_known_only_from_the_start(made: dict[str, Path]) -> None:
    assert next(iter_frames(made["plain"], 1.5)).index is None
    assert next(iter_frames(made["plain"], 0)).index == 0


def test_frame_at(made: dict[str, Path]) -> None:
    times = frame_times(made["vfr"])
    for n in (0, 7, 15, 31, 59):
        assert hostile.read_number(read_frame_at(made["vfr"], float(times[n])).rgb()) == n
        assert hostile.read_number(read_frame_at(made["vfr"], float(times[n]) + 0.009).rgb()) == n
    assert hostile.read_number(read_frame_at(made["vfr"], -3.0).rgb()) == 0
    assert hostile.read_number(read_frame_at(made["vfr"], 99.0).rgb()) == 59


@pytest.mark.parametrize("name", ["vfr", "plain"])
def test_frames_at_several_times_are_those_at_each(made: dict[str, Path], name: str) -> None:
    last = float(frame_times(made[name])[-1])
    times = [-1.0, 0.0, 0.001, *(last * f for f in (0.125, 0.126, 0.375, 0.875)), last, last + 9, last + 99]
    together = read_frames_at(made[name], times)
    assert [f.pts_s for f in together] == [read_frame_at(made[name], t).pts_s for t in times]
    assert all(
        np.array_equal(f.rgb(), read_frame_at(made[name], t).rgb()) for f, t in zip(together, times, strict=True)
    )
    with pytest.raises(ValueError, match="ascending"):
        read_frames_at(made[name], [1.0, 0.5])


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_pictures_are_upright(tmp_path: Path, turn: int) -> None:
    path = hostile.make_rotated(tmp_path / "turned.mp4", turn)
    info, frame = probe(path), next(iter_frames(path))
    upright = hostile.picture(0)
    shown = np.rot90(upright, turn // 90)  # the setter counts counter-clockwise, as rot90 does
    assert info.rotation_deg == (360 - turn) % 360
    assert frame.rgb().shape == shown.shape == (info.height, info.width, 3)
    assert (frame.width, frame.height) == (info.width, info.height)
    assert np.abs(frame.rgb().astype(int) - shown).mean() < 12
    small = cv2.resize(shown, (shown.shape[1] // 2, shown.shape[0] // 2), interpolation=cv2.INTER_AREA)
    assert np.abs(frame.rgb(max(small.shape)).astype(int) - small).mean() < 12
    assert np.abs(frame.gray(max(small.shape)).astype(int) - small.mean(axis=2)).mean() < 25


@pytest.mark.parametrize("kind", ["plain", "hevc", "odd", "full_range", "anamorphic", "surround"])
def test_shades_do_not_depend_on_range_depth_or_size(made: dict[str, Path], kind: str) -> None:
    frame = next(iter_frames(made[kind]))
    drawn = hostile.picture(0, frame.source.width, frame.source.height)
    drawn = cv2.resize(drawn, (frame.width, frame.height), interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY).astype(int)
    rgb, gray = frame.rgb(), frame.gray()
    assert rgb.shape == drawn.shape and gray.shape == luma.shape
    assert rgb.dtype == gray.dtype == np.uint8 and rgb.flags.c_contiguous and gray.flags.c_contiguous
    assert np.abs(rgb.astype(int) - drawn).mean() < 5
    assert np.abs(gray.astype(int) - luma).mean() < 3
    half = (frame.width // 2, frame.height // 2)
    assert np.abs(frame.gray(half[0]).astype(int) - cv2.resize(gray, half, interpolation=cv2.INTER_AREA)).mean() < 3
    assert np.abs(frame.rgb(half[0]).astype(int) - cv2.resize(rgb, half, interpolation=cv2.INTER_AREA)).mean() < 4


def test_luma_spans_black_to_white(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    for full in (False, True):
        path = hostile.write(tmp_path / f"{full}.mp4", [image], codec_options={"qp": "1"}, full_range=full)
        frame = next(iter_frames(path))
        for gray in (frame.gray(), frame.gray(32)):
            assert gray[:, :8].max() <= 2 and gray[:, -8:].min() >= 253
        assert frame.rgb()[:, :8].max() <= 2 and frame.rgb()[:, -8:].min() >= 253


def test_max_side_only_reduces(made: dict[str, Path]) -> None:
    frame = next(iter_frames(made["plain"], max_side=96))
    assert frame.rgb().shape == (64, 96, 3) and frame.gray().shape == (64, 96)
    assert frame.rgb(48).shape == (32, 48, 3) and frame.rgb(5000).shape == (128, 192, 3)
    assert (frame.width, frame.height) == (192, 128)


def test_damage_is_counted_and_located(tmp_path: Path) -> None:
    path = hostile.make_corrupt(tmp_path / "corrupt.mp4")
    report = DecodeReport()
    frames = list(iter_frames(path, report=report))
    assert 30 < len(frames) <= 50 and report.n_frames == len(frames)
    assert report.n_errors + report.n_corrupt > 0
    if report.n_errors:
        assert report.first_error_s == pytest.approx(1.0, abs=0.2) and report.first_error
        with pytest.raises(MediaError, match="decode_failed") as caught:
            list(iter_frames(path, strict=True))
        assert "s (" in str(caught.value)
    before = DecodeReport()
    assert len(list(iter_frames(path, 0, 0.7, strict=True, report=before))) == 18
    assert before.n_errors == before.n_corrupt == 0


def test_a_frame_that_comes_after_a_later_one_is_left_out_and_counted(tmp_path: Path) -> None:
    path, report = hostile.make_disordered(tmp_path / "d.mkv", back=2), DecodeReport()
    frames = list(iter_frames(path, report=report))
    assert numbers(frames) == list(range(23)) and (report.n_frames, report.n_disordered) == (23, 2)


def test_pictures_keep_the_size_that_the_recording_began_with(tmp_path: Path) -> None:
    path = hostile.make_resized(tmp_path / "r.ts")
    whole = list(iter_frames(path))
    assert {f.rgb().shape for f in whole} == {(hostile.HEIGHT, hostile.WIDTH, 3)}
    assert numbers(whole) == list(range(50))
    late = list(iter_frames(path, whole[30].pts_s))
    assert {f.rgb().shape for f in late} == {(hostile.HEIGHT, hostile.WIDTH, 3)} and numbers(late)[0] == 30


def test_files_are_closed_when_readers_are_abandoned(made: dict[str, Path]) -> None:
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("this system does not list open files")

    def count() -> int:
        gc.collect()
        return sum(str(made["plain"].parent) in str(f.readlink()) for f in open_files.iterdir() if f.is_symlink())

    for _ in range(5):
        frames = iter_frames(made["plain"], 1.0)
        next(frames)
        assert count() == 1
        del frames
        closed = iter_frames(made["plain"])
        next(closed)
        closed.close()
        next(iter_frames(made["vfr"], 0.5, 0.6))
    assert count() == 0


def test_refusals(tmp_path: Path, made: dict[str, Path]) -> None:
    for path, code in (
        (hostile.make_no_video(tmp_path / "sound.mp4"), "no_video_stream"),
        (hostile.make_text(tmp_path / "text.mp4"), "not_a_video"),
        (tmp_path / "absent.mp4", "missing_file"),
    ):
        for read in (lambda p: list(iter_frames(p)), frame_times, lambda p: read_frame_at(p, 0)):
            with pytest.raises(MediaError) as caught:
                read(path)
            assert caught.value.code == code
    assert list(iter_frames(made["plain"], 50, 60)) == []
    assert list(iter_frames(made["plain"], 1, 1)) == []


@pytest.mark.slow
def test_an_hour_is_read_at_its_end_without_its_beginning(tmp_path: Path) -> None:
    path = hostile.loop_video(hostile.make_plain(tmp_path / "plain.mp4"), tmp_path / "hour.mp4", 3600)
    info = probe(path)
    assert info.duration_s == pytest.approx(3600, abs=0.1) and not info.is_vfr
    frames = list(iter_frames(path, 3590, 3591))
    assert numbers(frames) == list(range(25)) and frames[0].pts_s == pytest.approx(3590)
