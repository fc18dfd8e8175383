"""A small puppet dataset, copied for each test that changes it, and loaders over it."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from lpm_train.batch import Batch
from lpm_train.config import Data
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.codec import PatchCodec
from lpm_train.encoders.text import HashedWords
from lpm_train.proof.synthetic_shards import write_dataset

BUCKET = (16, 32, 32)

SMALL = ["data.frames=24", "data.height=32", "data.width=32", "data.batch=2", "data.codec.stride=[4, 8, 8]",
         "data.audio.steps_per_frame=1", "data.audio.n_mels=8", "data.text.width=8", "data.workers=1", "model.width=16",
         "model.depth=2", "model.heads=2", "run.device=cpu", "run.steps=1", "watch.every=0", "optim.micro_batch=1",
         "distill.critic_steps=1"]  # fmt: skip
"""Settings of a run on these clips, as small as they go."""


@functools.cache
def dataset() -> Path:
    """24 clips of 24 frames, 32 x 32 pixels, in two shards; read only."""
    root = Path(tempfile.mkdtemp(prefix="lpm-puppets-"))
    write_dataset(root, identities=6, held_out=0, clips=4, n_frames=24, samples_per_shard=16)
    return root


def copy(to: Path) -> Path:
    return Path(shutil.copytree(dataset(), to))


def encoders(stride: tuple[int, int, int] = (4, 8, 8)) -> Encoders:
    return Encoders(codec=PatchCodec(stride), audio=LogMel(2, 16), text=HashedWords(8, 12))


def data(root: Path | str | None = None, bucket: tuple[int, int, int] = BUCKET, **settings: Any) -> Data:
    frames, height, width = bucket
    size = {"frames": frames, "height": height, "width": width}
    return Data(**{"root": str(root or dataset()), "batch": 4, "max_refs": 4, **size, **settings})


def loader(
    root: Path | str | None = None, *, rank: int = 0, world_size: int = 1, seed: int = 0, **settings: Any
) -> Loader:
    return Loader(data(root, **settings), encoders(), seed=seed, rank=rank, world_size=world_size)


def tensors(batch: Batch) -> list[torch.Tensor]:
    found = [batch.x_BFCHW, batch.state_BF, *(x for x in vars(batch.cond).values() if x is not None)]
    assert all(isinstance(x, torch.Tensor) for x in found)
    return found


def same(a: Batch, b: Batch) -> bool:
    return a.sample_ids == b.sample_ids and all(map(torch.equal, tensors(a), tensors(b)))
