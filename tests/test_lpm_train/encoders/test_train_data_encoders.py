"""Codecs, audio and text: exact inversion, streaming equal to whole, frame accounting at odd lengths."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import tokenizers
import torch
import train_case as case
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.models import weights
from lpm_train import parts
from lpm_train.encoders.audio import LogMel, latent_steps, steps_per_latent
from lpm_train.encoders.codec import (
    PatchCodec,
    encode_images,
    latent_frames,
    latent_size,
    latent_span,
    picture_frames,
    whole_frames,
)
from lpm_train.encoders.text import HashedWords
from lpm_train.extras.audio_public import PublicAudio, WindowedAudio, to_16k
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE, train_codec
from lpm_train.extras.text_minilm import MiniLM
from lpm_train.parts import provenance
from lpm_train.storage import DataError
from schemas.settings.use import UseError

strides = st.tuples(*[st.integers(1, 4)] * 3)


class FirstAlone(PatchCodec):
    """Accounting of public causal autoencoders: the first latent is one frame."""

    first_alone = True


@settings(max_examples=30, deadline=None)
@given(strides, st.integers(1, 3), st.integers(1, 3))
def test_patch_codec_is_exact_also_in_pieces(stride: tuple[int, int, int], latents: int, size: int) -> None:
    codec = PatchCodec(stride, std=0.5)
    x = torch.randn(2, latents * stride[0], 3, size * stride[1], 2 * stride[2])
    z = codec.encode(x)
    assert z.shape == (2, latents, codec.channels, size, 2)
    assert torch.equal(codec.decode(z)[0], x)
    pieces = torch.cat([codec.decode(z[:, i : i + 1])[0] for i in range(latents)], 1)
    assert torch.equal(pieces, x)


@given(st.integers(1, 8), st.booleans(), st.integers(1, 200))
def test_frames_latents_and_spans_agree(t: int, alone: bool, n: int) -> None:
    codec = (FirstAlone if alone else PatchCodec)((t, 1, 1))
    whole = whole_frames(codec, n)
    assert 0 <= n - whole < t or not whole
    if whole:
        latents = latent_frames(codec, whole)
        assert picture_frames(codec, latents) == whole
        spans = [latent_span(codec, i) for i in range(latents)]
        assert spans[0][0] == 0 and spans[-1][1] == whole
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    if whole != n:
        with pytest.raises(DataError, match=f"{n} frames do not fit"):
            latent_frames(codec, n)


@settings(deadline=None)
@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.booleans(), st.integers(1, 12), st.integers(0, 30))
def test_audio_steps_follow_latents_at_odd_lengths(t: int, q: int, alone: bool, latents: int, start: int) -> None:
    codec = (FirstAlone if alone else PatchCodec)((t, 1, 1))
    frames = start + picture_frames(codec, latents)
    features = torch.arange(frames * q, dtype=torch.float32)[:, None]  # the number of each step
    cut = latent_steps(features, codec, start, latents, q, torch.tensor([-1.0]))[:, 0]
    r = t * q
    assert len(cut) == latents * r
    for f in range(latents):
        end = (start + latent_span(codec, f)[1]) * q
        assert cut[f * r : (f + 1) * r].tolist() == [i if i >= 0 else -1.0 for i in range(end - r, end)]
    with pytest.raises(DataError, match="fewer than"):
        latent_steps(features[:-1], codec, start, latents, q, torch.tensor([-1.0]))


@pytest.mark.parametrize(("rate", "q"), [(48_000, 1), (48_000, 2), (48_000, 4), (16_000, 2), (16_000, 5)])
@pytest.mark.parametrize("frames", [1, 3, 7, 26])
def test_log_mel_gives_q_steps_a_frame(rate: int, q: int, frames: int) -> None:
    mel = LogMel(q, 24)
    assert mel(torch.randn(frames * rate // 25), rate).shape == (frames * q, 24)
    with pytest.raises(DataError, match="whole number of steps"):
        mel(torch.randn(frames * rate // 25 + 1), rate)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=12), st.sampled_from([16_000, 48_000]))
def test_streamed_log_mel_equals_whole(cuts: list[int], rate: int) -> None:
    mel, wave = LogMel(2, 20), torch.randn(rate // 25 * 9, dtype=torch.float64) * 0.1
    out, state, at = [], None, 0
    for n in [*cuts, len(wave)]:
        features, state = mel.push(wave[at : at + n], rate, state)
        out.append(features)
        at = min(len(wave), at + n)
    torch.testing.assert_close(torch.cat(out), mel(wave, rate), rtol=0, atol=1e-12)


def test_log_mel_says_what_it_hears() -> None:
    t = torch.arange(48_000, dtype=torch.float64) / 48_000
    mel = LogMel(2, 80)
    tone = mel(0.5 * torch.sin(2 * torch.pi * 1000 * t), 48_000)[25]
    assert abs(int(tone.argmax()) - 28) <= 1  # 1000 Hz is mel 1000 of 2840, band 28 of 80
    assert torch.allclose(mel(torch.zeros(48_000), 48_000), torch.tensor(-2.0))
    low = mel(0.5 * torch.sin(2 * torch.pi * 1000 * t[:16_000] * 3), 16_000)[25]
    torch.testing.assert_close(low, tone, atol=0.15, rtol=0)  # the rate does not matter
    click = torch.zeros(48_000)
    click[24_000] = 1.0
    assert int((mel(click, 48_000).amax(1) > -1.9).nonzero()[0]) == 25  # nothing is heard before it happens
    with pytest.raises(DataError, match="resample"):
        mel(torch.zeros(8_000), 8_000)
    assert steps_per_latent(PatchCodec((4, 8, 8)), mel) == 8


def test_hashed_words() -> None:
    text = HashedWords(16, 5)
    x, mask = text(["nods, then nods again", "", "one two three four five six"])
    assert x.shape == (3, 5, 16) and mask.sum(1).tolist() == [4, 0, 5]
    assert torch.equal(x[0, 0], x[0, 2]) and not torch.equal(x[0, 0], x[0, 1])
    assert torch.equal(x, HashedWords(16, 5)(["nods, then nods again", "", "one two three four five six"])[0])
    assert text.name.startswith("hashed-words")


@pytest.mark.parametrize("stride", [(4, 8, 8), (1, 4, 4), (2, 2, 2)])
def test_streaming_decode_equals_whole_decode(stride: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    codec = TinyVideoAE(TinyConfig(stride=stride, channels=4, width=8, blocks=2)).double()
    t, h, w = stride
    with torch.no_grad():
        z = codec.encode(torch.rand(2, 6 * t, 3, 2 * h, 3 * w, dtype=torch.float64) * 2 - 1)
        assert z.shape == (2, 6, 4, 2, 3)
        whole, _ = codec.decode(z)
        assert whole.shape == (2, 6 * t, 3, 2 * h, 3 * w)
        out, state = [], None
        for piece in z.split([1, 3, 2], 1):
            frames, state = codec.decode(piece, state)
            out.append(frames)
        torch.testing.assert_close(torch.cat(out, 1), whole, rtol=0, atol=1e-12)
        later = z.clone()
        later[:, 4:] += 1
        assert torch.equal(codec.decode(later)[0][:, : 4 * t], whole[:, : 4 * t]), "the codec looks ahead"
        image = encode_images(codec, torch.rand(3, 3, 2 * h, 3 * w, dtype=torch.float64))
        assert image.shape == (3, 4, 2, 3)


def test_codec_learns_saves_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = TinyVideoAE(TinyConfig(stride=(2, 4, 4), channels=8, width=16, blocks=1))

    def clips():
        generator = torch.Generator().manual_seed(1)
        while True:
            colour = torch.rand(4, 1, 3, 1, 1, generator=generator) * 2 - 1
            fade = torch.linspace(-0.4, 0.4, 4)[:, None, None, None] * torch.linspace(-1, 1, 16)
            yield (colour + fade).clamp(-1, 1).expand(4, 4, 3, 16, 16)

    untrained = provenance(codec)
    losses = train_codec(codec, clips(), 80, lr=2e-3)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    z = codec.encode(next(clips()))
    assert abs(float(z.mean())) < 0.3 and 0.5 < float(z.std()) < 1.5
    codec.save(tmp_path / "codec.pt")
    loaded = parts.codec("tiny", path=str(tmp_path / "codec.pt")).build()
    assert (
        provenance(loaded) == provenance(codec) != untrained and provenance(codec)["settings"] == untrained["settings"]
    )
    assert torch.equal(loaded.encode(next(clips())), z)


def test_wrong_names_and_sizes_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"junk")
    none, junk = str(tmp_path / "none.pt"), str(tmp_path / "x.pt")
    for chosen, word in [
        (parts.codec("tiny", path=none), "no codec at"), (parts.codec("tiny", path=junk), "not a codec"),
        (parts.codec(stride=(0, 1, 1)), "must be positive"), (parts.text("minilm", directory=none), "no MiniLM"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=word):
            chosen.build()
    for choose, use, word in [
        (parts.codec, "tniy", "did you mean 'tiny'"), (parts.audio, "nope", "there are: logmel, wav2vec2, whisper"),
        (parts.text, "t5", "PublicText needs directory"),
        (parts.codec, "lpm_train.encoders.text:HashedWords", "is no Codec"),
        (parts.codec, "patch:4x8x8", r"is written {use: patch, stride: \[4, 8, 8\]}"),
        (parts.codec, "tiny:a/codec.pt", "is written {use: tiny, path: a/codec.pt}"),
        (parts.audio, "logmel:4x32", "is written {use: logmel, steps_per_frame: 4, n_mels: 32}"),
        (parts.text, "hashed-words:8x4", "is written {use: hashed-words, width: 8, length: 4}"),
    ]:  # fmt: skip
        with pytest.raises(UseError, match=word):
            choose(use)
    with pytest.raises(DataError, match="sides must be multiples of 8x8"):
        latent_size(PatchCodec((4, 8, 8)), 60, 64)
    with pytest.raises(DataError, match="powers of two"):
        TinyConfig(stride=(3, 8, 8))
    assert parts.codec(stride=[2, 4, 4]).build().stride == (2, 4, 4)
    assert parts.audio(steps_per_frame=4).build().steps_per_frame == 4 and parts.text(length=4).build().length == 4


class Mine(HashedWords):
    """A text encoder of one's own."""

    version = 1


