"""Sound that is enhanced before it is packed, with an enhancer that is right by construction."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import hostile
import numpy as np
import pytest
from packing_case import FACE, SIZE, SOURCE, Packed, case, members, pack, segment_row, sound
from table_rows import row

from schemas import tables as t
from schemas.tables.output import ClipRow
from stages.packing.enhancement import enhanced

RATE = 48_000
NEW = (ClipRow.enhancer, ClipRow.snr_before_db, ClipRow.snr_after_db, ClipRow.removed_db)


class LowPass:
    """Keeps what lies below 1 kHz, at a rate of its own."""

    name: ClassVar[str] = "below 1 kHz"
    weights: ClassVar[tuple[str, ...]] = ()
    rate_hz: ClassVar[int] = 24_000

    def enhance(self, sound: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(sound)
        spectrum[np.fft.rfftfreq(len(sound), 1 / self.rate_hz) > 1000] = 0
        return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


class Shorter(LowPass):
    def enhance(self, sound: np.ndarray) -> np.ndarray:
        return sound[1:]


def footage(folder: Path) -> Path:
    """Three seconds: a tone of 250 Hz as speech from 1 to 2 s, under a hiss of 5 kHz."""
    at_s = np.arange(3 * RATE) / RATE
    speech = 0.2 * np.sin(2 * np.pi * 250 * at_s) * ((at_s >= 1) & (at_s < 2))
    hiss = 0.02 * np.sin(2 * np.pi * 5000 * at_s)
    return hostile.write(folder / "a.mp4", hostile.pictures(3.0), sound=(speech + hiss).astype(np.float32))


def packed(media: Path, turns: bool = True, **settings: object) -> Packed:
    states = [(0.0, 2.0, "speak"), (2.0, 3.0, "listen")]
    parts = case(SIZE, 3.0, [FACE], [segment_row(0.4, 2.6)], states)
    if turns:
        turn = row(t.VOICE_TURNS, source_id=SOURCE, speaker_id="a", diarized_as="a", start_s=1.0, end_s=2.0)
        parts[t.VOICE_TURNS] = [t.VOICE_TURNS.from_rows([turn])]
    return pack(media, parts, **settings)


@pytest.mark.parametrize("turns", [True, False])
def test_what_was_changed_is_told_and_nothing_where_nothing_was(tmp_path: Path, turns: bool) -> None:
    media = footage(tmp_path)
    (plain,) = t.CLIPS.rows(packed(media, turns).tables[t.CLIPS])
    assert [getattr(plain, column.name) for column in NEW] == [None] * 4
    (clip,) = t.CLIPS.rows(packed(media, turns, enhancer=f"{__name__}:LowPass").tables[t.CLIPS])
    assert clip.enhancer == "below 1 kHz" and clip.sha256 != plain.sha256
    assert clip.removed_db == pytest.approx(10 * np.log10(2.2 * 0.02**2 / (0.2**2 + 2.2 * 0.02**2)), abs=0.5)
    if turns:
        assert clip.snr_before_db == pytest.approx(20.0, abs=0.5)
        assert clip.snr_after_db is not None and clip.snr_after_db > 40
    else:
        assert clip.snr_before_db is clip.snr_after_db is None


def test_both_tracks_are_enhanced_in_time_and_still_divided(tmp_path: Path) -> None:
    media = footage(tmp_path)
    heard = {}
    for name in ("none", f"{__name__}:LowPass"):
        (tar,) = packed(media, enhancer=name).files.values()
        heard[name] = {role: sound(members(tar)[f"{role}.flac"]) for role in ("speak", "listen")}
    before, after = heard.values()
    borders = round(1.6 * RATE)  # the speaking ends
    assert not after["speak"][borders:].any() and not after["listen"][:borders].any()
    middle = slice(round(0.8 * RATE), round(1.4 * RATE))
    at_s = np.arange(len(after["speak"]))[middle] / RATE + 0.4
    tone = 0.2 * np.sin(2 * np.pi * 250 * at_s)
    assert np.abs(before["speak"][middle] - tone).max() > 0.015  # the hiss, as AAC left it
    assert np.abs(after["speak"][middle] - tone).max() < 0.01


def test_an_enhancer_that_changes_times_is_refused() -> None:
    with pytest.raises(ValueError, match="must keep the length"):
        enhanced(np.zeros(4800, np.float32), Shorter())


def test_a_file_without_sound_was_not_enhanced(tmp_path: Path) -> None:
    media = hostile.make_no_audio(tmp_path / "mute.mp4", 3.0)
    (clip,) = t.CLIPS.rows(packed(media, turns=False, enhancer=f"{__name__}:LowPass").tables[t.CLIPS])
    assert clip.enhancer is None and clip.removed_db is None
