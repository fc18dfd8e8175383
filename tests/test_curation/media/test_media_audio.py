"""Sound: every sample stands where the source's clock says, in windows as in the whole, at every rate."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.media.audio import CHUNK_S, AudioReader, iter_audio_blocks, read_audio
from curation.media.errors import MediaError
from curation.media.probe import probe
from curation.media.sound import FILTER_REACH, OPPOSED, mixed, opposition, resample
from schemas.files.sound import mono_weights

LFE = 3
"""Place of the low frequencies' channel."""
CLICKS_S = (0.3, 0.9, 1.5)


def clicks(duration_s: float = 2.0, rate: int = hostile.RATE) -> np.ndarray:
    """Short smooth bursts whose centres stand exactly at CLICKS_S."""
    t = np.arange(round(duration_s * rate)) / rate
    return sum(0.7 * np.exp(-(((t - c) / 0.002) ** 2)) * np.cos(2 * np.pi * 1500 * (t - c)) for c in CLICKS_S).astype(
        np.float32
    )


def centres(samples: np.ndarray, rate: int) -> list[float]:
    """Energy centres in seconds of the bursts near CLICKS_S."""
    out = []
    for c in CLICKS_S:
        a, b = round((c - 0.05) * rate), round((c + 0.05) * rate)
        energy = samples[a:b].astype(np.float64) ** 2
        out.append(float((np.arange(a, b) * energy).sum() / energy.sum() / rate))
    return out


@pytest.fixture(scope="module")
def clicked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clicks")
    frames, late = hostile.pictures(2.0), [5 + n / 25 for n in range(50)]
    made = {
        "mp4": hostile.write(folder / "a.mp4", frames, sound=clicks()),
        "bframes": hostile.write(folder / "b.mp4", frames, codec_options={"bf": "3"}, sound=clicks()),
        "mkv": hostile.write(folder / "a.mkv", frames, sound=clicks()),
        "mkv44": hostile.write(folder / "a44.mkv", frames, sound=clicks(rate=44_100), sound_rate=44_100),
        "opus": hostile.write(folder / "o.mkv", frames, sound=clicks(), sound_codec="libopus"),
        "flac": hostile.write(folder / "f.mkv", frames, sound=clicks(), sound_codec="flac"),
        "mp3": hostile.write(folder / "m.mp4", frames, sound=clicks(), sound_codec="libmp3lame"),
        "avi": hostile.write(folder / "a.avi", frames, codec="mpeg4", sound=clicks(), sound_codec="pcm_s16le"),
        "ts": hostile.write(
            folder / "a.ts", frames, late, sound=clicks(), sound_start_s=5.0, container_format="mpegts"
        ),
        "mp4_44": hostile.write(folder / "a44.mp4", frames, sound=clicks(rate=44_100), sound_rate=44_100),
        "mp4_16": hostile.write(folder / "a16.mp4", frames, sound=clicks(rate=16_000), sound_rate=16_000),
    }
    return made


KINDS = ("mp4", "bframes", "mkv", "mkv44", "opus", "flac", "mp3", "avi", "ts", "mp4_44", "mp4_16")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_bursts_stand_where_they_were_put(clicked: dict[str, Path], kind: str, rate: int) -> None:
    samples = read_audio(clicked[kind], 0, 2, rate)
    assert samples is not None and samples.shape == (2 * rate,) and samples.dtype == np.float32
    # AVI has no encoder delay; Matroska rounds the stream's start to 1 ms.
    tolerance = 0.0011 if kind in ("mkv", "mkv44", "opus", "flac") else 0.0002
    assert centres(samples, rate) == pytest.approx(CLICKS_S, abs=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start_s=st.floats(-0.5, 1.8),
    length_s=st.floats(0, 1.5),
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]),
)
def test_a_window_is_the_slice_of_the_whole(
    clicked: dict[str, Path], kind: str, start_s: float, length_s: float, rate: int
) -> None:
    whole, window = read_audio(clicked[kind], -1, 4, rate), read_audio(clicked[kind], start_s, start_s + length_s, rate)
    assert whole is not None and window is not None
    n = round((start_s + length_s - start_s) * rate)
    first = round(start_s * rate) + rate
    assert len(window) == n and np.array_equal(window, whole[first : first + n])


