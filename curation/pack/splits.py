"""Which split a source's clips are packed into, and what is to be said where a split is empty or clips are withheld."""

from __future__ import annotations

import pyarrow as pa

from curation.dataset import Dataset
from schemas import tables as t
from schemas.tables.people import SplitRow

WITHHELD = "withheld"
"""The split of clips that are in none: beside those of their people, they would leak from one split into another."""

_KEPT = "SELECT source_id, duration_s FROM decisions WHERE unit = 'segments' AND outcome = 'kept'"
_SHARES = f"""
WITH of_source AS (
    SELECT source_id, sum(duration_s) AS kept_s, any_value(group_id) AS group_id,
        coalesce(any_value(split) FILTER (NOT withheld), '{WITHHELD}') AS split
    FROM ({_KEPT}) LEFT JOIN splits USING (source_id) GROUP BY source_id
), present AS (
    SELECT split, sum(kept_s) AS kept_s, count(*) AS n_sources, count(DISTINCT group_id) AS n_groups
    FROM of_source GROUP BY split
), asked AS (SELECT split, wanted FROM split_shares WHERE split <> '{WITHHELD}')
SELECT split, coalesce(wanted, 0) AS wanted, coalesce(kept_s / sum(kept_s) OVER (), 0) AS share,
    coalesce(kept_s, 0) AS kept_s, coalesce(n_sources, 0) AS n_sources, coalesce(n_groups, 0) AS n_groups
FROM asked FULL JOIN present USING (split) ORDER BY wanted DESC, split
"""


def split_of(row: SplitRow) -> str:
    """Return the split that the clips of a source go to, from its row of SPLITS."""
    return WITHHELD if row.withheld or row.split is None else row.split


def split_shares(dataset: Dataset) -> pa.Table:
    """Return what each split holds now, as rows of SPLIT_SHARES; none where nobody deals splits.

    Kept clips of sources that were not dealt yet count as withheld, as which they are packed.
    """
    if not dataset.files(t.SPLITS):
        return t.SPLIT_SHARES.empty()
    found: pa.Table = dataset.query(_SHARES).to_arrow_table().cast(t.SPLIT_SHARES.schema)
    return found


def split_warnings(dataset: Dataset) -> list[str]:
    """Return one sentence for each split that is wanted and empty, and one where clips are withheld or not dealt."""
    if not dataset.files(t.SPLITS):
        return []
    shares = t.SPLIT_SHARES.rows(split_shares(dataset))
    groups = sum(r.n_groups for r in shares)
    out = [
        f"split {r.split} is empty (wanted: {100 * r.wanted:.0f} % of the seconds): the kept clips are of "
        f"{groups} groups of people who must stay together, too few or too unequal to divide"
        for r in shares
        if r.wanted > 0 and not r.n_sources and groups
    ]
    held = f"FROM ({_KEPT}) JOIN splits USING (source_id) WHERE withheld OR split IS NULL"
    ((sources, seconds),) = dataset.query(f"SELECT count(DISTINCT source_id), sum(duration_s) {held}").fetchall()
    if sources:
        out.append(
            f"{seconds:.1f} s of {sources} sources are withheld from all splits: what they show is in "
            "more than one (see `why` in the table `splits`)"
        )
    sql = "SELECT count(DISTINCT source_id) FROM manifest WHERE source_id NOT IN (SELECT source_id FROM splits)"
    ((new,),) = dataset.query(sql).fetchall()
    if new:
        out.append(f"{new} sources with packed clips have no split yet: `lpm run` gives them one")
    return out
