"""What a streamed block costs, and what share of a GPU that is: counted from shapes, without a GPU.

A block is `stream.steps` passes and one more, clean, for the cache; what drives it is embedded once. Each part is
counted twice: in operations (a multiply-add is two) and in bytes that must move if every product reads its inputs and
writes its result once, in bfloat16, and all between products is fused into passes over the tokens. A part takes as long
as the slower of the two. The network is counted by formula, which a test holds against PyTorch's own counter; codecs
and encoders by running them on tensors without memory under that counter. Masked places of a cache that still fills
count as if they were seen: the figures are those of a full window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lpm_train.config import Config, ConfigError
from lpm_train.encoders.codec import Codec, latent_size
from lpm_train.tools.flops import H200_BF16
from schemas.samples.sample import FPS
from schemas.time import AUDIO_HZ

H200_BYTES = 4.8e12  # memory bandwidth of an H200, bytes/s, by its data sheet
ALLOWED = {"network": 0.75, "codec": 0.2, "sound": 0.03, "text": 0.02}
"""Share of real time that each group may take, where the whole is to keep up; a rule of thumb."""
_HALF = 2  # bytes of a bfloat16


@dataclass(frozen=True)
class Work:
    """Operations, and bytes moved."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times)

    def seconds(self, efficiency: float, bandwidth: float) -> float:
        """Return the time on an H200 at these shares of its two peaks."""
        return max(self.flops / (H200_BF16 * efficiency), self.bytes / (H200_BYTES * bandwidth))


def linear(rows: float, inputs: int, outputs: int) -> Work:
    """Count a product with a weight."""
    moved = rows * inputs + inputs * outputs + rows * outputs
    return Work(2.0 * rows * inputs * outputs, _HALF * moved)


def attend(queries: int, keys: float, width: int) -> Work:
    """Count attention of all heads: two products, keys and values read once, queries read and results written."""
    return Work(4.0 * queries * keys * width, _HALF * 2.0 * width * (queries + keys))


def network(config: Config, height: int, width: int, texts: int, refs: int) -> dict[str, Work]:
    """Count a block of a stream by part; what a clean pass repeats is in `cache pass`.

    Args:
        config: model and stream.
        height: latent height H.
        width: latent width W.
        texts: places of the text, as the encoder pads it.
        refs: reference slots K.
    """
    m, s = config.model, config.stream
    D, hidden, wan = m.width, round(m.width * m.mlp_ratio), m.kind == "wan"
    S = height * width // m.patch**2
    L, keys, T = s.block * S, (refs + s.sink + s.window + s.block) * S, texts + (not wan)
    windows = [before + m.audio_steps + after
               for before, after in ((m.speak_before, m.speak_after), (m.listen_before, m.listen_after))]  # fmt: skip
    heard = Work()
    for layer in range(m.depth):
        M = windows[layer % 2]
        heard += linear(L, D, D) * 2 + linear(s.block * M, D, 2 * D) + attend(S, M, D) * s.block
    told = linear(L, D, D) * 2 + linear(T, D, 2 * D) + attend(L, T, D)
    head = Work() if wan else linear(s.block, D, 2 * D)
    times = linear(s.block, 256, D) + linear(s.block, D, D) + linear(s.block, D, 6 * D)
    patch = linear(L, (m.channels + m.image_channels) * m.patch**2, D) + linear(L, D, m.channels * m.patch**2)
    one = {
        "self-attention, linear": (linear(L, D, 3 * D) + linear(L, D, D)) * m.depth,
        "self-attention, pairs": attend(L, keys, D) * m.depth,
        "cross-attention to sound": heard,
        "cross-attention to text": told * m.depth,
        "MLP": (linear(L, D, hidden) + linear(L, hidden, D)) * m.depth,
        # Four norms and four residual sums, and norm and rotation of queries and keys: 24 passes over the tokens.
        "norms, sums, rotation": Work(0.0, 24.0 * _HALF * L * D) * m.depth,
        "ends and levels": patch + times + head,
    }
    clean = Work()
    for part in one.values():
        clean += part
    # Past keys are rotated once a block; the block's keys, plain keys and values are written where they stay.
    kept = Work(0.0, 2.0 * _HALF * D * m.depth * ((s.sink + s.window) * S + 2 * L))
    inside = linear(texts, m.text_width, D) + (linear(texts, D, D) if wan else Work())
    for before, after in ((m.speak_before, m.speak_after), (m.listen_before, m.listen_after)):
        steps = before + s.block * m.audio_steps + after
        inside += linear(steps, m.audio_width, D) + linear(steps, D, D)
    return {n: w * s.steps for n, w in one.items()} | {"cache pass": clean + kept, "conditions": inside}


