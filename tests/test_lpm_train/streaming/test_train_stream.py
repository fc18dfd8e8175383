"""The stream: the same frames however sound arrives, in constant memory, equal to generating in one go."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
import train_case as case
from stream_case import AUDIO, CODEC, RATE, STREAM, TEXT, references, settings, sound
from torch import Tensor

from lpm_train import flow
from lpm_train.config import ConfigError
from lpm_train.encoders.audio import AudioEncoder, LogMel
from lpm_train.encoders.codec import Codec, PatchCodec
from lpm_train.extras.audio_public import PublicAudio, WindowedAudio
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE
from lpm_train.network.model import DiT
from lpm_train.streaming.rollout import Rollout, near
from lpm_train.streaming.stream import StreamGenerator, Timing

WINDOWED = WindowedAudio("hearer", case.Hearer(), None, past_s=0.1, hop_frames=3, ahead_s=0.02)
both_kinds = pytest.mark.parametrize("audio", [AUDIO, WINDOWED], ids=["causal", "windowed"])


def generator(
    model: DiT | None = None, seed: int = 0, audio: AudioEncoder = AUDIO, codec: Codec = CODEC, **stream: Any
) -> StreamGenerator:
    config = replace(settings(), stream=replace(STREAM, **stream))
    return StreamGenerator(
        model or case.model(config, torch.float32), config, codec, audio, TEXT, references(),
        rate_hz=RATE, words="wave", seed=seed,
    )  # fmt: skip


@both_kinds
def test_pieces_of_any_size_give_the_same_frames(audio: AudioEncoder) -> None:
    speech, user = sound(0.8), sound(0.8, 1)
    whole = generator(audio=audio).push(speech, user)
    # 20 frames of sound; the last block waits for a step to come, windows for the end of their hop.
    assert whole.shape == (18 if audio is AUDIO else 16, 3, 8, 8)
    for size in (700, 3_000):
        stream, out = generator(audio=audio), []
        for i in range(0, len(speech), size):
            out.append(stream.push(speech[i : i + size], user[i : i + size]))
        torch.testing.assert_close(torch.cat(out), whole, atol=1e-5, rtol=1e-5)
    assert not torch.equal(generator(seed=1).push(speech, user), whole)


@both_kinds
def test_a_stream_equals_a_rollout(audio: AudioEncoder) -> None:
    model, speech, user = case.model(settings(), torch.float32), sound(0.52), sound(0.52, 1)
    frames = generator(model, audio=audio).push(speech, user)[:10]
    text, mask = TEXT(["wave"])
    on = torch.ones(1, 12, dtype=torch.bool)
    cond = replace(
        references(), speak_BTA=audio(speech, RATE)[None, :24], listen_BTA=audio(user, RATE)[None, :24],
        speak_on_BF=on, listen_on_BF=on, text_BLD=text, text_mask_BL=mask.bool(),
    )  # fmt: skip
    rollout, out = Rollout.begin(model, cond, STREAM), []
    for first in range(0, 10, 2):
        part, start = near(cond, first, first + 2, model)
        out.append(
            rollout.block(
                part,
                start,
                lambda purpose, first=first: flow.noise(
                    ["stream"], (2, 12, 4, 4), torch.empty(0), "stream", 0, first, purpose
                ),
            )
        )
    torch.testing.assert_close(frames, CODEC.decode(torch.cat(out, 1))[0][0], atol=1e-4, rtol=1e-4)


@both_kinds
def test_pictures_come_when_the_stream_says(audio: AudioEncoder) -> None:
    stream, made = generator(audio=audio), 0
    assert stream.timing.wait_s == stream.sound_s(1) == stream.sound_s(2) < stream.sound_s(3)
    for frame in range(1, 25):
        made += len(stream.idle(640))
        assert (frame - 0.5) / 25 < stream.sound_s(made + 1), f"{made} pictures of {frame} frames of sound"
        assert made == 0 or (frame + 0.5) / 25 > stream.sound_s(made), f"{made} pictures of {frame} frames of sound"


def test_features_of_a_whole_clip_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hears the clip as a whole: .*data\.audio\.hop_frames above 0"):
        generator(audio=PublicAudio("hearer", case.Hearer()))


def test_modes_and_words_switch_at_any_moment() -> None:
    model = case.model(settings(), torch.float32)
    a, b = generator(model), generator(model)
    first = [s.push(sound(0.16), None) for s in (a, b)]
    assert torch.equal(*first)
    heard, idle = a.push(None, sound(0.16, 1)), b.idle(2560)
    assert heard.shape == idle.shape and not torch.equal(heard, idle)
    said, plain = a.push(sound(0.16), None, text="nod slowly"), b.push(sound(0.16), None)
    assert not torch.equal(said, plain)


def test_words_that_change_are_the_timed_prompts_of_training() -> None:
    model, speech = case.model(settings(), torch.float32), sound(0.6)
    stream = generator(model)
    before = stream.push(speech[: 7 * 640], None)
    frames = torch.cat([before, stream.push(speech[7 * 640 :], None, text="nod slowly")])
    assert (len(before), len(frames)) == (6, 14)
    text, mask = TEXT(["wave", "nod slowly"])
    on = torch.ones(1, 15, dtype=torch.bool)
    cond = replace(
        references(), speak_BTA=AUDIO(speech, RATE)[None], listen_BTA=AUDIO(speech, RATE)[None] * 0, speak_on_BF=on,
        listen_on_BF=~on, text_BLD=text[:1], text_mask_BL=mask[:1], prompts_BQLD=text[None, 1:],
        prompts_mask_BQL=mask[None, 1:], prompt_BF=(torch.arange(15) >= 6)[None].long(),
    )  # fmt: skip
    rollout, out = Rollout.begin(model, cond, STREAM), []
    for first in range(0, 14, 2):

        def draw(purpose: str, first: int = first) -> Tensor:
            return flow.noise(["stream"], (2, 12, 4, 4), torch.empty(0), "stream", 0, first, purpose)

        part, start = near(cond, first, first + 2, model)
        out.append(rollout.block(part, start, draw))
    torch.testing.assert_close(frames, CODEC.decode(torch.cat(out, 1))[0][0], atol=1e-4, rtol=1e-4)


def test_memory_and_state_do_not_grow() -> None:
    stream, sizes = generator(), []
    for i in range(30):
        stream.push(sound(0.08, i), None)
        held = sum(s.features_TA.numel() + len(s.on_N) + len(s.on_T) for s in stream.sounds)
        sizes.append((stream.rollout.cache.n_bytes, held))
    assert sizes[8:] == [sizes[8]] * len(sizes[8:])
    assert torch.isfinite(stream.push(sound(0.08), None)).all()
    report = stream.timing.report()
    assert report["blocks"] == stream.timing.blocks == 30 and report["frames"] == 60
    assert report["first_chunk_s"] > report["wait_s"] == pytest.approx(0.08 + 0.04)
    assert report["fps"] > 0 and report["block_p99_s"] >= report["block_p50_s"]


def test_half_precision_weights_stream() -> None:
    torch.manual_seed(0)
    model = DiT(settings().model)
    full = generator(model).push(sound(0.2), None)
    half = generator(model.to(torch.bfloat16)).push(sound(0.2), None)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.05, rtol=0.05)
    stream = generator(model.float(), bf16=True)
    assert torch.equal(stream.push(sound(0.2), None), half) and next(model.parameters()).dtype == torch.bfloat16


def pushed(stream: StreamGenerator, pieces: int = 15) -> Tensor:
    """Speak, listen and idle in turn, with new words on the way, until the window has long been full."""
    out = []
    for i in range(pieces):
        if i % 3 == 2:
            out.append(stream.idle(1_280, text=f"word {i}"))
        else:
            out.append(stream.push(sound(0.08, i) if i % 3 else None, None if i % 3 else sound(0.08, i)))
    return torch.cat([*out, stream.rest()])


def test_a_compiled_static_stream_equals_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = case.model(settings(), torch.float32)
    static, counted = generator(model, compile=True), torch._dynamo.utils.counters["stats"]
    assert counted["unique_graphs"] == 2, "all is compiled before the first block"
    want = pushed(generator(model, cache="eager"))
    torch.testing.assert_close(pushed(static), want, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(pushed(generator(model, compile=True)), want, atol=2e-6, rtol=1e-6)
    assert counted["unique_graphs"] == 2, "neither a filling cache nor another stream compiles anew"
    torch._dynamo.reset()


@pytest.mark.parametrize("cache", ["static", "eager"])
def test_decoding_beside_gives_the_same_pictures(cache: str) -> None:
    torch.manual_seed(0)
    codec = TinyVideoAE(TinyConfig(stride=(1, 2, 2), channels=12, width=8)).eval().requires_grad_(False)
    after, beside = (generator(codec=codec, cache=cache, decode=when) for when in ("after", "beside"))
    assert torch.equal(pushed(after), pushed(beside))
    assert after.complete == beside.complete == after.timing.frames == beside.timing.frames == 28
    stream = generator(codec=codec, decode="beside")
    first = stream.push(sound(0.36), None)
    assert (len(first), stream.complete) == (6, 8), "the latest block comes later"
    assert (len(stream.rest()), len(stream.rest())) == (2, 0)
    report = beside.timing.report()
    assert report["blocks"] == 14 and report["fps"] >= 2 / report["block_p99_s"]


def test_what_decoding_raises_is_raised() -> None:
    class Broken(PatchCodec):
        def decode(self, latents_BFCHW: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            raise OSError("no more memory")

    stream = generator(codec=Broken((1, 2, 2)), decode="beside")
    with pytest.raises(OSError, match="no more memory"):
        pushed(stream)


def test_timing_tells_latency_and_what_was_taken() -> None:
    """Two blocks of 12 pictures overlap for a second; then the stream waits, which is no cost."""
    timing = Timing(wait_s=0.5)
    timing.add(0.0, 3.0, 12)
    timing.add(2.0, 5.0, 12)
    timing.add(10.0, 13.0, 12)
    report = timing.report()
    assert timing.taken_s == [3.0, 2.0, 3.0] and report["block_p50_s"] == 3.0
    assert report["first_chunk_s"] == 3.5 and report["fps"] == pytest.approx(12 / 2.5)


def test_errors_say_what_fits() -> None:
    stream = generator()
    with pytest.raises(ValueError, match="as much for both"):
        stream.push(sound(0.1), sound(0.2))
    with pytest.raises(ValueError, match="`idle`"):
        stream.push(None, None)
    with pytest.raises(ConfigError, match="the model wants 2 of 6"):
        StreamGenerator(stream.model, settings(), CODEC, LogMel(1, 6), TEXT, references(), rate_hz=RATE)
