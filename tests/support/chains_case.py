"""Chains of the puppets, and the puppets as conversations are written: without pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from train_data_case import copy, data, encoders

from lpm_train.batch import Conditioned
from lpm_train.data.chain_loader import ChainLoader


def chains(root: Path | None = None, latents: int = 12, gap_s: float = 1.0, **settings: Any) -> ChainLoader:
    """Open chains of the puppets: six people with four clips of six latents each, one after another."""
    share = {n: settings.pop(n) for n in ("rank", "world_size") if n in settings}
    return ChainLoader(data(root, **settings), encoders(), latents=latents, gap_s=gap_s, block=3, **share)


def tensors(batch: Conditioned) -> list[torch.Tensor]:
    return [x for x in vars(batch.cond).values() if x is not None]


def same(a: Conditioned, b: Conditioned) -> bool:
    return a.sample_ids == b.sample_ids and all(map(torch.equal, tensors(a), tensors(b)))


def without_pictures(to: Path) -> Path:
    """Copy the puppets as conversations are written: no sample has a video."""
    root = copy(to)
    table = pq.read_table(root / "manifest.parquet")
    rows = table.to_pylist()
    for row in rows:
        row["members"] = [m for m in row["members"] if not m["name"].endswith(".mp4")]
        row["member_sha256"] = None
    pq.write_table(table.from_pylist(rows, table.schema), root / "manifest.parquet")
    return root