def test_windows_across_chunks_of_a_long_file(tmp_path: Path) -> None:
    clip = hostile.write(tmp_path / "a.mp4", hostile.pictures(2.0), sound=clicks())
    path = hostile.loop_video(clip, tmp_path / "long.mp4", 2.5 * CHUNK_S)
    with AudioReader(path, 16_000) as reader:
        whole = reader.read(0, 2.5 * CHUNK_S)
        for border in (CHUNK_S, 2 * CHUNK_S):
            near = reader.read(border - 2, border + 2)
            assert np.array_equal(near, whole[(border - 2) * 16_000 : (border + 2) * 16_000])
            assert centres(near[32_000:], 16_000) == pytest.approx(CLICKS_S, abs=0.0005)
    alone = read_audio(path, 2 * CHUNK_S - 0.25, 2 * CHUNK_S + 0.25, 16_000)
    assert np.array_equal(alone, whole[round((2 * CHUNK_S - 0.25) * 16_000) : round((2 * CHUNK_S + 0.25) * 16_000)])


def test_chunk_borders_leave_no_trace(tmp_path: Path) -> None:
    n_s = CHUNK_S + 3
    path = hostile.write(
        tmp_path / "t.mkv", hostile.pictures(n_s, 5), fps=5, sound=hostile.tone(n_s), sound_codec="flac"
    )
    samples = read_audio(path, 0, n_s, 16_000)
    true = hostile.tone(n_s, 16_000)
    assert samples is not None
    inner = slice(1000, len(true) - 1000)
    assert np.abs(samples[inner] - true[inner]).max() < 1e-3


def test_real_footage_windows_equal_the_whole(media: Path) -> None:
    for name in ("stage_cuts.mp4", "late_audio.mp4", "talk_woman_garden.mp4", "talkers/real_newsreader_offset.avi"):
        whole = read_audio(media / name, -1, 12, 16_000)
        assert whole is not None
        for start in (-0.8, 0.0, 3.33, 7.1):
            window = read_audio(media / name, start, start + 1.7, 16_000)
            first = round(start * 16_000) + 16_000
            assert np.array_equal(window, whole[first : first + 27_200]), name


def test_sound_before_the_picture_and_after_it(media: Path) -> None:
    stage = read_audio(media / "stage_cuts.mp4", -2, 0, 16_000)
    assert stage is not None
    heard = np.flatnonzero(np.abs(stage) > 1e-4) / 16_000 - 2
    assert heard[0] == pytest.approx(-0.844, abs=0.003)
    late = read_audio(media / "late_audio.mp4", 0, 1, 16_000)
    assert late is not None and not late[: round(0.45 * 16_000)].any() and late[8000:].any()


def test_a_plain_wav_is_read_to_the_sample(media: Path) -> None:
    path = media / "telephone_two_speakers.wav"
    true, rate = soundfile.read(path, dtype="float32")
    assert np.array_equal(read_audio(path, 0, len(true) / rate, rate), true)
    assert np.array_equal(read_audio(path, 7.5, 8.5, rate), true[120_000:136_000])


def test_late_and_silent_and_missing_sound(tmp_path: Path) -> None:
    late = read_audio(hostile.make_late_audio(tmp_path / "late.mp4", 0.7), 0, 2, 16_000)
    assert late is not None and np.abs(late[: round(0.66 * 16_000)]).max() == 0
    onset = np.flatnonzero(np.abs(late) > 0.05)[0] / 16_000
    assert onset == pytest.approx(0.7, abs=0.003)
    silent = read_audio(hostile.make_silent_audio(tmp_path / "silent.mp4"), 0, 1, 16_000)
    assert silent is not None and not silent.any()
    assert read_audio(hostile.make_no_audio(tmp_path / "none.mp4"), 0, 1, 16_000) is None
    assert list(iter_audio_blocks(tmp_path / "none.mp4", 16_000)) == []
    with AudioReader(tmp_path / "none.mp4", 16_000) as reader, pytest.raises(MediaError, match="no_audio_stream"):
        reader.read(0, 1)
    with pytest.raises(MediaError, match="empty_file"):
        read_audio(hostile.make_empty(tmp_path / "empty.mp4"), 0, 1, 16_000)


