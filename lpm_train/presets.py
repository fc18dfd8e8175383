"""Complete configurations by name: what fits a CPU, one GPU, an H200, and the weights of Wan.

But for the toy's, heights and widths say how large sizes may be: those of a run are chosen from its clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lpm_train import parts
from lpm_train.config import Config, Data, Distill, Flow, Lora, Model, Optim, Phase, Pretrain, Run, Stream

_IN_ORDER = (Phase(share=0.4, listen=False, refs=False), Phase(share=0.3, refs=False), Phase(share=0.3))
"""Speech, then listening, then references."""


def toy() -> Config:
    """CPU, half a million parameters, latents of 16x16."""
    return Config(
        model=Model(channels=12, audio_width=80, audio_steps=2, text_width=64, depth=4, width=96, heads=4),
        data=Data(frames=24, height=64, width=64, batch=8),
    )


def small() -> Config:
    """One GPU, 120 M parameters, 256x256; listening is heard through the clip's own 2.4 s."""
    return Config(
        model=Model(
            channels=16, audio_width=80, audio_steps=8, text_width=384, depth=12, width=768, heads=12,
            speak_before=8, speak_after=0, listen_before=112,
        ),
        flow=Flow(shift=3.0, steps=40, guidance=2.0),
        stream=Stream(block=3, window=9, sink=3, shift=5.0),
        pretrain=Pretrain(phases=_IN_ORDER),
        distill=Distill(lr=4e-6, critic_lr=1e-5, guidance=2.0, shift=3.0),
        optim=Optim(lr=1e-4, weight_decay=0.01, warmup=500, ema=0.999),
        run=Run(steps=50_000, bf16=True, compile=True, eval_every=1000, save_every=1000),
        data=Data(
            codec=parts.codec("tiny", path="codec.pt"), text=parts.text("minilm"), frames=60, auto_sizes=4, batch=64,
            max_refs=4, workers=8,
        ),
    )  # fmt: skip


def h200_1b3() -> Config:
    """One H200, 1.3 B parameters, 81 frames of 832x480 (21 latents of 60x104, 32,760 tokens); listening through 3 s.

    A streamed block of 12 pictures (0.48 s) costs about 0.10 PFLOP with this window, four references and two steps
    (three passes): a fifth of the machine's bf16 peak at 25 frames a second. Four steps would need a third.
    """
    return Config(
        model=Model(
            channels=16, audio_width=80, audio_steps=8, text_width=384, depth=30, width=1536, heads=12,
            mlp_ratio=3.5, speak_before=8, listen_before=142,
        ),
        flow=Flow(shift=5.0, steps=50, guidance=4.0),
        stream=Stream(block=3, window=9, steps=2, shift=5.0),
        pretrain=Pretrain(phases=_IN_ORDER, prefix_p=0.2),
        distill=Distill(lr=2e-6, critic_lr=4e-7, guidance=4.0, shift=5.0),
        optim=Optim(lr=5e-5, weight_decay=0.01, warmup=1000, ema=0.999, micro_batch=1, exact_sums=False),
        run=Run(steps=100_000, bf16=True, compile=True, checkpointing=True, eval_every=2000, save_every=1000),
        data=Data(
            codec=parts.codec("wan", directory="vae"), text=parts.text("minilm"), frames=81, height=480, width=832,
            auto_sizes=4, batch=64, max_refs=4, workers=8,
        ),
    )  # fmt: skip


def _wan(width: int, depth: int, heads: int, hidden: int, channels: int = 16) -> Config:
    c = h200_1b3()
    model = replace(
        c.model, kind="wan", width=width, depth=depth, heads=heads, mlp_ratio=hidden / width, channels=channels,
        text_width=4096,
    )  # fmt: skip
    text = parts.text("umt5", directory="text_encoder")
    return replace(c, model=model, data=replace(c.data, text=text), flow=replace(c.flow, shift=5.0))


def wan_1b3() -> Config:
    """Wan 2.1 T2V 1.3B, its latents and its text, with sound and references added: `--base wan:DIRECTORY`."""
    return _wan(1536, 30, 12, 8960)


def wan_5b() -> Config:
    """Wan 2.2 TI2V 5B: latents of 48 channels and 16 x 16 pixels, a given first frame by its noise level alone."""
    c = _wan(3072, 30, 24, 14336, channels=48)
    return replace(c, data=replace(c.data, height=704, width=1280, first_frame=True))


def wan_14b() -> Config:
    """Wan 2.1 or one expert of 2.2, 14B; LoRA, for optimizer states of all weights fill a machine."""
    return replace(_wan(5120, 40, 40, 13824), lora=Lora(rank=128, alpha=64))


PRESETS: dict[str, Callable[[], Config]] = {
    "toy": toy, "small": small, "h200_1b3": h200_1b3, "wan_1b3": wan_1b3, "wan_5b": wan_5b, "wan_14b": wan_14b,
}  # fmt: skip