class _Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes that products read and write, each value as a bfloat16."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("convolution", "mm", "bmm", "addmm", "baddbmm"):
            given = [x for x in args if isinstance(x, Tensor)]
            self.bytes += _HALF * float(sum(x.numel() for x in (*given, out)))
        return out


def counted(run: Callable[[], Any]) -> Work:
    """Count what a function computes, on tensors of the device "meta", which have no memory."""
    moved = _Moved()
    with torch.no_grad(), FlopCounterMode(display=False) as counter, moved:
        run()
    return Work(float(counter.get_total_flops()), moved.bytes)


def codec_work(codec: Codec, block: int, height: int, width: int) -> Work:
    """Count the decoding of a block amid a stream, of a codec whose weights are on "meta"; pictures of that size."""
    H, W = latent_size(codec, height, width)
    z = torch.zeros(1, block, codec.channels, H, W, device="meta")
    with torch.no_grad():
        state = codec.decode(z)[1]
    return counted(lambda: codec.decode(z, state))


def encode_work(codec: Codec, frames: int, height: int, width: int) -> Work:
    """Count the encoding of a clip of so many pictures of that size, of a codec whose weights are on "meta"."""
    clip = torch.zeros(1, frames, 3, height, width, device="meta")
    return counted(lambda: codec.encode(clip))


@dataclass(frozen=True)
class Budget:
    """Work of a block by group and part, how many pictures it makes, and the memory of the cache."""

    parts: Mapping[str, Mapping[str, Work]]  # by group: those of `ALLOWED`
    pictures: int
    cache_bytes: float

    def table(self, fps: float, efficiency: float = 0.5, bandwidth: float = 0.7) -> dict[str, Any]:
        """Return seconds of a block and shares of real time on one H200.

        Args:
            fps: pictures a second that a viewer sees.
            efficiency: share of the peak of operations that is reached.
            bandwidth: share of the peak of bytes.
        """
        period = self.pictures / fps
        rows, shares = dict[str, Any](), dict[str, float]()
        for group, parts in self.parts.items():
            for name, work in parts.items():
                seconds = work.seconds(efficiency, bandwidth)
                shares[group] = shares.get(group, 0.0) + seconds / period
                rows[name] = {
                    "group": group, "tflop": work.flops / 1e12, "gb": work.bytes / 1e9, "s": seconds,
                    "share": seconds / period, "bound": "bytes" if seconds > work.flops / (H200_BF16 * efficiency)
                    else "operations",
                }  # fmt: skip
        total = sum(shares.values())
        flops = sum(w.flops for parts in self.parts.values() for w in parts.values())
        return {
            "fps": fps, "period_s": period, "parts": rows, "shares": shares, "share": total, "fits": total <= 1,
            "over": [g for g, share in shares.items() if share > ALLOWED[g]], "fps_reached": fps / total,
            "needed_efficiency": flops / period / H200_BF16,
        }  # fmt: skip


def bare_codec(config: Config) -> Codec:
    """Return the codec of a configuration without its weights, on "meta"; of Wan's that of 2.1.

    Raises:
        ConfigError: its shape is in its files alone.
    """
    use = config.data.codec.choice
    if use == "patch":
        return config.data.codec.build()
    if use == "tiny":
        from lpm_train.extras.codec_tiny import TinyVideoAE

        with torch.device("meta"):
            return TinyVideoAE()
    if use == "taew":
        from lpm_train.extras.codec_taew import TaewCodec

        with torch.device("meta"):
            return TaewCodec()
    if use != "wan":
        raise ConfigError(f"the work of data.codec={use} is not counted: patch, tiny, wan and taew are")
    import diffusers

    from lpm_train.extras.codec_public import WanCodec

    with torch.device("meta"):
        vae = diffusers.AutoencoderKLWan()
    return WanCodec(vae)


