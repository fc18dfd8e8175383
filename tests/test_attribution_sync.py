"""Sync as evidence of whose voice is heard: sums, lags and what is typical."""

from __future__ import annotations

import numpy as np
import pytest

from stages.attribution_sync import N_LAGS, OTHER_LAG_NATS, Evidence, SyncFrames, pair_evidence

IN_TIME = N_LAGS // 2


def evidence(per_second: list[float], rest: int = 0) -> Evidence:
    """Return the evidence of seconds with these log-odds at every lag, and `rest` frames of no evidence."""
    by_frame = np.concatenate([np.repeat(np.array(per_second) / 25, 25), np.zeros(rest)])
    odds = np.tile(by_frame[:, None], (1, N_LAGS))
    ks = np.arange(len(odds))
    seen = {"t0": SyncFrames(ks, odds)}
    return pair_evidence(seen, {"v0": set(ks.tolist())}, {"t0": set(ks.tolist())})["v0", "t0"]


def test_a_part_under_another_voice_moves_the_sum_and_not_the_typical_second() -> None:
    own = evidence([1.0, 2.0, -14.0, 1.0, 2.0])
    assert own.curve[IN_TIME] == pytest.approx(-8.0)
    assert own.typical_per_s(IN_TIME) == pytest.approx(1.0)
    dubbed = evidence([-3.0, -2.0, -4.0, 1.0])
    assert dubbed.typical_per_s(IN_TIME) == pytest.approx(-2.5)


@pytest.mark.parametrize(("rest", "seconds"), [(0, 2), (12, 2), (13, 3), (24, 3)])
def test_a_rest_counts_from_half_a_second_on(rest: int, seconds: int) -> None:
    assert evidence([1.0, 3.0], rest).by_second.shape == (seconds, N_LAGS)


def test_too_little_is_said_to_be_too_little() -> None:
    with pytest.raises(ValueError, match="too few"):
        evidence([], 12).typical_per_s(IN_TIME)


def test_a_lag_off_the_usual_one_costs_in_the_choice_and_not_in_the_curve() -> None:
    found = evidence([1.0])
    odds, lag = found.at(IN_TIME + 5)
    assert lag in range(IN_TIME + 4, IN_TIME + 7) and odds == pytest.approx(1.0)
    far = Evidence(np.where(np.arange(N_LAGS) == 0, 20.0, 0.0), 25)
    assert far.at(IN_TIME) == (pytest.approx(20.0 - OTHER_LAG_NATS), 0)
