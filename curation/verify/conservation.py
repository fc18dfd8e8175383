"""Is every unit accounted for, with a reason, and is what is kept what is packed? In SQL, slice by slice."""

from __future__ import annotations

from collections.abc import Iterator

from curation.dataset import Dataset
from curation.decisions.ledger import LedgerError, balances, check, mute, total
from curation.decisions.survey import slices
from curation.verify.few import Few
from schemas import tables as t
from schemas.tables.output import DecisionRow as D
from schemas.tables.output import ManifestRow as M

_KEPT = (
    f"SELECT {D.unit_id.name} AS id FROM {t.DECISIONS.name} "
    f"WHERE {D.unit.name} = '{t.SEGMENTS.name}' AND {D.outcome.name} = 'kept'"
)
_PACKED = f"SELECT {M.segment_id.name} AS id FROM {t.MANIFEST.name}"


def unbalanced(dataset: Dataset) -> Iterator[str]:
    """Say what of the conservation law does not hold, and where decisions and manifest disagree."""
    found = []
    without: list[str] = []
    unpacked = Few("kept segment {} is in no shard; run `lpm pack`")
    unkept = Few("sample {} is in a shard but not kept; run `lpm pack`")
    for _, con in slices(dataset):
        found.append(balances(con))
        without += mute(con)
        for few, these, those in ((unpacked, _KEPT, _PACKED), (unkept, _PACKED, _KEPT)):
            few.add(str(i) for (i,) in con.execute(f"{these} EXCEPT {those} ORDER BY 1").fetchall())
    sums = total(found)
    if not any(sum(b.counts.values()) for b in sums):
        yield "there are no decisions; run `lpm run` or `lpm decide`"
        return
    try:
        check(sums, without)
    except LedgerError as e:
        yield str(e)
    yield from unpacked.said()
    yield from unkept.said()
