"""Whose voice is where: masks, wrong energy and separation, with a separator that is right by construction."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError
from table_rows import row

from annotators.speech.voices import CAMPPLUS_WEIGHT
from curation.pack.pack import kept_sides, pair_status
from schemas.tables.pairing import SEGMENTS
from schemas.time import Interval
from stages.packing.packing import PackingSettings
from stages.packing.voices import Voices, separated, stretches, wrong_energy

RATE = 48_000


def tone(hz: float, seconds: float = 2.0, gain: float = 0.2) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


class ToneSeparator:
    """Splits at 1 kHz, at a rate of its own, the high part first."""

    name: ClassVar[str] = "split at 1 kHz"
    weights: ClassVar[tuple[str, ...]] = ()
    rate_hz: ClassVar[int] = 24_000

    def separate(self, mixture: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(mixture)
        high = np.fft.rfftfreq(len(mixture), 1 / self.rate_hz) > 1000
        return np.stack([np.fft.irfft(spectrum * m, len(mixture)) for m in (high, ~high)]).astype(np.float32)


class ToneEmbedder:
    """Low sound is (1, 0), high sound (0, 1)."""

    name = "pitch"
    weights: tuple[str, ...] = ()
    dimension = 2

    def embed(self, clips: Any) -> np.ndarray:
        out = []
        for clip in clips:
            power = np.abs(np.fft.rfft(clip)) ** 2
            high = power[np.fft.rfftfreq(len(clip), 1 / 16_000) > 1000].sum() > power.sum() / 2
            out.append((0.0, 1.0) if high else (1.0, 0.0))
        return np.array(out, np.float32)


def test_masks_follow_the_turns_and_the_clip() -> None:
    voices = Voices([("me", Interval(0, 2)), ("you", Interval(1.5, 3))], {"t": frozenset({"me"})})
    own, others = voices.masks(frozenset({"me"}), first=1000, n=2000, rate_hz=1000)
    assert own.sum() == 1000 and own[:1000].all()
    assert others.sum() == 1500 and others[500:].all()
    assert stretches(own & others) == [(500, 1000)] and stretches(own & others, 501) == []


def test_own_voices_are_bound_ones_or_the_main_voice_of_what_is_spoken() -> None:
    voices = Voices([], {"t": frozenset({"me"})})
    said = row(SEGMENTS, track_id="t", state="speak", speaker_id="you")
    assert voices.of_segment(said) == {"me"}
    assert voices.of_segment(said.but(track_id="other")) == {"you"}
    assert voices.of_segment(said.but(track_id="other", state="listen")) == frozenset()


def test_wrong_energy_is_what_lies_under_the_wrong_voice() -> None:
    track = np.ones(100, np.float32)
    own, others = np.zeros(100, bool), np.zeros(100, bool)
    own[:60], others[50:75] = True, True
    assert wrong_energy(track, "speak", own, others) == pytest.approx(0.25)
    assert wrong_energy(track, "listen", own, others) == pytest.approx(0.6)
    assert wrong_energy(0 * track, "speak", own, others) is None


def test_an_overlap_is_taken_apart_and_given_to_its_owners() -> None:
    low, high = tone(300), tone(3000)
    a, b = RATE // 2, 3 * RATE // 2
    me, you = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    out = separated(low + high, RATE, [(a, b)], [me], [you], ToneSeparator(), ToneEmbedder(), fade_s=0.015)  # type: ignore[arg-type]
    inside = slice(a + RATE // 20, b - RATE // 20)
    assert np.abs(out["speak"][inside] - low[inside]).max() < 0.02
    assert np.abs(out["listen"][inside] - high[inside]).max() < 0.02
    for track in out.values():  # the rest is untouched, and the joints do not click
        assert np.array_equal(track[:a], (low + high)[:a]) and np.array_equal(track[b:], (low + high)[b:])
        assert np.abs(np.diff(track)).max() < 1.3 * np.abs(np.diff(low + high)).max()


def test_a_separator_is_named_by_module_and_class() -> None:
    made = PackingSettings(separator=f"{__name__}:ToneSeparator")
    assert made.separator.build().rate_hz == 24_000
    assert made.provenance().keys() >= {"separator", "separator.code", "embedder", CAMPPLUS_WEIGHT}
    assert PackingSettings().provenance() == {}
    for name in ("nowhere:X", f"{__name__}:Nothing", "ToneSeparator", "collections:OrderedDict"):
        with pytest.raises(ValidationError, match=name.split(":")[0]):
            PackingSettings(separator=name)


def test_an_exchange_whose_other_half_is_gone_is_an_orphan() -> None:
    a, b, voice, alone = (
        row(SEGMENTS, track_id=track, pair_id=pair, partner_track_id=partner)
        for track, pair, partner in (("a", "p", "b"), ("b", "p", "a"), ("c", "q", None), ("d", None, None))
    )
    kept = [a, b, voice, alone]
    assert [pair_status(x, kept_sides(kept)) for x in kept] == ["paired", "paired", "off_screen", None]
    assert pair_status(a, kept_sides([a, voice])) == "orphan"