def test_what_an_encoder_is_follows_from_class_settings_weights_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, mine = (provenance(parts.text(use, width=8).build()) for use in ("hashed-words", f"{__name__}:Mine"))
    assert ours["class"] == "lpm_train.encoders.text:HashedWords" and ours["settings"]["width"] == 8
    assert "code" not in ours and len(mine["code"]) == 64 and mine["settings"]["version"] == 1
    monkeypatch.setattr(Mine, "version", 2)
    assert provenance(Mine(8)) != mine and provenance(HashedWords(8)) == ours != provenance(HashedWords(9))
    codecs = [provenance(PatchCodec(mean=mean)) for mean in (0.0, 0.5)]
    assert codecs[0]["settings"] == codecs[1]["settings"] and codecs[0]["weights"] != codecs[1]["weights"]


@pytest.mark.slow
def test_minilm_knows_which_sentences_are_alike() -> None:
    root = weights.resolve("minilm")  # fetched where it is not here: 90 MB
    encoder = parts.text("minilm").build()
    assert isinstance(encoder, MiniLM) and provenance(encoder) == provenance(MiniLM(root))
    v = encoder.sentence(["A person nods while listening.", "Someone listening nods.", "Stocks fell sharply."])
    assert v[0] @ v[1] > 0.6 > 0.2 > v[0] @ v[2]
    x, mask = encoder(["nods", ""])
    assert x.shape == (2, 64, 384) and mask.sum(1).tolist() == [3, 0] and not x[1].any()


