"""Which split a source's clips are packed into, and what is to be said where a split is empty or clips are withheld."""

from __future__ import annotations

from curation.dataset import Dataset
from schemas import tables as t
from schemas.tables.people import SplitRow

WITHHELD = "withheld"
"""The split of clips that are in none: beside those of their people, they would leak from one split into another."""


def split_of(row: SplitRow) -> str:
    """Return the split that the clips of a source go to, from its row of SPLITS."""
    return WITHHELD if row.withheld or row.split is None else row.split


def split_warnings(dataset: Dataset) -> list[str]:
    """Return one sentence for each split that is wanted and empty, and one where clips are withheld or not dealt."""
    shares = {r.split: r for r in t.SPLIT_SHARES.rows(dataset.table(t.SPLIT_SHARES))}
    groups = sum(r.n_groups for r in shares.values())
    out = [
        f"split {r.split} is empty (wanted: {100 * r.wanted:.0f} % of the seconds): the kept clips are of "
        f"{groups} groups of people who must stay together, too few or too unequal to divide"
        for r in shares.values()
        if r.wanted > 0 and not r.n_sources and groups
    ]
    held = shares.get(WITHHELD)
    if held is not None and held.n_sources:
        out.append(
            f"{held.kept_s:.1f} s of {held.n_sources} sources are withheld from all splits: what they show is in "
            "more than one (see `why` in the table `splits`)"
        )
    if dataset.files(t.SPLITS):
        sql = "SELECT count(DISTINCT source_id) FROM manifest WHERE source_id NOT IN (SELECT source_id FROM splits)"
        ((new,),) = dataset.query(sql).fetchall()
        if new:
            out.append(f"{new} sources with packed clips have no split yet: `lpm run` gives them one")
    return out