def test_channels(tmp_path: Path) -> None:
    path = hostile.make_surround(tmp_path / "surround.mp4")
    channels, mono = read_audio(path, 0, 1, 48_000, mono=False), read_audio(path, 0, 1, 48_000)
    assert channels is not None and mono is not None and channels.shape == (6, 48_000)
    level = np.sqrt((channels[:, 5000:43_000] ** 2).mean(axis=1))
    assert level[2] == pytest.approx(0.3 / 2**0.5, rel=0.05) and np.delete(level, 2).max() < 0.01
    weight = mono_weights(["FL", "FR", "FC", "LFE", "BL", "BR"])[2]
    assert np.sqrt((mono[5000:43_000] ** 2).mean()) == pytest.approx(weight * 0.3 / 2**0.5, rel=0.05)


def test_mono_weights_sum_to_one() -> None:
    for names in (["FL", "FR"], ["FC"], ["NONE"], ["NONE", "NONE"], ["FL", "FR", "FC", "LFE", "BL", "BR"], ["LFE"]):
        assert mono_weights(names).sum() == pytest.approx(1, abs=1e-6)
    assert mono_weights(["FL", "FR"]).tolist() == [0.5, 0.5]


def test_blocks_join_to_the_whole_and_memory_is_a_block(media: Path) -> None:
    path = media / "interview_cuts.mp4"
    blocks = list(iter_audio_blocks(path, 16_000, 2.5))
    assert [t for t, _ in blocks] == pytest.approx([2.5 * i for i in range(len(blocks))])
    assert all(len(b) == 40_000 for _, b in blocks[:-1]) and 0 < len(blocks[-1][1]) <= 40_000
    joined = np.concatenate([b for _, b in blocks])
    assert len(joined) / 16_000 == pytest.approx(18, abs=0.01)
    assert np.array_equal(joined, read_audio(path, 0, len(joined) / 16_000, 16_000))
    assert sum(len(b) for _, b in iter_audio_blocks(path, 16_000, 2.5, end_s=20)) == 320_000


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(itertools.permutations([8_000, 16_000, 22_050, 44_100, 48_000], 2))))
def test_resampling_keeps_a_tone(rates: tuple[int, int]) -> None:
    from_hz, to_hz = rates
    out = resample(hostile.tone(0.5, from_hz, 1000)[None], from_hz, to_hz)[0]
    true = hostile.tone(0.5, to_hz, 1000)
    edge = 2 * FILTER_REACH * max(1, to_hz // from_hz + 1)
    n = min(len(out), len(true)) - edge
    assert len(out) == -(-round(0.5 * from_hz) * to_hz // from_hz)
    assert np.abs(out[edge:n] - true[edge:n]).max() < 2e-4


def test_resampling_rejects_what_would_alias() -> None:
    out = resample(hostile.tone(0.5, 48_000, 9_000)[None], 48_000, 16_000)[0]
    assert np.abs(out[200:-200]).max() < 0.3 * 10 ** (-60 / 20)


def test_damaged_sound_reads_as_zeros_and_is_told(tmp_path: Path) -> None:
    import av

    path = hostile.make_plain(tmp_path / "plain.mp4")
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in spans[30:36]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(bytes(data))
    with AudioReader(path, 48_000) as reader:
        samples = reader.read(0, 2)
        assert samples.shape == (96_000,) and np.isfinite(samples).all()
        assert reader.damaged and all(0.59 < a < b < 0.8 for a, b in reader.damaged)
        assert AudioReader(path, 48_000).damaged == []
        error = (samples - hostile.tone(2.0))[45_000:90_000]
        assert np.sqrt((error**2).mean()) < 0.02, "what follows stays in place"


@pytest.mark.parametrize("layout, listed", [("6.1", 125), ("7.1", 126), ("7.1", 127), ("7.1", 128)])
def test_channels_in_an_order_of_their_own_are_read(tmp_path: Path, layout: str, listed: int) -> None:
    path, n = hostile.make_reordered(tmp_path / "a.mov", layout, listed), int(layout[0]) + 1
    for _ in range(20):  # what frees memory twice does not end the process at once
        assert probe(path).audio_channels == n
        every = read_audio(path, 0.0, 1.0, 48_000, mono=False)
        mono = read_audio(path, 0.0, 1.0, 48_000)
    assert every is not None and mono is not None and every.shape == (n, 48_000)
    assert np.abs(mono - every.mean(axis=0)).max() < 1e-3, "without names, none counts more than another"


@pytest.mark.parametrize("codec", ["aac", "flac", "pcm_s16le", "pcm_f32le"])
@pytest.mark.parametrize("layout", ["5.1", "6.1", "7.1", "7.1(wide)"])
def test_every_channel_is_read_however_many_there_are(tmp_path: Path, layout: str, codec: str) -> None:
    """Of eight planes and more PyAV takes what lies behind them for another."""
    path, n = tmp_path / f"a.{'mov' if codec.startswith('pcm') else 'mkv'}", int(layout[0]) + 1
    hostile.write_many(path, layout, codec)
    assert probe(path).audio_channels == n
    every = read_audio(path, 0.1, 0.9, 48_000, mono=False)
    assert every is not None and every.shape == (n, 38_400)
    loud = np.sqrt((every**2).mean(axis=1))
    whole = np.arange(n) != (LFE if codec == "aac" else -1)  # AAC keeps of that one the deepest tones alone
    assert (loud / loud[0])[whole] == pytest.approx(np.arange(1, n + 1)[whole], rel=0.05)


def test_channels_in_opposite_phase_do_not_cancel(tmp_path: Path) -> None:
    """One microphone recorded as two channels, one of them turned over, and fainter at that."""
    voice = np.concatenate([np.zeros(hostile.RATE, np.float32), hostile.tone(30.0)])
    path = hostile.write(
        tmp_path / "a.mov", None, sound=np.stack([voice, -0.8 * voice]), sound_codec="pcm_f32le", layout="stereo"
    )
    with AudioReader(path, hostile.RATE) as reader:
        mono = reader.read(0, 31)
        window = reader.read(18.7, 22.3)
    assert np.abs(mono - 0.9 * voice).max() < 1e-6
    assert np.array_equal(window, mono[round(18.7 * hostile.RATE) : round(22.3 * hostile.RATE)])


@settings(max_examples=50, deadline=None)
@given(st.floats(-1, 1), st.integers(0, 2**32 - 1))
def test_what_is_not_opposed_is_mixed_as_ever(share: float, seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 4000)).astype(np.float32)
    stereo = np.stack([a, share * a + (1 - abs(share)) * b])
    turned = opposition(stereo) >= OPPOSED
    assert turned == (np.corrcoef(stereo)[0, 1] <= -OPPOSED)
    expected = stereo.mean(axis=0) * (1 if not turned else 0) + (a - stereo[1]) / 2 * turned
    np.testing.assert_allclose(mixed(stereo, ["FL", "FR"]), expected, atol=1e-6)
    assert opposition(np.stack([a, 0 * a])) == 0.0


def in_tracks(path: Path, sounds: list[np.ndarray], layout: str = "mono", **about: list[str]) -> Path:
    """Write a picture and a track of each sound; `about`: what the file says of each."""
    import av

    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = hostile.WIDTH, hostile.HEIGHT, "yuv420p"
        tracks = [out.add_stream("pcm_s16le", rate=hostile.RATE, layout=layout) for _ in sounds]
        for i, track in enumerate(tracks):
            track.metadata.update({key: values[i] for key, values in about.items()})
        for picture in hostile.pictures(1.0):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode(None))
        for track, sound in zip(tracks, sounds, strict=True):
            planes = np.round(np.atleast_2d(sound) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(planes.T.reshape(1, -1).copy(), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = hostile.RATE, 0, Fraction(1, hostile.RATE)
            out.mux(track.encode(frame))
            out.mux(track.encode(None))
    return path


def test_a_track_for_each_microphone_is_one_sound(tmp_path: Path) -> None:
    a, b = hostile.tone(1.0), hostile.tone(1.0, hz=1000.0)
    path = in_tracks(tmp_path / "a.mkv", [a, b])
    facts = probe(path)
    assert facts.audio_channels == 2 and facts.audio_duration_s == pytest.approx(1.0, abs=0.01)
    mono, apart = read_audio(path, 0, 1, hostile.RATE), read_audio(path, 0, 1, hostile.RATE, mono=False)
    assert mono is not None and apart is not None
    assert np.abs(apart - np.stack([a, b])).max() < 1e-3
    assert np.abs(mono - (a + b) / 2).max() < 1e-3
    assert len(list(iter_audio_blocks(path, hostile.RATE, 0.25))) == 4


@pytest.mark.parametrize(
    "about, layout",
    [({"language": ["eng", "fre"]}, "mono"), ({"title": ["", "Director's commentary"]}, "mono"), ({}, "stereo")],
)
def test_of_tracks_that_are_each_a_whole_sound_one_is_read(tmp_path: Path, about: Any, layout: str) -> None:
    a, b = hostile.tone(1.0), hostile.tone(1.0, hz=1000.0)
    n = 1 if layout == "mono" else 2
    path = in_tracks(tmp_path / "a.mkv", [np.stack([x] * n) for x in (a, b)], layout, **about)
    mono = read_audio(path, 0, 1, hostile.RATE)
    assert probe(path).audio_channels == n and mono is not None and np.abs(mono - a).max() < 1e-3


@pytest.mark.parametrize("codec", ["libopus", "libmp3lame"])
def test_codecs_that_cut_off_their_delay_again_after_a_seek_stay_in_place(tmp_path: Path, codec: str) -> None:
    """Matroska's clock of milliseconds rounds where their short first frame begins."""
    noise = np.random.default_rng(0).standard_normal(45 * hostile.RATE) * 0.05
    smooth = np.convolve(noise, np.ones(24) / 5, mode="same").astype(np.float32)
    path = hostile.write(tmp_path / "a.mkv", None, sound=smooth, sound_codec=codec)
    with AudioReader(path, hostile.RATE) as reader:
        for start_s in (0.5, 10.0, 20.5, 30.0, 41.0):
            at, n = round(start_s * hostile.RATE), hostile.RATE // 2
            heard = reader.read_samples(at - 60, at + n + 60)
            lags = [float(heard[60 + lag : 60 + lag + n] @ smooth[at : at + n]) for lag in range(-60, 61)]
            assert int(np.argmax(lags)) == 60, start_s


def test_a_lost_packet_is_a_hole_and_moves_nothing(tmp_path: Path) -> None:
    whole = hostile.write(tmp_path / "a.mkv", None, sound=hostile.tone(6.0), sound_codec="pcm_s16le")
    import av

    with av.open(str(whole)) as source, av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for n, packet in enumerate(source.demux(audio=0)):
            if packet.dts is not None and n != 100:
                packet.stream = stream
                out.mux(packet)
    a, b = (read_audio(p, 0, 6, hostile.RATE) for p in (whole, tmp_path / "b.mkv"))
    assert a is not None and b is not None
    gone = np.flatnonzero(a != b)
    assert len(gone) and gone[-1] - gone[0] < 0.05 * hostile.RATE and not b[gone].any()
    with AudioReader(tmp_path / "b.mkv", hostile.RATE) as reader:
        reader.read(0, 6)
        ((start_s, end_s),) = reader.damaged
        assert gone[0] >= start_s * hostile.RATE - 1 and gone[-1] <= end_s * hostile.RATE


def test_what_is_no_sound_is_silence_and_told(tmp_path: Path) -> None:
    sound = hostile.tone(2.0)
    sound[48_000:48_010] = np.nan
    sound[60_000] = 1e9
    path = hostile.write(tmp_path / "a.mkv", None, sound=sound, sound_codec="pcm_f32le")
    with AudioReader(path, hostile.RATE) as reader:
        heard = reader.read(0, 2)
        assert np.isfinite(heard).all() and np.abs(heard).max() < 1
        assert all(any(a <= t < b for a, b in reader.damaged) for t in (1.0, 1.25))
        assert sum(b - a for a, b in reader.damaged) < 0.2