@pytest.mark.slow
def test_public_autoencoders_stream_what_they_decode_whole(tmp_path: Path) -> None:
    import diffusers

    torch.manual_seed(0)
    small = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    wan = diffusers.AutoencoderKLWan(**small, latents_mean=[0.1] * 4, latents_std=[1.5] * 4)
    wan.save_pretrained(tmp_path / "wan")
    codec = parts.codec("wan", directory=str(tmp_path / "wan")).build()
    x = torch.rand(1, 17, 3, 32, 32) * 2 - 1
    z = codec.encode(x)
    assert z.shape == (1, 5, 4, 4, 4) == (1, latent_frames(codec, 17), codec.channels, *latent_size(codec, 32, 32))
    whole, _ = codec.decode(z)
    with torch.no_grad():
        assert torch.equal(whole, wan.decode((z * 1.5 + 0.1).transpose(1, 2)).sample.transpose(1, 2))
    out, state = [], None
    for piece in z.split([1, 2, 2], 1):
        frames, state = codec.decode(piece, state)
        out.append(frames)
    torch.testing.assert_close(torch.cat(out, 1), whole, rtol=0, atol=1e-5)
    assert encode_images(codec, x[:, 0]).shape == (1, 4, 4, 4)
    shape = {"block_out_channels": (8, 16, 16, 16), "decoder_block_out_channels": (8, 16, 16, 16)}
    layers = {"layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 5}
    diffusers.AutoencoderKLLTXVideo(latent_channels=8, **shape, **layers).save_pretrained(tmp_path / "ltx")
    codec = parts.codec("ltx", directory=str(tmp_path / "ltx")).build()
    z = codec.encode(torch.rand(1, 25, 3, 64, 64) * 2 - 1)
    whole, _ = codec.decode(z)
    out, state = [], None
    for piece in z.split(1, 1):
        frames, state = codec.decode(piece, state)
        out.append(frames)
    assert z.shape == (1, 4, 8, 2, 2) and torch.cat(out, 1).shape == whole.shape == (1, 25, 3, 64, 64)
    assert torch.equal(out[0], codec.decode(z[:, :1])[0])
    with pytest.raises(DataError, match="no AutoencoderKLWan in"):
        parts.codec("wan", directory=str(tmp_path / "nothing")).build()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_public_audio_and_text_encoders_keep_the_frame_grid(tmp_path: Path) -> None:
    import transformers as tf

    tf.Wav2Vec2Model(
        tf.Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    ).save_pretrained(tmp_path / "w")  # fmt: skip
    tf.WhisperModel(
        tf.WhisperConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=64, pad_token_id=0, bos_token_id=0, eos_token_id=0,
            decoder_start_token_id=0, begin_suppress_tokens=None, suppress_tokens=None,
        )
    ).save_pretrained(tmp_path / "h")  # fmt: skip
    tf.WhisperFeatureExtractor().save_pretrained(tmp_path / "h")
    for use, folder in (("wav2vec2", "w"), ("whisper", "h")):
        directory = str(tmp_path / folder)
        whole = parts.audio(use, directory=directory, hop_frames=0).build()
        for frames in (1, 7, 26, 801):
            assert whole(torch.randn(frames * 1920), 48_000).shape == (2 * frames, 16)
        with pytest.raises(DataError, match="whole number of video frames"):
            whole(torch.randn(1923), 48_000)
        windowed = parts.audio(use, directory=directory, past_s=0.4, hop_frames=2, ahead_s=0.04).build()
        assert isinstance(windowed, WindowedAudio) and windowed.needs(1) == pytest.approx(0.08 + 0.04)
        wave = torch.randn(9 * 1920, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.01, 1, 9 * 1920)
        features, out, state = windowed(wave, 48_000), [], None
        assert features.shape == (18, 16)
        for piece in wave.split([1, 5_000, 700, 1_920, 9 * 1920 - 7_621]):
            some, state = windowed.push(piece, 48_000, state)
            out.append(some)
        assert len(torch.cat(out)) == 16  # 4 hops are full
        torch.testing.assert_close(torch.cat(out), features[:16], atol=1e-5, rtol=1e-5)
        # A hop is what the encoder as a whole makes of its window alone, and so normalised by it.
        window = torch.nn.functional.pad(wave, (19_200, 0))[4 * 1920 :][: 13 * 1920]
        torch.testing.assert_close(features[8:12], whole(window, 48_000)[20:24], atol=1e-5, rtol=1e-5)
        assert provenance(windowed) != provenance(parts.audio(use, directory=directory, past_s=0.6).build())
        assert {"past_s": 0.4, "hop_frames": 2, "ahead_s": 0.04}.items() <= provenance(windowed)["settings"].items()
    with pytest.raises(DataError, match="hears 30 s at once"):
        parts.audio("whisper", directory=str(tmp_path / "h"), past_s=30.0).build()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "nods": 1, "<unk>": 2}, "<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(tmp_path / "t")
    tf.T5EncoderModel(tf.T5Config(vocab_size=4, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path / "t"
    )
    x, mask = parts.text("t5", directory=str(tmp_path / "t")).build()(["nods twice", ""])
    assert x.shape == (2, 128, 8) and mask.sum(1).tolist() == [2, 0] and not x[1].any()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(0, 9000), max_size=9), st.sampled_from([16_000, 48_000]), st.integers(1, 4),
    st.integers(0, 20), st.integers(0, 5), st.integers(1, 13),
)  # fmt: skip
def test_streamed_windows_equal_the_windows_of_a_whole_clip(
    cuts: list[int], rate: int, hop: int, past: int, ahead: int, frames: int
) -> None:
    encoder = WindowedAudio("hearer", case.Hearer(), None, past / 50, hop, ahead / 50)
    wave = torch.randn(frames * rate // 25) * 0.1
    whole, out, state, at = encoder(wave, rate), [], None, 0
    assert whole.shape == (2 * frames, 6)
    for n in [*cuts, len(wave)]:
        features, state = encoder.push(wave[at : at + n], rate, state)
        out.append(features)
        at = min(len(wave), at + n)
        # As many steps are there as the sound so far is enough for, and no more is kept than their windows reach.
        steps = sum(map(len, out))
        assert (not steps or encoder.needs(steps) * rate <= at + 1e-3) and at < encoder.needs(steps + 1) * rate - 1e-3
        assert len(state) < (past + 2 * hop + ahead) * rate / 50
    made = torch.cat(out)
    torch.testing.assert_close(made, whole[: len(made)], atol=1e-5, rtol=1e-5)
    later = wave.clone()
    reach = round(encoder.needs(2 * hop) * rate)
    later[reach:] += 1.0
    assert torch.equal(encoder(later, rate)[: 2 * hop], whole[: 2 * hop])  # nothing beyond the window counts


def test_windows_that_do_not_fit_are_refused() -> None:
    for past, hop, ahead in ((0.03, 2, 0.0), (-0.02, 2, 0.0), (0.4, 0, 0.0), (0.4, 2, 0.005)):
        with pytest.raises(DataError, match=r"whole steps of 0\.02 s"):
            WindowedAudio("hearer", case.Hearer(), None, past, hop, ahead)
    with pytest.raises(DataError, match="multiple of 16 kHz"):
        WindowedAudio("hearer", case.Hearer()).push(torch.zeros(8000), 8000, None)
    assert not hasattr(PublicAudio("hearer", case.Hearer()), "push")


def test_resampling_keeps_tones_and_cuts_what_would_fold() -> None:
    t48, t16 = torch.arange(48_000) / 48_000, torch.arange(16_000) / 16_000
    tone = to_16k(torch.sin(2 * torch.pi * 440 * t48), 48_000)
    assert len(tone) == 16_000
    torch.testing.assert_close(tone[200:-200], torch.sin(2 * torch.pi * 440 * t16)[200:-200], atol=1e-3, rtol=0)
    assert to_16k(torch.sin(2 * torch.pi * 9_500 * t48), 48_000)[200:-200].abs().max() < 0.01
