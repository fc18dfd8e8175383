"""Recordings in fields, in HDR, and B-frames in AVI: shown as players show them, in every window alike."""

from __future__ import annotations

import itertools
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import hostile
import imageio_ffmpeg
import numpy as np
import pytest

from curation.media.frame import Frame
from curation.media.picture.hdr import HLG, PQ, sdr_rgb
from curation.media.probe import probe
from curation.media.video import DecodeReport, frame_times, iter_frames, read_frame_at


def numbers(frames: list[Frame]) -> list[int]:
    return [hostile.read_number(f.rgb()) for f in frames]


# ---- fields ------------------------------------------------------------------------------------------------------


def woven(n: int) -> np.ndarray:
    """Draw a numbered picture with bars below that move 6 px from its upper field to its lower one."""
    image, x = hostile.picture(n), np.arange(hostile.WIDTH)
    below = hostile.HEIGHT // 3
    for field in (0, 1):
        bars = np.where((x - 12 * n - 6 * field) % 48 < 24, 220, 30).astype(np.uint8)
        image[below + field :: 2] = bars[None, :, None]
    return image


def combing(gray: np.ndarray) -> float:
    """Return how much lines differ from those beside them, by how much from those two away; above 1 is a comb."""
    g = gray[gray.shape[0] // 3 + 4 :].astype(float)
    near = np.abs(g[2:-2] - (g[1:-3] + g[3:-1]) / 2).mean()
    far = np.abs(g[2:-2] - (g[:-4] + g[4:]) / 2).mean()
    return float(near / (far + 1))


def make_interlaced(path: Path, codec: str = "libx264") -> Path:
    options = {"flags": "+ildct+ilme", "g": "12"} | ({"x264-params": "tff=1"} if codec == "libx264" else {"b": "4M"})
    return hostile.write(path, [woven(n) for n in range(40)], codec=codec, codec_options=options)


def make_mixed(path: Path) -> Path:
    """Write 20 progressive pictures, then 20 in fields, then 20 progressive ones, in one stream."""
    with av.open(str(path), "w", format="mpegts") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = hostile.WIDTH, hostile.HEIGHT, "yuv420p"
        for part in range(3):
            coder = av.CodecContext.create("libx264", "w")
            coder.width, coder.height, coder.pix_fmt = hostile.WIDTH, hostile.HEIGHT, "yuv420p"
            coder.time_base, coder.framerate = Fraction(1, 25), Fraction(25)
            coder.options = {"bf": "0", "tune": "zerolatency", "g": "10"} | (
                {"x264-params": "tff=1"} if part == 1 else {}
            )
            frames: list[Any] = []
            for n in range(20 * part, 20 * part + 20):
                rgb = woven(n) if part == 1 else hostile.picture(n)
                frames.append(av.VideoFrame.from_ndarray(rgb, format="rgb24"))
                frames[-1].pts, frames[-1].time_base = n, Fraction(1, 25)
            for frame in [*frames, None]:
                for packet in coder.encode(frame):
                    packet.stream = stream
                    out.mux(packet)
    return path


def decoded(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize(("name", "codec"), [("h264.mp4", "libx264"), ("mpeg2.ts", "mpeg2video")])
def test_fields_become_frames_at_the_same_times(tmp_path: Path, name: str, codec: str) -> None:
    path = make_interlaced(tmp_path / name, codec)
    raw, frames = decoded(path), list(iter_frames(path))
    assert all(f.interlaced_frame for f in raw) and all(f.was_interlaced for f in frames)
    assert numbers(frames) == list(range(40)) == [f.index for f in frames]
    assert np.allclose([f.pts_s for f in frames], frame_times(path), atol=1e-9)
    assert np.mean([combing(f.to_ndarray(format="gray")) for f in raw]) > 2
    assert max(combing(f.gray()) for f in frames) < 1
    assert probe(path).pixel_format == "yuv420p interlaced"


def test_frames_of_a_mixed_stream_are_deinterlaced_where_they_say_so(tmp_path: Path) -> None:
    path = make_mixed(tmp_path / "mixed.ts")
    raw, frames = decoded(path), list(iter_frames(path))
    assert numbers(frames) == list(range(60))
    assert [f.was_interlaced for f in frames] == [bool(f.interlaced_frame) for f in raw]
    assert {f.was_interlaced for f in frames[20:40]} == {True}
    assert max(combing(f.gray()) for f in frames[20:40]) < 1
    for frame, source in zip(frames, raw, strict=True):
        if not frame.was_interlaced:
            assert bytes(frame.source.planes[0]) == bytes(source.planes[0])


@pytest.mark.parametrize("make", [make_interlaced, make_mixed])
def test_windows_of_fields_have_the_pictures_of_the_whole(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "fields.ts")
    whole = list(iter_frames(path))
    times = [f.pts_s for f in whole]
    borders = [-1.0, times[1], times[12], times[20], times[21] + 0.01, times[24], times[36], 99.0]
    windows = [f for a, b in itertools.pairwise(borders) for f in iter_frames(path, a, b)]
    assert [f.pts_s for f in windows] == times
    assert all(np.array_equal(a.rgb(), b.rgb()) for a, b in zip(whole, windows, strict=True))
    for n in (0, 12, 24, 39):
        assert np.array_equal(read_frame_at(path, times[n]).rgb(), whole[n].rgb())


def test_progressive_frames_are_the_decoders_own(tmp_path: Path) -> None:
    path = hostile.make_plain(tmp_path / "plain.mp4")
    for frame, source in zip(iter_frames(path), decoded(path), strict=True):
        assert not frame.was_interlaced
        assert all(bytes(a) == bytes(b) for a, b in zip(frame.source.planes, source.planes, strict=True))
    assert probe(path).pixel_format == "yuv420p"


# ---- B-frames in AVI ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "1"}), ("libx264", {"bf": "3", "b-pyramid": "normal"}), ("libx264", {"bf": "3", "g": "10"}),
        ("libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=10"}), ("mpeg4", {"bf": "2", "b": "4M"}),
    ],
    ids=["one", "pyramid", "closed", "open", "mpeg4"],
)  # fmt: skip
def test_avi_with_b_frames_gives_every_frame_in_order(tmp_path: Path, codec: str, options: dict[str, str]) -> None:
    path = hostile.write(tmp_path / "b.avi", hostile.pictures(3.0), codec=codec, codec_options=options)
    assert "B" in {f.pict_type.name if hasattr(f.pict_type, "name") else "?IPB"[f.pict_type] for f in decoded(path)}
    report = DecodeReport()
    frames = list(iter_frames(path, report=report))
    times = [f.pts_s for f in frames]
    assert numbers(frames) == list(range(75)) and report.n_disordered == 0
    assert times == pytest.approx([n / 25 for n in range(75)]) and np.allclose(times, frame_times(path))
    info = probe(path)
    assert (info.n_video_packets, info.is_vfr, info.fps) == (75, False, pytest.approx(25))
    assert info.duration_s == pytest.approx(3.0)
    windows = [f for a, b in ((-1, 0.4), (0.4, 1.33), (1.33, 2.0), (2.0, 9)) for f in iter_frames(path, a, b)]
    assert numbers(windows) == list(range(75)) and [f.pts_s for f in windows] == pytest.approx(times)


