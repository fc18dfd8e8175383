"""Packing: picture and sound agree, lengths are exact, bytes repeat, a segment that fails leaves nothing."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
from packing_case import (
    FACE,
    FLASHES,
    SIZE,
    SOURCE,
    case,
    flash_and_beep,
    frames,
    members,
    pack,
    plan,
    segment_row,
    sound,
)

from schemas import tables as t


def _sources(folder: Path) -> dict[str, Path]:
    ticks = [n / 25 for n in range(75)]
    b_frames = {"bf": "3", "g": "20"}
    later = [5 + at for at in ticks]
    stream = {"sound_start_s": 5.0, "container_format": "mpegts"}
    return {
        "B-frames": flash_and_beep(folder / "a.mp4", ticks, codec_options=b_frames),
        "44.1 kHz": flash_and_beep(folder / "b.mp4", ticks, sound_rate=44_100),
        "matroska": flash_and_beep(folder / "c.mkv", ticks, codec_options=b_frames),
        "late start": flash_and_beep(folder / "d.ts", later, codec_options=b_frames, **stream),
    }


def _edges(on: np.ndarray) -> np.ndarray:
    """Indices where a mask switches."""
    return np.flatnonzero(np.diff(on.astype(np.int8))) + 1


def _offset_ms(tar: bytes, ignore_edits: bool = False) -> np.ndarray:
    """Sound edges minus picture edges, in milliseconds."""
    parts = members(tar)
    times, pictures = frames(parts["mp4"], ignore_edits)
    seen = np.array(times)[_edges(np.array([p.mean() > 127 for p in pictures]))]
    loud = np.abs(sound(parts["speak.flac"]))
    # The beep crosses zero all the time: bridge its half periods (24 samples at 1 kHz).
    envelope = np.array([loud[max(0, i - 24) : i + 25].max() for i in range(0, len(loud), 8)])
    heard = _edges(envelope > 0.25) * 8 / 48_000
    assert len(heard) == len(seen) == 2 * len(FLASHES) - 1  # the clip starts inside the first flash
    return 1000 * (heard - seen)


def _spoken(start_s: float = 0.72, end_s: float = 2.92, **values: Any) -> dict[Any, Any]:
    return case(SIZE, 3.0, [FACE], [segment_row(start_s, end_s, **values)], [(0.0, 3.0, "speak")])


def test_picture_and_sound_agree_whatever_the_source(tmp_path: Path) -> None:
    for name, media in _sources(tmp_path).items():
        out = pack(media, _spoken())
        assert not out.errors, (name, out.errors)
        (tar,) = out.files.values()
        offsets = _offset_ms(tar)
        assert np.abs(offsets).max() < 1.5, (name, offsets)
        assert np.array_equal(_offset_ms(tar, ignore_edits=True), offsets)


def test_lengths_are_exact_and_bytes_repeat(tmp_path: Path) -> None:
    media = flash_and_beep(tmp_path / "a.mp4", [n / 30 for n in range(90)], fps=30)
    first, again = pack(media, _spoken()), pack(media, _spoken())
    assert first.files == again.files and first.tables[t.CLIPS].equals(again.tables[t.CLIPS])
    ((name, tar),) = first.files.items()
    row = first.tables[t.CLIPS].to_pylist()[0]
    assert name == row["file"] == f"clips/bucket=ab/{SOURCE}-t00000-000000720.tar"
    assert row["sha256"] == hashlib.sha256(tar).hexdigest()
    assert (row["n_frames"], row["n_audio_samples"]) == (55, 55 * 1920)
    parts = members(tar)
    times, pictures = frames(parts["mp4"])
    assert times == pytest.approx([i / 25 for i in range(55)])
    assert pictures[0].shape == (row["height"], row["width"], 3)
    assert len(sound(parts["speak.flac"])) == len(sound(parts["listen.flac"])) == 55 * 1920


def test_no_frame_of_another_shot_gets_in(tmp_path: Path) -> None:
    # 29.97 fps, so that grid times never meet frame times: the nearest frame at a border may lie across the cut.
    fps = Fraction(30_000, 1001)
    images = [np.full((128, 192, 3), 220 if 30 <= n < 60 else 30, np.uint8) for n in range(90)]
    media = hostile.write(tmp_path / "cuts.mp4", images, fps=fps, codec_options={"bf": "3"})
    first, last = 30 / float(fps), 60 / float(fps)
    start_s, end_s = 26 / 25, 50 / 25  # the grid points inside the shot
    parts = case(SIZE, 3.0, [FACE], [segment_row(start_s, end_s, shot=1)], [(0.0, 3.0, "speak")], cuts=(first, last))
    (tar,) = pack(media, parts).files.values()
    assert min(p.mean() for p in frames(members(tar)["mp4"])[1]) > 200


def _shown(media: Path, duration_s: float) -> list[int]:
    """Numbers of the frames in a packed clip of [0.4, 2.4)."""
    parts = case(SIZE, duration_s, [(60.0, 40.0, 60.0, 40.0)], [segment_row(0.4, 2.4)], [(0.0, 3.0, "speak")])
    settings = {"aspect": 1.5, "margin_beside": 9, "margin_above": 9, "margin_below": 9, "short_side_px": 128}
    (tar,) = pack(media, parts, **settings).files.values()
    return [hostile.read_number(p) for p in frames(members(tar)["mp4"])[1]]


@pytest.mark.parametrize("fps", [Fraction(30), Fraction(24_000, 1001), Fraction(60), Fraction(50)])
def test_other_rates_are_resampled_to_the_nearest_frame(tmp_path: Path, fps: Fraction) -> None:
    media = hostile.make_fps(tmp_path / "a.mp4", fps, 3.0)
    errors_s = [number / float(fps) - (0.4 + i / 25) for i, number in enumerate(_shown(media, 3.0))]
    assert np.abs(errors_s).max() <= 0.5 / float(fps) + 0.001
    assert abs(np.mean(errors_s)) < 0.002  # no constant offset


def test_variable_rates_are_resampled_to_the_nearest_frame(tmp_path: Path) -> None:
    times = hostile.vfr_times(60)
    pictures = [hostile.picture(n) for n in range(60)]
    media = hostile.write(tmp_path / "vfr.mp4", pictures, times, sound=hostile.tone(3.0))
    nearest = [int(np.argmin(np.abs(np.array(times) - (0.4 + i / 25)))) for i in range(50)]
    assert _shown(media, times[-1]) == nearest


def test_sound_goes_where_it_belongs(tmp_path: Path) -> None:
    media = hostile.write(tmp_path / "a.mp4", hostile.pictures(4.0), sound=hostile.tone(4.0))
    states = [(0.0, 1.0, "speak"), (1.0, 2.0, "idle"), (2.0, 3.0, "listen"), (3.0, 4.0, "both")]
    rows = [segment_row(a, b, state=s) for a, b, s in states]
    out = pack(media, case(SIZE, 4.0, [FACE], rows, states))
    heard = {}
    for name, tar in out.files.items():
        parts = members(tar)
        heard[name] = [float(np.abs(sound(parts[f"{r}.flac"])).max()) > 0.1 for r in ("speak", "listen")]
    assert list(heard.values()) == [[True, False], [True, True], [False, True], [True, True]]
    levels = [(r["speak_level_db"] is None, r["listen_level_db"] is None) for r in out.tables[t.CLIPS].to_pylist()]
    assert levels == [(False, True), (False, False), (True, False), (False, False)]


def test_a_constant_offset_is_corrected_only_when_asked_and_sure(tmp_path: Path) -> None:
    media = flash_and_beep(tmp_path / "late.mp4", [n / 25 for n in range(75)], late_s=0.2)
    for confidence, enabled, shift_ms in ((0.9, False, 0), (0.1, True, 0), (0.9, True, 200)):
        parts = _spoken(0.68, 2.6, sync_offset_ms=200.0, sync_confidence=confidence)
        out = pack(media, parts, correct_offset=enabled)
        assert out.tables[t.CLIPS].to_pylist()[0]["audio_shift_ms"] == pytest.approx(shift_ms)
    (tar,) = out.files.values()
    assert np.abs(_offset_ms(tar)).max() < 1.5


def test_a_file_without_sound_gives_silence_of_full_length(tmp_path: Path) -> None:
    media = hostile.make_no_audio(tmp_path / "mute.mp4", 3.0)
    out = pack(media, _spoken())
    (tar,) = out.files.values()
    parts = members(tar)
    assert not sound(parts["speak.flac"]).any() and len(sound(parts["listen.flac"])) == 55 * 1920
    assert out.tables[t.CLIPS].to_pylist()[0]["speak_level_db"] is None


def test_a_segment_that_fails_leaves_no_file_and_harms_no_neighbour(tmp_path: Path) -> None:
    media = hostile.make_plain(tmp_path / "a.mp4", 3.0)
    rows = [segment_row(0.0, 1.0), segment_row(1.0, 2.0, person=1)]  # nobody ever saw person 1
    out = pack(media, case(SIZE, 3.0, [FACE], rows, [(0.0, 3.0, "speak")]))
    assert [e.unit_id for e in out.errors] == [rows[1]["segment_id"]]
    assert "no planned crop" in out.errors[0].message
    assert [r["segment_id"] for r in out.tables[t.CLIPS].to_pylist()] == [rows[0]["segment_id"]]
    assert len(out.files) == 1


def test_small_people_are_not_blown_up(tmp_path: Path) -> None:
    media = hostile.make_plain(tmp_path / "a.mp4", 1.0)
    parts = case(SIZE, 1.0, [FACE], [segment_row(0.0, 1.0)], [(0.0, 1.0, "speak")])
    out = pack(media, parts, max_upscale=1.5, margin_below_body=0)
    row = out.tables[t.CLIPS].to_pylist()[0]
    assert row["crop_xywh"][2:] == [84, 84]  # 3.5 faces of 24 px
    assert (row["width"], row["height"]) == (126, 126)


def test_a_crop_that_follows_keeps_the_person_in_place_and_in_time(tmp_path: Path) -> None:
    def x_of(at_s: float) -> float:
        return 20 + 110 * at_s / 3

    ticks = [n / 25 for n in range(75)]
    images = []
    for at_s in ticks:
        lit = any(a - 1e-6 <= at_s < b - 1e-6 for a, b in FLASHES)
        image = np.full((SIZE[1], SIZE[0], 3), 160 if lit else 20, np.uint8)
        left = round(x_of(at_s))
        image[40:64, left : left + 24, 0] = 255  # the face is red
        images.append(image)
    clock = np.arange(round(3.0 * 48_000)) / 48_000
    beep = np.zeros(len(clock), np.float32)
    for a, b in FLASHES:
        on = (clock >= a) & (clock < b)
        beep[on] = 0.5 * np.sin(2 * np.pi * 1000 * clock[on])
    media = hostile.write(tmp_path / "walk.mp4", images, ticks, sound=beep, codec_options={"bf": "3"})
    person = lambda at_s: (x_of(at_s), 40.0, 24.0, 24.0)  # noqa: E731
    parts = case(SIZE, 3.0, [person], [segment_row(0.04, 2.96)], [(0.0, 3.0, "speak")])
    row = plan(parts, margin_below_body=0).tables[t.CLIP_PLANS].to_pylist()[0]
    assert row["crop_moves"] and row["crop_w"] < 100 and 0.2 < row["crop_speed"] < 0.8
    out = pack(media, parts, margin_below_body=0, short_side_px=96)
    (tar,) = out.files.values()
    times, pictures = frames(members(tar)["mp4"])
    assert len(times) == 73 and {p.shape for p in pictures} == {pictures[0].shape}
    centres = []
    for p in pictures:
        red = p[..., 0].astype(int) - p[..., 1] > 60
        centres.append(np.argwhere(red).mean(axis=0))
    steps = np.abs(np.diff(np.array(centres), axis=0))
    assert (
        np.ptp(np.array(centres)[5:-5, 1]) < 6 and steps.max() < 3.5
    )  # of 96 px, and the marker steps by whole pixels: no jump, hardly a drift
    background = np.array([np.median(p[..., 2]) for p in pictures])
    seen = np.array(times)[_edges(background > 90)]
    loud = np.abs(sound(members(tar)["speak.flac"]))
    envelope = np.array([loud[max(0, i - 24) : i + 25].max() for i in range(0, len(loud), 8)])
    assert np.abs(_edges(envelope > 0.25) * 8 / 48_000 - seen).max() < 0.0015
