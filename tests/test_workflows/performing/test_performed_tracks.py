"""The live sound is that of packed samples, however it is cut; and overlaps are taken apart where that is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import perform_case as case
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from train_case import FirstAlone

from annotators.protocols_speech import FloatArray, Turn
from curation.media import audio as audio_module
from curation.media.audio import AudioReader
from lpm_train.data.clip import latent_states
from lpm_train.encoders.audio import latent_steps
from lpm_train.encoders.codec import PatchCodec, latent_frames, latent_span, whole_frames
from lpm_train.session import load_model, make_encoders
from lpm_train.tools.perform import Character, act, begin
from schemas.samples.sample import SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ
from stages.packing.audio import role_gain
from workflows.performing.states import heard_frames, states_of, timeline
from workflows.performing.tracks import (
    FADE_S,
    Apart,
    Recording,
    a_channel_each,
    known_voice,
    one_mixture,
    overlaps,
    tracks,
)

FRAMES = round(case.SECONDS * 25)
TURNS = [Turn(start_s, end_s, who) for who, start_s, end_s in case.TURNS]


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Recording]:
    with AudioReader(case.write_talk(tmp_path / "talk.wav"), PACKED_AUDIO_HZ) as reader:
        yield Recording(reader, reader, 0)


spans = st.tuples(st.floats(0, 5), st.floats(0.01, 2), st.sampled_from(["a", "b", "other"]))


@given(
    st.lists(spans.map(lambda x: Turn(x[0], x[0] + x[1], x[2])), max_size=8),
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=15, deadline=None
)
def test_tracks_are_those_of_packing_however_they_are_cut(talk: Recording, turns: list[Turn], cuts: list[int]) -> None:
    heard, n = heard_frames(turns, FRAMES), FRAMES * SAMPLES_PER_FRAME
    edges = np.unique(np.clip([0, *np.cumsum(cuts), FRAMES], 0, FRAMES)).tolist()
    for person in ("a", "b"):
        runs = timeline(states_of(heard, person))
        want = [role_gain(runs, role, 0.0, n, PACKED_AUDIO_HZ, FADE_S) for role in ("speak", "listen")]
        made = tracks(one_mixture(talk), heard, person)
        parts = [made(a, b) for a, b in itertools.pairwise(edges)]
        for side in (0, 1):
            got = np.concatenate([part[side] for part in parts])
            np.testing.assert_allclose(got, talk.mixed(0, n) * want[side], atol=1e-6)


def test_who_does_not_speak_has_exact_silence_and_modes_say_so(talk: Recording) -> None:
    heard = heard_frames(TURNS, FRAMES)
    speak, listen = tracks(one_mixture(talk), heard, "a")(0, FRAMES)
    states = states_of(heard, "a").repeat(SAMPLES_PER_FRAME)
    assert not speak[states == 2].any() and not listen[states == 1].any()
    for side in (speak, listen):
        np.testing.assert_array_equal(side[states == 3][2000:-2000], talk.mixed(0, len(side))[states == 3][2000:-2000])


@pytest.mark.parametrize("codec", [PatchCodec((2, 4, 4)), FirstAlone((2, 4, 4))], ids=["even", "first alone"])
def test_what_drives_a_stream_is_what_a_packed_sample_would_give(
    codec: PatchCodec, talk: Recording, tmp_path: Path
) -> None:
    """Features and modes of every latent, against the trainer's own way from a clip's tracks and states."""
    config, model = load_model(case.write_checkpoint(tmp_path / "run"))
    encoders = replace(make_encoders(config.data), codec=codec)
    heard = heard_frames([Turn(0.0, 0.4, "a"), *TURNS], FRAMES)
    states, made = states_of(heard, "a"), tracks(one_mixture(talk), heard, "a")
    stream = begin(model, config, encoders, Character(case.write_faces(tmp_path)[0]))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    r, block, lead = config.model.audio_steps, config.stream.block, stream.lead
    compute = stream._block

    def watched(frames: int) -> torch.Tensor:
        here = slice(lead * r, (lead + block) * r)
        features = torch.stack([s.features_TA[here] for s in stream.sounds])
        seen.append((features, torch.stack([s.on_T[here] for s in stream.sounds])))
        return compute(frames)

    stream._block = watched  # type: ignore[method-assign]
    assert len(list(act(stream, codec, made, states))) == FRAMES
    latents = latent_frames(codec, whole_frames(codec, FRAMES))
    silence = encoders.audio(torch.zeros(SAMPLES_PER_FRAME), PACKED_AUDIO_HZ)[-1]
    modes = latent_states(states, [latent_span(codec, i) for i in range(latents)])
    assert modes[0] == 1
    for side, wave in enumerate(made(0, FRAMES)):
        packed = encoders.audio(torch.from_numpy(wave), PACKED_AUDIO_HZ)
        want = latent_steps(packed, codec, 0, latents, 1, silence)
        got = torch.cat([features[side] for features, _ in seen])[: latents * r]
        on = torch.cat([on[side] for _, on in seen])[: latents * r]
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
        assert torch.equal(on, (modes & (1 + side)).bool().repeat_interleave(r))


def test_the_length_of_decoding_chunks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, found = case.write_talk(tmp_path / "talk.flac"), []
    for chunk_s in (1, 7):
        monkeypatch.setattr(audio_module, "CHUNK_S", chunk_s)
        with AudioReader(file, PACKED_AUDIO_HZ) as reader:
            recording = Recording(reader, reader, round(0.4 * PACKED_AUDIO_HZ))
            made = tracks(one_mixture(recording), heard_frames(TURNS, 100, 0.4), "b")
            found.append(np.concatenate([np.stack(made(n, n + 1)) for n in range(100)], axis=1))
    np.testing.assert_array_equal(*found)


def test_channels_are_never_mixed_into_each_other(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.wav", case.tracks().T, PACKED_AUDIO_HZ)
    heard = heard_frames(TURNS, FRAMES)
    with AudioReader(tmp_path / "two.wav", PACKED_AUDIO_HZ, mono=False) as reader:
        recording = Recording(reader, reader, 0)
        two = recording.channels(0, FRAMES * SAMPLES_PER_FRAME)
        for own, person in enumerate("ab"):
            speak, listen = tracks(a_channel_each(recording), heard, person)(0, FRAMES)
            both = (states_of(heard, person) == 3).repeat(SAMPLES_PER_FRAME)
            both[: np.flatnonzero(both)[0] + 2000] = both[np.flatnonzero(both)[-1] - 2000 :] = False
            np.testing.assert_array_equal(speak[both], two[own][both])
            np.testing.assert_array_equal(listen[both], two[1 - own][both])


class Loudness:
    """An embedder to which a voice is how loud it is: the softer estimate is a's."""

    name, weights, dimension = "loudness", (), 2

    def embed(self, clips: list[FloatArray]) -> FloatArray:
        order = np.argsort([float(np.abs(clip).mean()) for clip in clips])
        return np.eye(2, dtype=np.float32)[np.argsort(order)] if len(clips) > 1 else np.eye(2, dtype=np.float32)[:1]