# ---- HDR ---------------------------------------------------------------------------------------------------------


def make_hdr(path: Path, transfer: str) -> np.ndarray:
    """Write one picture of SDR as HDR, its white at 203 nits; returns the picture."""
    drawn = hostile.picture(0x5A5)
    size = f"{drawn.shape[1]}x{drawn.shape[0]}"
    linear = "zscale=min=gbr:m=gbr:tin=bt709:t=linear:pin=bt709:p=bt709:rin=pc:r=pc:npl=203,format=gbrpf32le"
    signal = f"zscale=min=gbr:tin=linear:pin=bt709:rin=pc:p=2020:t={transfer}:m=2020_ncl:r=tv:npl=203"
    tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size,
        "-r", "25", "-i", "-", "-vf", f"format=gbrp,{linear},{signal},format=yuv420p10le", "-c:v", "libx264",
        "-crf", "4", *tags, str(path),
    ]  # fmt: skip
    subprocess.run(command, input=drawn.tobytes() * 3, check=True)
    return drawn


@pytest.mark.parametrize(
    ("transfer", "name", "apart"), [("smpte2084", "PQ", 4), ("arib-std-b67", "HLG", 9)], ids=["pq", "hlg"]
)
def test_hdr_is_shown_as_sdr(tmp_path: Path, transfer: str, name: str, apart: float) -> None:
    # Further apart in HLG: zscale gives each channel a gamma of its own, where BT.2100 gives one by luminance.
    drawn = make_hdr(tmp_path / "hdr.mp4", transfer)
    frame = next(iter_frames(tmp_path / "hdr.mp4"))
    rgb, gray = frame.rgb(), frame.gray()
    assert np.abs(rgb.astype(int) - drawn).mean() < apart
    assert rgb.std() == pytest.approx(drawn.std(), rel=0.08)
    luma = drawn @ np.array([0.2126, 0.7152, 0.0722])
    assert gray.shape == luma.shape and np.abs(gray - luma).mean() < apart
    half = cv2.resize(rgb, (96, 64), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(frame.rgb(96).astype(int) - half).mean() < 3 and frame.gray(96).shape == (64, 96)
    assert probe(tmp_path / "hdr.mp4").pixel_format == f"yuv420p10le {name}"


def test_reference_levels_of_hdr() -> None:
    """BT.2408 table 1: white of SDR, 203 nits, is 58 % of PQ and 75 % of HLG, and grey of 18 % 38 % of either."""
    shown = []
    for transfer, grey, white in ((PQ, 0.38, 0.58), (HLG, 0.38, 0.75)):
        levels = np.array([0, grey, white, 1]) * 65535
        signal = np.repeat(np.rint(levels).astype(np.uint16)[None, :, None], 3, axis=2)
        rgb = sdr_rgb(signal, transfer, 9)[0].astype(int)
        assert (np.ptp(rgb, axis=1) <= 1).all() and rgb[0, 0] == 0 and (rgb[3] == 255).all()
        assert 225 < rgb[2, 0] < 240
        shown.append(rgb[1, 0])
    assert shown[0] == pytest.approx(shown[1], abs=4) and 95 < shown[0] < 130
