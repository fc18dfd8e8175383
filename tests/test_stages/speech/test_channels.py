"""Levels of channels: each channel by itself, on the grid, whatever the length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from curation.check.join import joined
from curation.media.encode import encode_clip
from curation.memory import run_chain
from schemas import tables as t
from stages.sources.probe import Probe, ProbeSettings
from stages.speech.channels import Channels, ChannelsSettings, levels_db


@given(st.integers(1, 3000), st.floats(0.001, 1.0))
def test_a_steady_channel_has_its_level_and_a_silent_one_the_floor(n: int, amplitude: float) -> None:
    sound_CN = np.stack([np.full(n, amplitude, np.float32), np.zeros(n, np.float32)])
    levels_CK = levels_db(sound_CN)
    assert levels_CK.shape == (2, -(-n // 640)) and (levels_CK[1] == -120).all()
    assert np.allclose(levels_CK[0, : n // 640], 20 * np.log10(amplitude), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_of_two_channels_has_both_and_one_of_one_has_none(channels: int, tmp_path: Path) -> None:
    encode_clip(tmp_path / "p.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 25)
    for name, level in (("speak", 0.5), ("listen", 0.0)):
        soundfile.write(tmp_path / f"{name}.flac", np.full(16000, level, np.float32), 16000)
    sounds = {name: tmp_path / f"{name}.flac" for name in ("speak", "listen")[:channels]}
    file = joined(tmp_path / "p.mp4", sounds, tmp_path / "both.mkv")
    tables = run_chain(file, [Probe(ProbeSettings()), Channels(ChannelsSettings())])
    rows = [r for part in tables[t.CHANNEL_FRAMES] for r in t.CHANNEL_FRAMES.rows(part)]
    assert len(rows) == (50 if channels == 2 else 0)
    assert all(abs(r.level_db - (-6.02 if r.channel == 0 else -120)) < 0.1 for r in rows)