def test_overlaps_are_taken_apart_once_and_only_there(talk: Recording) -> None:
    heard, separator = heard_frames(TURNS, FRAMES), case.Quarters()
    spans = overlaps(heard, 0.2)
    assert spans == [(88 * SAMPLES_PER_FRAME, 98 * SAMPLES_PER_FRAME)] and overlaps(heard, 0.5) == []
    known = dict(zip("ab", np.eye(2, dtype=np.float32), strict=True))
    apart = Apart(talk, spans, known, separator, Loudness())
    parts = [apart(n * SAMPLES_PER_FRAME, (n + 3) * SAMPLES_PER_FRAME) for n in range(0, FRAMES - 3, 3)]
    assert separator.calls == 1
    got = {p: np.concatenate([part[p] for part in parts]) for p in "ab"}
    mix = talk.mixed(0, len(got["a"]))
    (a, b), outside = spans[0], np.ones(len(mix), bool)
    outside[a:b] = False
    for person, share in (("a", 0.25), ("b", 0.75)):
        np.testing.assert_array_equal(got[person][outside], mix[outside])
        level = np.abs(got[person][a + 2000 : b - 2000]).mean() / np.abs(mix[a + 2000 : b - 2000]).mean()
        assert level == pytest.approx(share, abs=0.05)


def test_a_voice_is_known_from_speech_of_its_own(talk: Recording) -> None:
    heard = heard_frames(TURNS, FRAMES)
    voice = known_voice(talk, states_of(heard, "a"), Loudness())
    assert voice is not None and voice.shape == (2,)
    assert known_voice(talk, states_of(heard[:20], "a"), Loudness()) is None
