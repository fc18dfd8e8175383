"""Some samples of a dataset as WebDataset shards of their own, written by webdataset: what a trainer copies.

    webdataset.WebDataset("OUT/train-{000000..000003}.tar")

Members are byte for byte those of the dataset's shards. Costs a copy of every sample, one in memory at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby
from pathlib import Path

from webdataset import ShardWriter

from curation.dataset import Dataset
from curation.export.samples import fresh, read
from schemas.samples.members import MEMBERS
from schemas.tables.output import ManifestRow

MB = 10**6


def export(
    dataset: Dataset, rows: Collection[ManifestRow], out: Path, max_samples: int = 10_000, max_mb: int = 1000
) -> list[Path]:
    """Write samples into an empty folder, a series of shards for each split; return the shards.

    Equal samples give equal bytes.

    Args:
        dataset: where the samples lie.
        rows: those wanted.
        out: an empty folder, or one to be made.
        max_samples: most samples a shard.
        max_mb: size, in 10^6 bytes, from which on a shard takes no further sample.

    Raises:
        ExportError: the folder is not empty.
    """
    folder = fresh(out)
    for split, some in groupby(sorted(rows, key=lambda r: (r.split, r.segment_id)), key=lambda r: r.split):
        pattern = f"{folder}/".replace("%", "%%") + f"{split}-%06d.tar"
        # Without webdataset's encoder members pass as they are; with a time of its own every copy would differ.
        with ShardWriter(pattern, max_samples, max_mb * MB, verbose=0, encoder=False, mtime=0, mode=0o644) as shards:
            for one in read(dataset, list(some), MEMBERS):
                shards.write({"__key__": one.row.segment_id, **one.members})
    return sorted(folder.glob("*.tar"))
