"""Probing: facts that are known, broken files refused with the right code, healthy files never called broken."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import hostile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.errors import MediaError
from curation.media.probe import irregular_ratio, mean_rate_hz, probe, sha256_file
from curation.media.signature import near_duplicate_signature
from curation.media.structure import missing_bytes

BROKEN_FOOTAGE = {"bad_empty.mp4": "empty_file", "bad_text.mp4": "not_a_video", "bad_truncated.mp4": "truncated"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return hostile.make_all(tmp_path_factory.mktemp("hostile"))


def test_all_healthy_footage_is_accepted_and_whole(media: Path) -> None:
    files = sorted(p for p in media.rglob("*") if p.suffix in (".mp4", ".avi") and p.name not in BROKEN_FOOTAGE)
    assert len(files) > 40
    for path in files:
        info = probe(path)
        assert info.n_video_packets > 0 and info.duration_s > 3, path.name
        assert not info.is_vfr, path.name
        end_s = info.duration_s
        if info.audio_start_s is not None and info.audio_duration_s is not None:
            end_s = max(end_s, info.audio_start_s + info.audio_duration_s)
        with av.open(str(path)) as container:
            assert end_s + info.start_s == pytest.approx(container.duration / av.time_base, abs=0.1), path.name


@pytest.mark.parametrize(("name", "code"), BROKEN_FOOTAGE.items())
def test_broken_footage_is_refused_with_its_reason(media: Path, name: str, code: str) -> None:
    with pytest.raises(MediaError) as caught:
        probe(media / name)
    assert caught.value.code == code
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_known_facts_of_real_footage(media: Path) -> None:
    garden = probe(media / "talk_woman_garden.mp4")
    assert (garden.video_codec, garden.width, garden.height, garden.fps) == ("hevc", 1080, 1920, pytest.approx(25))
    assert garden.audio_rate_hz == 44_100 and garden.audio_channels == 2
    stage = probe(media / "stage_cuts.mp4")
    assert stage.fps == pytest.approx(29.97, abs=0.001)
    assert stage.start_s == pytest.approx(10214 / 11988)  # the picture starts late; the sound is 0.84 s ahead
    assert stage.audio_start_s == pytest.approx(353 / 44_100 - 10214 / 11988)
    late = probe(media / "late_audio.mp4")
    assert late.audio_start_s == pytest.approx(20_110 / 44_100)
    assert late.width == 406, "a sample aspect ratio of 405/406 is rounding, not shape"


def test_known_facts_of_made_files(made: dict[str, Path]) -> None:
    assert not probe(made["plain"]).is_vfr and not probe(made["matroska"]).is_vfr
    vfr = probe(made["vfr"])
    assert vfr.is_vfr and vfr.irregular_ratio > 0.5
    turned = probe(made["rotated"])
    assert (turned.width, turned.height) == (128, 192)
    assert turned.rotation_deg in (90, 270)
    assert (probe(made["odd"]).width, probe(made["odd"]).height) == (321, 241)
    hevc = probe(made["hevc"])
    assert (hevc.video_codec, hevc.pixel_format) == ("hevc", "yuv420p10le")
    assert probe(made["anamorphic"]).width == 288
    assert probe(made["surround"]).audio_channels == 6
    assert probe(made["fps30"]).fps == pytest.approx(30)
    assert probe(made["fps11_9"]).fps == pytest.approx(11.9, rel=1e-4)
    assert probe(made["late_start"]).start_s == pytest.approx(5.0)
    assert probe(made["late_start"]).duration_s == pytest.approx(2.0)
    silent, none = probe(made["silent"]), probe(made["no_audio"])
    assert silent.has_audio and silent.audio_codec == "aac"
    assert not none.has_audio and none.audio_codec is None and none.audio_duration_s is None


def test_broken_made_files_are_refused(tmp_path: Path) -> None:
    plain = hostile.make_plain(tmp_path / "plain.mp4", 0.4)
    broken = {
        hostile.make_empty(tmp_path / "empty.mp4"): "empty_file",
        hostile.make_text(tmp_path / "text.mp4"): "not_a_video",
        hostile.make_playlist(tmp_path / "list.mp4", plain): "not_a_video",
        hostile.make_playlist(tmp_path / "list.m3u8", plain): "not_a_video",
        hostile.make_no_video(tmp_path / "sound.mp4"): "no_video_stream",
        hostile.make_unknown_codec(tmp_path / "codec.mp4"): "decode_failed",
        hostile.make_truncated(tmp_path / "tail.mp4"): "truncated",
        hostile.make_truncated(tmp_path / "front.mp4", 0.7, faststart=True): "truncated",
        tmp_path / "absent.mp4": "missing_file",
        tmp_path: "missing_file",
    }
    for path, code in broken.items():
        with pytest.raises(MediaError) as caught:
            probe(path)
        assert caught.value.code == code, path.name


@pytest.mark.parametrize("name", ["a.mp4", "front.mp4", "a.mkv", "a.avi"])
def test_any_cut_tail_is_found_and_no_whole_file_is_accused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    options = {"movflags": "+faststart"} if name == "front.mp4" else None
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    hostile.write(path, hostile.pictures(1.0), codec=codec, sound=hostile.tone(1.0), container_options=options)
    assert missing_bytes(path) == 0
    assert probe(path).n_video_packets == 25
    data = path.read_bytes()
    for share in (0.3, 0.6, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(MediaError) as caught:
            probe(path)
        assert caught.value.code == "truncated", share


def test_fragmented_mp4(tmp_path: Path) -> None:
    path = tmp_path / "fragments.mp4"
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    hostile.write(path, hostile.pictures(2.0), codec_options={"g": "10"}, container_options=options)
    assert probe(path).duration_s == pytest.approx(2.0)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(MediaError, match="truncated"):
        probe(path)


@pytest.mark.parametrize("name", hostile.HOSTILE_NAMES)
def test_file_names_are_only_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_bytes(hostile.make_no_audio(tmp_path / "made.mp4", 0.2).read_bytes())
    assert probe(path).n_video_packets == 5
    monkeypatch.chdir(tmp_path)
    assert probe(Path(name)).n_video_packets == 5


def test_an_error_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(MediaError("truncated", "x was cut short")))
    assert (error.code, str(error)) == ("truncated", "truncated: x was cut short")


def test_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_signature_tells_copies_from_others(media: Path) -> None:
    def signature(name: str) -> bytes:
        return near_duplicate_signature(media / name, probe(media / name).duration_s)

    def distance(a: bytes, b: bytes) -> float:
        return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() / (8 * len(a))

    studio = signature("talk_woman_studio.mp4")
    assert len(studio) == 32
    # The same shot of the same woman, scaled from 1080x1920 HEVC to 406x720 H.264 and two seconds shorter.
    assert distance(signature("late_audio.mp4"), signature("talk_woman_garden.mp4")) < 0.2
    for other in ("talkers/real_newsreader_offset.avi", "stage_cuts.mp4", "talkers/generated_woman.mp4"):
        assert distance(studio, signature(other)) > 0.3


@given(st.lists(st.floats(0.001, 10), min_size=3, max_size=50), st.floats(0, 100))
def test_rates_do_not_depend_on_the_start(steps: list[float], start: float) -> None:
    times = np.cumsum(steps)
    assert mean_rate_hz(times + start, 1) == pytest.approx(mean_rate_hz(times, 1), rel=1e-6)
    assert 0 <= irregular_ratio(times, 0.001) <= 1


def test_clock_rounding_is_not_variable_rate() -> None:
    times = np.round(np.arange(300) / 29.97, 3)  # Matroska's milliseconds: intervals of 33 and 34 ms
    assert irregular_ratio(times, 0.001) == 0
    assert mean_rate_hz(times, float(times[-1])) == pytest.approx(29.97, rel=1e-3)
    dropped = np.delete(np.arange(1000) / 25, 500)
    assert irregular_ratio(dropped, 1 / 12_800) < 0.01


def test_frame_rate_fractions(tmp_path: Path) -> None:
    path = hostile.make_fps(tmp_path / "ntsc.mp4", Fraction(30_000, 1001), 1.0)
    assert probe(path).fps == pytest.approx(30_000 / 1001, rel=1e-4)
