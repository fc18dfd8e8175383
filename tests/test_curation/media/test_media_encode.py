"""Encoding: repeatable bytes, times any reader understands, and sound that stays with the picture after cutting."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import hostile
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.media.audio import read_audio
from curation.media.encode import (
    decode_jpeg,
    encode_clip,
    encode_clip_bytes,
    encode_flac,
    encode_jpeg,
    jpeg_part,
)
from curation.media.errors import MediaError
from curation.media.grid import frames_on_grid
from curation.media.probe import probe
from curation.media.video import frame_times, iter_frames

EVENTS_S = (0.6, 1.4, 2.2, 3.0)


def flash_and_beep(path: Path, fps: Fraction | int = 25, offset_s: float = 0.0, **options: object) -> Path:
    """Write 4 s in which a white frame and a 2 ms burst begin at each of EVENTS_S (a frame's time at 25 fps)."""
    n, rate = round(4 * fps), hostile.RATE
    times = [float(i / Fraction(fps)) for i in range(n)]
    flashes = {int(np.argmin(np.abs(np.array(times) - e))) for e in EVENTS_S}
    images = [np.full((96, 128, 3), 235 if i in flashes else 20, np.uint8) for i in range(n)]
    sound = np.zeros(4 * rate, np.float32)
    for i in flashes:
        at = round(times[i] * rate)
        sound[at : at + rate // 500] = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(rate // 500) / rate)
    stamps = [offset_s + t for t in times]
    return hostile.write(path, images, stamps, fps=fps, sound=sound, sound_start_s=offset_s, **options)  # type: ignore[arg-type]


def cut(source: Path, folder: Path, start_s: float, duration_s: float, fps: int = 25) -> tuple[Path, bytes]:
    """Cut as packing does: nearest frames on an even grid, sound sample-exact for the same length."""
    n = round(duration_s * fps)
    frames = iter_frames(source, start_s - 0.2, start_s + duration_s + 0.2)
    clip = encode_clip(
        folder / "cut.mp4", (f.rgb() for f in frames_on_grid(frames, start_s, n, fps)), fps=fps, preset="veryfast"
    )
    assert clip.n_frames == n
    samples = read_audio(source, start_s, start_s + n / fps, 48_000)
    assert samples is not None and len(samples) == n * 48_000 // fps
    return folder / "cut.mp4", encode_flac(samples)


def events(clip: Path, flac: bytes, ignore_edit_list: bool) -> tuple[list[float], list[float]]:
    """Read flashes and beeps back with a reader of its own, in seconds."""
    options = {"ignore_editlist": "1"} if ignore_edit_list else {}
    with av.open(str(clip), options=options) as container:
        seen = [(f.time, f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]
    lit = [t for i, (t, level) in enumerate(seen) if level > 128 and (i == 0 or seen[i - 1][1] <= 128)]
    samples, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    loud = np.flatnonzero(np.abs(samples) > 0.25)
    starts = loud[np.flatnonzero(np.diff(loud, prepend=-rate) > rate // 10)]
    return [float(t) for t in lit], (starts / rate).tolist()


SOURCES = {
    "plain": {"codec_options": {"bf": "3", "g": "30"}},
    "offset_ts": {"offset_s": 7.0, "container_format": "mpegts", "codec_options": {"bf": "2", "g": "25"}},
    "hevc": {"codec": "libx265"},
    "thirty": {"fps": 30},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_flash_and_beep_stay_together(tmp_path: Path, kind: str) -> None:
    source = flash_and_beep(tmp_path / f"{kind}.mp4", **SOURCES[kind])  # type: ignore[arg-type]
    times = frame_times(source)
    # Cut on frames: exact. Cut anywhere: the picture moves to the nearest frame, at most half an interval.
    for start_s, tolerance in ((float(times[10]), 0.001), (0.04, 0.001), (0.3137, 0.0205), (0.5511, 0.0205)):
        tolerance = tolerance if kind != "thirty" else 0.5 / 30 + 0.5 / 25  # the flash's frame may be a neighbour's
        clip, flac = cut(source, tmp_path, start_s, 2.8)
        for ignore in (False, True):
            flashes, beeps = events(clip, flac, ignore)
            assert len(flashes) == len(beeps) >= 3
            assert flashes == pytest.approx(beeps, abs=tolerance), (kind, start_s)


def test_clips_are_repeatable_and_start_at_zero(tmp_path: Path) -> None:
    images = hostile.pictures(1.2)
    a, info = encode_clip_bytes(images)
    b = encode_clip(tmp_path / "b.mp4", iter(images))
    assert a == (tmp_path / "b.mp4").read_bytes() and info == b
    assert (b.n_frames, b.width, b.height, b.n_bytes) == (30, 192, 128, len(a))
    assert a.index(b"moov") < a.index(b"mdat") and b"elst" not in a
    with av.open(str(tmp_path / "b.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert [p.pts for p in packets] == [p.dts for p in packets] == [512 * i for i in range(30)]
    assert packets[0].is_keyframe and packets[25].is_keyframe
    frames = list(iter_frames(tmp_path / "b.mp4"))
    assert [hostile.read_number(f.rgb()) for f in frames] == list(range(30))
    for frame, drawn in zip(frames, images, strict=True):
        assert np.abs(frame.rgb().astype(int) - drawn).mean() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["b.mp4"]
    facts = probe(tmp_path / "b.mp4")
    assert facts.fps == pytest.approx(25) and facts.duration_s == pytest.approx(1.2) and not facts.is_vfr


def test_clip_refusals_leave_no_file(tmp_path: Path) -> None:
    even, odd = np.zeros((64, 64, 3), np.uint8), np.zeros((63, 64, 3), np.uint8)

    def broken() -> object:
        yield even
        raise RuntimeError("source failed")

    for frames in ([], [odd], [even, np.zeros((32, 64, 3), np.uint8)], [even.astype(np.float32)]):
        with pytest.raises(MediaError, match="encode_failed"):
            encode_clip(tmp_path / "x.mp4", frames)
    with pytest.raises(RuntimeError, match="source failed"):
        encode_clip(tmp_path / "x.mp4", broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_what_ffmpeg_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file or directory"):
        encode_clip(tmp_path / "none" / "x.mp4", [np.zeros((64, 64, 3), np.uint8)] * 9)


def test_colours_are_tagged_and_no_frame_waits_for_another(tmp_path: Path) -> None:
    encode_clip(tmp_path / "x.mp4", hostile.pictures(1.2))
    with av.open(str(tmp_path / "x.mp4")) as container:
        stream = container.streams.video[0]
        c = stream.codec_context
        assert (c.color_range, c.colorspace, c.color_primaries, c.color_trc) == (1, 1, 1, 1)
        assert (c.pix_fmt, stream.average_rate, stream.start_time, c.has_b_frames) == ("yuv420p", 25, 0, False)


def test_a_killed_process_leaves_no_clip_and_no_ffmpeg(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys, numpy as np
from pathlib import Path
from curation.media.encode import encode_clip
def frames():
    for i in range(9):
        yield np.zeros((64, 64, 3), np.uint8)
        if i == 5:
            print(Path(f"/proc/self/task/{{os.getpid()}}/children").read_text(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
encode_clip(Path({str(tmp_path / "x.mp4")!r}), frames())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    (child,) = done.stdout.split()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text():
        time.sleep(0.01)
    assert not (tmp_path / "x.mp4").exists()


def test_flac_is_exact_to_sixteen_bits() -> None:
    samples = hostile.tone(0.5)
    data = encode_flac(samples)
    assert data == encode_flac(samples)
    back, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 48_000 and len(back) == len(samples)
    assert np.abs(back - samples).max() <= 1 / 32_768
    assert soundfile.info(io.BytesIO(data)).subtype == "PCM_16"
    loud, _ = soundfile.read(io.BytesIO(encode_flac(np.array([3.0, -3.0], np.float32))))
    assert loud == pytest.approx([1, -1], abs=1e-4)
    for bad in (np.zeros((2, 9), np.float32), np.zeros(0, np.float32), np.array([np.nan], np.float32)):
        with pytest.raises(MediaError, match="encode_failed"):
            encode_flac(bad)


def test_jpeg_keeps_colours() -> None:
    image = hostile.picture(5)
    back = decode_jpeg(encode_jpeg(image))
    assert back.shape == image.shape and np.abs(back.astype(int) - image).mean() < 4
    assert encode_jpeg(image) == encode_jpeg(image)
    for bad in (b"", b"not a picture"):
        with pytest.raises(MediaError, match="decode_failed"):
            decode_jpeg(bad)


class At:
    """A thing with a time."""

    def __init__(self, pts_s: float) -> None:
        self.pts_s = pts_s


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 4000), min_size=0, max_size=60),
    st.floats(-1, 3),
    st.integers(1, 80),
    st.sampled_from([5, 24, 25, 30]),
)
def test_grid_takes_the_nearest_frame(steps: list[int], t0_s: float, n: int, fps: int) -> None:
    times = np.array([0, *np.cumsum(steps)]) / 12_800
    grid = t0_s + np.arange(n) / fps
    taken = np.array([f.pts_s for f in frames_on_grid([At(t) for t in times], t0_s, n, fps)])
    best = np.abs(grid[:, None] - times[None]).min(axis=1)
    assert np.allclose(np.abs(taken - grid), best, atol=1e-8)
    assert (np.diff(taken) >= 0).all() and np.isin(taken, times).all()
    inside = (grid >= times[0]) & (grid <= times[-1])
    widest = np.diff(times).max() if len(times) > 1 else 0
    assert (np.abs(taken - grid)[inside] <= widest / 2 + 1e-8).all()


def test_grid_of_its_own_rate_is_the_identity() -> None:
    frames = [At(i / 25) for i in range(100)]
    assert list(frames_on_grid(frames, 0.4, 50, 25)) == frames[10:60]
    with pytest.raises(ValueError, match="no frame"):
        list(frames_on_grid([], 0, 1, 25))


def test_a_part_of_a_picture_leaves_the_rest_out() -> None:
    rgb = np.zeros((100, 200, 3), np.uint8)
    rgb[60:] = 255
    whole = encode_jpeg(rgb)
    assert jpeg_part(whole, ()) == whole
    part = decode_jpeg(jpeg_part(whole, (0.25, 0.0, 0.5, 0.6)))
    assert part.shape == (60, 100, 3) and int(part[:58].max()) < 40
