"""When lip sync takes a voice away from a face, and when it only doubts."""

from __future__ import annotations

import numpy as np
import pytest
from table_rows import row

from schemas import tables as t
from schemas.tables.attribution import BindingRow
from stages.attribution.attribution import Attribution, AttributionSettings, Voice
from stages.attribution.sync import N_LAGS, Evidence

IN_TIME = N_LAGS // 2


def pair(found: Evidence | None) -> BindingRow:
    stage = Attribution(AttributionSettings())
    return stage.pair(Voice("v", "v", "s", 5.0), row(t.TRACKS, track_id="a"), np.ones(100), found, IN_TIME)


@pytest.mark.parametrize(
    ("seconds", "per_s", "doubted", "binding"),
    [
        (4.0, 2.0, False, "other"),
        (4.0, -1.0, False, "other"),  # what the model lacks, it lacks all the time
        (4.0, -2.0, True, "unsynced"),
        (2.4, -2.0, True, "other"),  # as clear, over too little time
        (1.6, -2.0, False, "other"),
    ],
)
def test_clear_evidence_over_too_little_time_is_a_doubt(
    seconds: float, per_s: float, doubted: bool, binding: str
) -> None:
    evidence = Evidence(np.full(N_LAGS, per_s * seconds), round(seconds * 25))
    got = pair(evidence)
    assert (got.doubted, got.binding) == (doubted, binding)


def test_without_evidence_nothing_is_doubted() -> None:
    got = pair(None)
    assert got.doubted is False and got.sync_log_odds is None
