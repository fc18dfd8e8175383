"""Alignment of recordings: offset and drift under leak and noise, and low confidence where nothing is shared."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly
from session_factory import conversation

from annotators.sound.session_align import Alignment, align
from annotators.sound.sound_signature import levels_db, sound_signature
from curation.media.audio import read_audio
from schemas.time import AUDIO_HZ
from stages.sources.session_clock import clocks, inverse

FRAME_S = 0.04
seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(-60, 60), st.floats(-200, 200), st.floats(-40, -10))
def test_offset_and_drift_are_found_through_leak_and_noise(
    seed: int, offset_s: float, drift_ppm: float, leak_db: float
) -> None:
    found = align(*conversation(seed, 300.0, offset_s, drift_ppm, leak_db))
    assert found.offset_s == pytest.approx(offset_s, abs=0.01)
    assert found.drift_ppm == pytest.approx(drift_ppm, abs=20)
    assert found.confidence > 0.8


@settings(max_examples=15, deadline=None)
@given(seeds, st.floats(-10, 10), st.floats(-30, -10))
def test_half_a_minute_gives_the_offset_but_no_drift(seed: int, offset_s: float, leak_db: float) -> None:
    found = align(*conversation(seed, 30.0, offset_s, 0.0, leak_db))
    assert found.offset_s == pytest.approx(offset_s, abs=0.01)
    assert found.drift_ppm is None and found.confidence > 0.65


# The next two bound what chance can do: about one draw in ten thousand lies beyond, hence always the same draws.
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([20.0, 60.0, 300.0]))
def test_turns_that_alternate_without_any_shared_sound_are_no_evidence(seed: int, length_s: float) -> None:
    assert align(*conversation(seed, length_s, 3.0, 0.0, -300.0)).confidence < 0.7


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seeds, st.sampled_from([20.0, 60.0, 300.0]))
def test_other_conversations_are_not_aligned(seed: int, length_s: float) -> None:
    first, _ = conversation(seed, length_s, 0.0, 0.0, -20.0)
    _, second = conversation(seed + 20_000, length_s, 0.0, 0.0, -20.0)
    assert align(first, second).confidence < 0.7


@settings(max_examples=10, deadline=None)
@given(seeds, st.floats(-20, 20))
def test_swapping_the_files_inverts_the_alignment(seed: int, offset_s: float) -> None:
    first, second = conversation(seed, 240.0, offset_s, 150.0, -20.0)
    there, back = align(first, second), inverse(align(second, first))
    assert there.offset_s == pytest.approx(back.offset_s, abs=0.005)
    assert there.drift_ppm == pytest.approx(back.drift_ppm, abs=15)


def test_a_file_that_started_minutes_later_and_is_shorter() -> None:
    first, _ = conversation(7, 900.0, 0.0, 0.0, -25.0)
    found = align(first, first[43_217:55_000])
    assert found.offset_s == pytest.approx(432.17, abs=0.005) and found.confidence > 0.8


def test_silence_and_slivers_have_no_confidence() -> None:
    quiet, short = np.zeros((3000, 4), np.uint8), np.full((50, 4), 100, np.uint8)
    for a, b in [(quiet, quiet), (short, quiet), (short[:0], quiet)]:
        assert align(a, b).confidence == 0.0


def test_signature_of_a_tone_stands_in_its_band_at_its_level() -> None:
    t = np.arange(AUDIO_HZ) / AUDIO_HZ
    levels = levels_db(sound_signature((0.1 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32), AUDIO_HZ))
    assert levels.shape == (100, 4)
    assert np.median(levels[:, 1]) == pytest.approx(-23.0, abs=1.0)  # 0.1 peak: -20 dB, less 3 for its power
    assert np.median(levels[:, 3]) < -60


def test_clocks_join_files_along_the_best_links() -> None:
    links = {
        ("a", "b"): Alignment(10.0, 100.0, 0.9, 60.0),
        ("b", "c"): Alignment(-4.0, None, 0.8, 60.0),
        ("a", "c"): Alignment(55.0, None, 0.3, 60.0),
        ("a", "d"): Alignment(1.0, None, 0.2, 60.0),
    }
    out = clocks("abcd", {**links, ("b", "d"): links["a", "d"], ("c", "d"): links["a", "d"]}, 0.6)
    assert {f: c.reference for f, c in out.items()} == {"a": "b", "b": "b", "c": "b", "d": "d"}
    assert out["c"].offset_s == -4.0 and out["c"].confidence == 0.8
    assert out["a"].session_s(110.0) == pytest.approx((110.0 - 10.0) / 1.0001)


def test_session_footage_is_a_fraction_of_a_frame_apart(media: Path) -> None:
    one, two = (read_audio(media / f"session_{n}.mp4", 0.0, 7.0, AUDIO_HZ) for n in ("talker", "listener"))
    assert one is not None and two is not None
    found = align(sound_signature(one, AUDIO_HZ), sound_signature(two, AUDIO_HZ))
    assert found.offset_s == pytest.approx(0.32, abs=0.005) and found.confidence > 0.8


@pytest.mark.parametrize(("start_s", "ppm"), [(1.7, 0.0), (1.7, 100.0), (0.93, -200.0)])
def test_trimmed_and_resampled_footage(media: Path, start_s: float, ppm: float) -> None:
    sound = read_audio(media / "session_talker.mp4", 0.0, 7.0, AUDIO_HZ)
    assert sound is not None
    slow = resample_poly(sound, 10_000, 10_000 + round(ppm / 100)) if ppm else sound
    later = slow[round(start_s * AUDIO_HZ) :].astype(np.float32) * 0.03
    found = align(sound_signature(sound, AUDIO_HZ), sound_signature(later, AUDIO_HZ))
    assert found.offset_s == pytest.approx(start_s, abs=0.01) and found.confidence > 0.7


def test_other_people_are_not_of_one_session(media: Path) -> None:
    files = [media / f"talk_woman_{n}.mp4" for n in ("garden", "studio")]
    sounds = [read_audio(f, 0.0, 30.0, AUDIO_HZ) for f in files]
    signatures = [sound_signature(x, AUDIO_HZ) for x in sounds if x is not None]
    assert len(signatures) == 2
    for a, b in combinations(signatures, 2):
        assert align(a, b).confidence < 0.6
