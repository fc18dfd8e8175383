"""When lip sync takes a voice away from a face, and when it only doubts."""

from __future__ import annotations

import numpy as np
import pytest

from stages.attribution import Attribution, AttributionSettings
from stages.attribution_sync import N_LAGS, Evidence

IN_TIME = N_LAGS // 2


@pytest.mark.parametrize(
    ("seconds", "per_s", "doubted", "verdict"),
    [
        (4.0, 2.0, False, "other"),
        (4.0, -1.0, False, "other"),  # what the model lacks, it lacks all the time
        (4.0, -2.0, True, "unsynced"),
        (2.4, -2.0, True, "other"),  # as clear, over too little time
        (1.6, -2.0, False, "other"),
    ],
)
def test_clear_evidence_over_too_little_time_is_a_doubt(
    seconds: float, per_s: float, doubted: bool, verdict: str
) -> None:
    evidence = Evidence(np.full(N_LAGS, per_s * seconds), round(seconds * 25))
    row = Attribution(AttributionSettings())._sync(evidence, IN_TIME)
    assert (row["doubted"], row["verdict"]) == (doubted, verdict)


def test_without_evidence_nothing_is_doubted() -> None:
    row = Attribution(AttributionSettings())._sync(None, IN_TIME)
    assert row["doubted"] is False and row["sync_log_odds"] is None
