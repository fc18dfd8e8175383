"""What users give to a stream is read as what was trained on: sound on the picture's clock, pictures upright."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import cv2
import hostile
import numpy as np
import pytest
import soundfile
import torch
from damaged import with_a_hole

from curation.media.audio import AudioReader
from lpm_train.data.clip import read_image, to_unit
from lpm_train.storage import DataError
from lpm_train.tools.media import load_image, load_sound


def piped(path: Path) -> np.ndarray:
    """Return a file's sound as the pipeline reads it."""
    with AudioReader(path, 48_000) as reader:
        return reader.read_samples(0, reader.end_index())


def sound(seconds: float, rate: int = 48_000) -> np.ndarray:
    return hostile.tone(seconds, rate) * np.linspace(0.2, 1, round(seconds * rate), dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("late.mp4", {"sound_start_s": 0.7}),
        ("late.mkv", {"sound_start_s": 0.7, "sound_codec": "libopus"}),
        ("late.avi", {"codec": "mpeg4", "sound_codec": "pcm_s16le"}),
        ("begins.ts", {"pts_s": [5 + n / 25 for n in range(50)], "sound_start_s": 4.8}),
        ("half.mkv", {"sound_codec": "flac", "sound_rate": 24_000, "sound_start_s": 0.5}),
    ],
)
def test_sound_of_a_video_is_on_the_clock_of_its_picture(tmp_path: Path, name: str, more: dict[str, object]) -> None:
    rate = int(str(more.get("sound_rate", 48_000)))
    path = hostile.write(tmp_path / name, hostile.pictures(2.0), sound=sound(1.2, rate), **more)  # type: ignore[arg-type]
    heard, want = load_sound(path).numpy(), piped(path)
    assert heard.dtype == np.float32 and abs(len(heard) - len(want)) < 1024  # what pads the last packet
    n = min(len(heard), len(want)) - 64  # filters end each in its way
    np.testing.assert_allclose(heard[:n], want[:n], atol=2e-3)
    assert np.abs(want).max() > 0.2


def test_a_sound_of_its_own_begins_at_its_beginning(tmp_path: Path) -> None:
    path = hostile.write(tmp_path / "a.mka", None, sound=sound(1.0), sound_codec="flac", sound_start_s=3.0,
                         container_format="matroska")  # fmt: skip
    np.testing.assert_allclose(load_sound(path).numpy(), sound(1.0), atol=1e-4)
    soundfile.write(tmp_path / "low.wav", sound(1.5, 16_000), 16_000)
    heard = load_sound(tmp_path / "low.wav").numpy()
    np.testing.assert_allclose(heard[100:-100], sound(1.5)[100 : len(heard) - 100], atol=2e-3)
    assert len(heard) == 72_000


def test_a_gap_stays_a_gap(tmp_path: Path) -> None:
    """What comes after silence that was not recorded is not moved up."""
    whole, path = sound(2.0), tmp_path / "gap.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for at in (*range(0, 24_000, 960), *range(72_000, 96_000, 960)):
            samples = (whole[None, at : at + 960] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 48_000, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    heard = load_sound(path).numpy()
    whole[24_000:72_000] = 0
    np.testing.assert_allclose(heard, whole, atol=1e-4)


def test_channels_are_mixed_as_for_training(tmp_path: Path) -> None:
    """Stereo of one voice is as loud as that voice; FFmpeg's own mix of 7.1 in another order ends the process."""
    soundfile.write(tmp_path / "two.wav", np.stack([sound(0.5), sound(0.5)], 1), 48_000, subtype="FLOAT")
    np.testing.assert_allclose(load_sound(tmp_path / "two.wav").numpy(), sound(0.5), atol=1e-6)
    for path in (
        hostile.make_surround(tmp_path / "six.mp4"),
        hostile.write_many(tmp_path / "8.mov", "7.1", "pcm_s16le"),
    ):
        want = piped(path)
        np.testing.assert_allclose(load_sound(path).numpy()[: len(want)], want, atol=1e-6)
    path = hostile.make_reordered(tmp_path / "other.mov")
    code = "import sys; from lpm_train.tools.media import load_sound; print(len(load_sound(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["48000"]


def test_what_is_damaged_is_silent_and_costs_no_more(tmp_path: Path) -> None:
    wave = sound(1.0)
    wave[20_000], wave[40_000] = np.nan, np.inf
    soundfile.write(tmp_path / "nan.wav", wave, 48_000, subtype="FLOAT")
    heard = load_sound(tmp_path / "nan.wav").numpy()
    assert np.isfinite(heard).all() and len(heard) == 48_000
    assert np.array_equal(heard, piped(tmp_path / "nan.wav")) and np.count_nonzero(heard) > 30_000
    path = hostile.write(tmp_path / "whole.m4a", None, sound=sound(2.0), container_format="mp4")
    holed = with_a_hole(path, tmp_path / "holed.m4a", 40, "audio")
    before, after = load_sound(path).numpy(), load_sound(holed).numpy()
    assert len(before) == len(after)
    assert np.array_equal(before[:38_000], after[:38_000])
    np.testing.assert_allclose(before[-50_000:], after[-50_000:], atol=2e-3)  # AAC fills bands with noise


def test_what_holds_no_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no sound: give an audio file"):
        load_sound(hostile.make_no_audio(tmp_path / "mute.mp4"))
    with pytest.raises(DataError, match="is no sound that can be read"):
        load_sound(hostile.make_text(tmp_path / "text.wav"))
    with pytest.raises(DataError, match="is no sound that can be read"):
        load_sound(tmp_path / "none.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 48_000)
    with pytest.raises(DataError, match=r"empty\.wav"):
        load_sound(tmp_path / "empty.wav")


# ---- pictures


def coded(suffix: str) -> bytes:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32] = (0, 0, 250), (0, 250, 0), (250, 0, 0)
    return cv2.imencode(suffix, picture)[1].tobytes()


def turned(data: bytes, orientation: int, order: str = "<") -> bytes:
    """Put Exif of that orientation into a JPEG or PNG."""
    entries = struct.pack(f"{order}HHHIHHHHIHH", 2, 0x10F, 3, 1, 7, 0, 0x112, 3, 1, orientation, 0)
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8) + entries + bytes(4)
    if data.startswith(b"\x89PNG"):
        crc = struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
        return data[:33] + struct.pack(">I", len(tiff)) + b"eXIf" + tiff + crc + data[33:]
    exif = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_shown_as_their_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"face{suffix}"
    for order in "<>":
        path.write_bytes(turned(coded(suffix), orientation, order))
        upright = cv2.imdecode(np.frombuffer(turned(coded(".jpg"), orientation, order), np.uint8), cv2.IMREAD_COLOR_RGB)
        height, width = upright.shape[:2]
        shown = (load_image(path, height, width).permute(1, 2, 0).numpy() + 1) * 127.5
        inside = np.s_[4:-4:8, 4:-4:8]  # within the four fields
        assert np.abs(shown[inside] - upright[inside]).mean() < 8
        assert load_image(path, 32, 16).shape == (3, 32, 16)


def test_pictures_without_exif_are_as_before(tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    for data in (coded(".jpg"), turned(coded(".jpg"), 0), turned(coded(".jpg"), 77)):
        path.write_bytes(data)
        assert torch.equal(load_image(path, 32, 32), to_unit(read_image(coded(".jpg"), (32, 32))))
    whole = turned(coded(".jpg"), 6)
    for n in range(0, 60, 3):  # ends within its Exif
        path.write_bytes(whole[:n])
        with pytest.raises(DataError, match="is no picture"):
            load_image(path, 32, 32)
