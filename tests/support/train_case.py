"""Tiny models and batches for the trainer's tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lpm_train.batch import Batch, Conditions, sample_seed
from lpm_train.config import Config, Data, Model, Optim, Run, Stream
from lpm_train.encoders.codec import PatchCodec, State
from lpm_train.network.model import DiT
from lpm_train.training.loop import train
from lpm_train.training.stage import make_stage

C, H, W, A, R, DT = 4, 4, 4, 6, 2, 5


def config(**sections: Any) -> Config:
    """Settings of a model of some 20,000 parameters; the odd width of 18 leaves uneven shards."""
    return Config(
        model=Model(
            channels=C, audio_width=A, audio_steps=R, text_width=DT, depth=2, width=18, heads=3, patch=2,
            speak_before=1, speak_after=0, listen_before=3, ref_gap=3,
        ),
        stream=sections.pop("stream", Stream(block=2, window=4, sink=0, steps=2)),
        optim=sections.pop("optim", Optim(lr=1e-2, warmup=1)),
        run=sections.pop("run", Run(device="cpu", steps=6, log_every=1, eval_every=3, save_every=2)),
        data=Data(batch=4),
        **sections,
    )  # fmt: skip


def batch(ids: list[str], frames: int = 8, refs: int = 2, dtype: torch.dtype = torch.float32) -> Batch:
    """Make a batch whose rows depend on their identifiers alone."""
    rows = []
    for name in ids:
        g = torch.Generator().manual_seed(sample_seed("case", name))

        def randn(*shape: int, g: torch.Generator = g) -> Tensor:
            return torch.randn(1, *shape, generator=g)

        on = torch.rand(2, 1, frames, generator=g) > 0.4
        cond = Conditions(
            speak_BTA=randn(frames * R, A), listen_BTA=randn(frames * R, A), speak_on_BF=on[0], listen_on_BF=on[1],
            text_BLD=randn(3, DT), text_mask_BL=torch.tensor([[True, True, False]]),
            ref_BKCHW=randn(refs, C, H, W), ref_mask_BK=torch.arange(refs)[None] < 1,
            ref_kind_BK=torch.arange(refs)[None] % 3,
        )  # fmt: skip
        state = (on[0].to(torch.int8) + 2 * on[1].to(torch.int8)).to(torch.int8)
        rows.append(Batch(x_BFCHW=randn(frames, C, H, W), cond=cond, state_BF=state, sample_ids=(name,)))
    return Batch.cat(rows).to(dtype=dtype)


def model(settings: Config | None = None, dtype: torch.dtype = torch.float64, seed: int = 0) -> DiT:
    """Make a model in which nothing is zero, as after training."""
    torch.manual_seed(seed)
    out = DiT((settings or config()).model)
    for p in out.parameters():
        nn.init.normal_(p, std=0.3)
    return out.to(dtype)


class Hearer(nn.Module):
    """A network in the place of wav2vec 2.0 that attends to all it is given: 50 steps of 6 features a second."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.device = SimpleNamespace(hidden_size=A), torch.device("cpu")

    def forward(self, wave_BN: Tensor) -> SimpleNamespace:
        """Give each step some of its samples, the sum of those up to it, and a figure of the whole."""
        steps = wave_BN[:, 40:-40].unflatten(1, (-1, 320))[..., ::64]
        whole = steps.abs().amax((1, 2))[:, None, None].expand(-1, steps.shape[1], 1)
        return SimpleNamespace(last_hidden_state=torch.cat([steps + steps.sum(1, keepdim=True) / 100, whole], 2))


class Source:
    """Endless batches of one rank; rows of a global batch are consecutive."""

    def __init__(self, size: int = 4, rank: int = 0, world: int = 1, frames: int = 8) -> None:
        self.size, self.rank, self.world, self.frames, self.cursor = size, rank, world, frames, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        n = self.size // self.world
        ids = [f"{self.cursor}.{row}" for row in range(self.rank * n, (self.rank + 1) * n)]
        self.cursor += 1
        return batch(ids, self.frames)

    def state(self) -> Mapping[str, Any]:
        return {"cursor": self.cursor}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.cursor = state["cursor"]


def with_run(settings: Config, **values: Any) -> Config:
    """Change fields of `run`."""
    return replace(settings, run=replace(settings.run, **values))


def trained(settings: Config, out: Path, **options: Any) -> Any:
    """Train from the weights that all tests begin with."""
    stage = make_stage(settings, start=model(dtype=torch.float32).state_dict())
    return train(stage, settings, Source(), out, show=lambda _: None, **options)


class FirstAlone(PatchCodec):
    """A codec whose first latent covers one picture."""

    first_alone = True

    def __init__(self, stride: tuple[int, int, int]) -> None:
        super().__init__(stride)
        self.inner = PatchCodec(stride)

    def encode(self, frames_BFCHW: Tensor) -> Tensor:
        first = frames_BFCHW[:, :1].expand(-1, self.stride[0] - 1, -1, -1, -1)
        return self.inner.encode(torch.cat([first, frames_BFCHW], 1))

    def decode(self, latents_BFCHW: Tensor, state: State = None) -> tuple[Tensor, State]:
        pictures = self.inner.decode(latents_BFCHW)[0]
        return pictures[:, 0 if state else self.stride[0] - 1 :], True
