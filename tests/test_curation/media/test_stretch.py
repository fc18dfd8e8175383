"""Stretches for the browser: right pictures and sound at the right times, copied where that can be, one seek away."""

from __future__ import annotations

from pathlib import Path

import av
import hostile
import numpy as np
import pytest
import review_case as case

from curation.media import stretch
from curation.media.audio import read_audio
from curation.media.errors import MediaError
from curation.media.stretch import Form, Stretch, write_clip, write_stretch
from curation.media.video import iter_frames

KINDS = {
    "h264.mp4": {}, "h264.mkv": {"sound": "libopus"}, "late.ts": {"start_s": 3.0}, "mute.mp4": {"sound": None},
    "vp9.webm": {"codec": "libvpx-vp9", "sound": "libopus"}, "mpeg4.avi": {"codec": "mpeg4", "sound": "mp3"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stretch")
    for name, how in KINDS.items():
        case.video(folder / name, length_s=9.0, **how)  # type: ignore[arg-type]
    return folder


def shown(out: Path, part: Stretch) -> list[tuple[float, float]]:
    """Return (time in the source by the file's clock, time in the source by how bright the picture is)."""
    return [
        (part.start_s + f.pts_s, (float(np.mean(f.rgb()[2:30, 2:30])) - 20) / 12) for f in iter_frames(out)
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["mp4", "webm"])
@pytest.mark.parametrize("name", KINDS)
def test_a_stretch_shows_its_time_and_sounds(made: Path, tmp_path: Path, name: str, form: Form) -> None:
    out = tmp_path / f"out.{form}"
    part = write_stretch(made / name, 5.3, 8.1, out, form)
    assert part.copied == (
        (name, form) in [("h264.mp4", "mp4"), ("h264.mkv", "mp4"), ("mute.mp4", "mp4"), ("vp9.webm", "webm")]
    )
    assert part.start_s == pytest.approx(4.0 if part.copied else 5.3, abs=0.001)
    times = shown(out, part)
    assert max(abs(a - b) for a, b in times) < 0.4, "a quantised coder is off by a few levels, 12 of which are a second"
    assert times[0][0] <= 5.36 and times[-1][0] == pytest.approx(8.06, abs=0.05)
    heard = read_audio(out, 0.0, 8.1 - part.start_s, 48_000)
    if name == "mute.mp4":
        assert heard is None
    else:
        assert heard is not None and 0.15 < float(np.sqrt(np.mean(heard[9600:-9600] ** 2))) < 0.25


def test_a_turned_picture_is_encoded_upright(tmp_path: Path) -> None:
    source, out = hostile.make_rotated(tmp_path / "turned.mp4", 90), tmp_path / "out.mp4"
    part = write_stretch(source, 0.0, 0.3, out, "mp4")
    upright = next(iter_frames(source))
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert not part.copied
        assert (stream.width, stream.height) == (upright.width // 2 * 2, upright.height // 2 * 2)


def test_a_stretch_late_in_a_long_file_reads_no_more_than_an_early_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = case.video(tmp_path / "long.mp4", length_s=19.0, gop=25, sound=None)
    read: list[int] = []
    counted = stretch.timestamp

    def counting(packet: object) -> int | None:
        read.append(1)
        return counted(packet)

    monkeypatch.setattr(stretch, "timestamp", counting)
    write_stretch(source, 17.2, 18.2, tmp_path / "out.mp4", "mp4")
    assert len(read) < 5, "the key frame is sought, not found by reading"
    frames = list(iter_frames(tmp_path / "out.mp4"))
    assert len(frames) == 30


def test_a_key_frame_far_before_is_not_copied_from(tmp_path: Path) -> None:
    source = case.video(tmp_path / "long.mp4", length_s=14.0, gop=1000)
    assert not write_stretch(source, 12.5, 13.5, tmp_path / "out.mp4", "mp4").copied
    assert write_stretch(source, 8.5, 9.5, tmp_path / "near.mp4", "mp4").start_s == 0.0


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_a_packed_clip_has_its_sound(made: Path, tmp_path: Path, form: Form) -> None:
    sound = np.full(48_000, 0.25, np.float32) * np.sin(np.arange(48_000) / 20).astype(np.float32)
    out = tmp_path / f"clip.{form}"
    write_clip(case.video(tmp_path / "c.mp4", sound=None, length_s=1.0, b_frames=0).read_bytes(), sound, out, form)
    heard = read_audio(out, 0.0, 1.0, 48_000)
    assert heard is not None and float(np.sqrt(np.mean(heard[9600:-9600] ** 2))) == pytest.approx(0.18, abs=0.02)
    assert len(list(iter_frames(out))) == 25


def test_what_is_no_video_or_no_stretch_is_said(made: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(MediaError, match="not a video"):
        write_stretch(text, 0.0, 1.0, tmp_path / "out.mp4", "mp4")
    with pytest.raises(MediaError, match="no frame"):
        write_stretch(made / "h264.mp4", 100.0, 101.0, tmp_path / "out.mp4", "mp4")
    with pytest.raises(ValueError, match="must last"):
        write_stretch(made / "h264.mp4", 1.0, 1.0, tmp_path / "out.mp4", "mp4")