def sound_work(config: Config, pictures: int) -> Work:
    """Count the sound's encoder for a block, both sides. Raises ConfigError for one that is not counted."""
    part = config.data.audio
    if part.choice == "logmel":
        # Windows of 1536 samples at 48 kHz: a real FFT and 80 bands; it runs on the CPU.
        windows = 2 * pictures * config.model.audio_steps / 4
        return Work(windows * (2.5 * 1536 * math.log2(1536) + 2 * 769 * 80), windows * 4 * (1536 + 769))
    if part.choice != "wav2vec2":
        raise ConfigError(f"the work of data.audio={part.choice} is not counted: logmel and wav2vec2 are")
    import transformers

    past_s, hop = (part.given.get(n, default) for n, default in (("past_s", 2.0), ("hop_frames", 3)))
    with torch.device("meta"):
        model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).eval()
    windows = 2 * math.ceil(pictures / hop)
    wave = torch.zeros(windows, round((past_s + hop / FPS) * AUDIO_HZ) + 80, device="meta")
    return counted(lambda: model(wave))


TEXTS = {"hashed-words": (48, 0, 0, 0), "minilm": (64, 6, 384, 1536), "umt5": (512, 24, 4096, 10240)}
"""Text encoders: places of a text, layers, width, width of the MLP (of umT5, as Wan has it, with a gate)."""


def text_work(config: Config) -> tuple[int, Work]:
    """Return the places of a text, and the work of its encoder. Raises ConfigError for one that is not counted."""
    use = config.data.text.choice
    if use not in TEXTS:
        raise ConfigError(f"the work of data.text={use} is not counted: {', '.join(TEXTS)} are")
    places, layers, width, hidden = TEXTS[use]
    up = 2 if use == "umt5" else 1
    layer = linear(places, width, width) * 4 + attend(places, places, width) + linear(places, width, hidden) * (1 + up)
    return places, layer * layers


def stream_budget(config: Config) -> Budget:
    """Count a stream of a configuration with the parts that it names. Raises ConfigError where one is not known."""
    codec = bare_codec(config)
    places, text = text_work(config)
    pictures = config.stream.block * codec.stride[0]
    return budget(config, codec, places, sound_work(config, pictures), text)


def lines(found: Mapping[str, Any]) -> list[str]:
    """Write a `Budget.table` for people."""
    out = [f"{'part':34s}{'TFLOP':>9s}{'GB':>8s}{'ms':>8s}{'share':>8s}  at {found['fps']:g} pictures/s, a block "
           f"of {1000 * found['period_s']:.0f} ms"]  # fmt: skip
    for name, row in found["parts"].items():
        out.append(f"{name:34s}{row['tflop']:9.2f}{row['gb']:8.1f}{1000 * row['s']:8.1f}{row['share']:8.1%}"
                   f"  {row['bound']}")  # fmt: skip
    over = [f"{g} {found['shares'][g]:.0%} of {ALLOWED[g]:.0%}" for g in found["over"]]
    word = "fits" if found["fits"] else "does not fit"
    out.append(
        f"in all {found['share']:.0%} of real time: it {word}, {found['fps_reached']:.1f} pictures/s; "
        f"to keep up it must reach {found['needed_efficiency']:.0%} of the peak"
        + (f"; over: {', '.join(over)}" if over else "")
    )
    return out


def budget(config: Config, codec: Codec, texts: int, sound: Work, text: Work) -> Budget:
    """Count a stream of a configuration.

    Args:
        config: model, stream, and the pictures' size (`data.height`, `data.width`).
        codec: on "meta".
        texts: places of a text.
        sound: of the sound's encoder, both sides, a block.
        text: of the text's encoder, a block whose words are new.
    """
    m, s, d = config.model, config.stream, config.data
    H, W = latent_size(codec, d.height, d.width)
    kept = (2 * d.max_refs + 3 * (s.sink + s.window + s.block)) * H * W / m.patch**2  # `ring.Ring`
    pictures = s.block * codec.stride[0]  # of each block but the first
    parts = {
        "network": network(config, H, W, texts, d.max_refs),
        "codec": {"codec, decoding": codec_work(codec, s.block, d.height, d.width)},
        "sound": {"sound's encoder": sound},
        "text": {"text's encoder, where words change": text},
    }
    return Budget(parts, pictures, _HALF * m.width * m.depth * kept)
