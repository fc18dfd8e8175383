"""Evidence of speaking: what it reads, that its sequence is the most likely one, and that every scorer has weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotators.lips.speaking import FEATURES, NO_RIVAL, features, model_of, speaking, speaking_model

odds = st.lists(st.floats(-5, 5), min_size=1, max_size=9).map(np.array)


def worth(log_odds: np.ndarray, path: tuple[bool, ...], change: float) -> float:
    changes = sum(a != b for a, b in itertools.pairwise(path))
    return float(log_odds[list(path)].sum()) - change * changes


@settings(deadline=None)
@given(odds, st.floats(0, 4))
def test_no_other_sequence_is_more_likely(log_odds: np.ndarray, change: float) -> None:
    found = worth(log_odds, tuple(speaking(log_odds, change)), change)
    assert (
        found >= max(worth(log_odds, p, change) for p in itertools.product((False, True), repeat=len(log_odds))) - 1e-9
    )


def test_frames_without_evidence_go_with_their_neighbours() -> None:
    gap = np.full(10, np.nan)
    assert speaking(np.r_[np.full(5, 3.0), gap, np.full(5, 3.0)]).all()
    assert not speaking(np.r_[np.full(5, -3.0), gap]).any()
    assert len(speaking(np.zeros(0))) == 0


@pytest.mark.parametrize("name", ["lr-asd(talkset+ava)", "lr-asd", "lip-motion-envelope-heuristic", "somebody-elses"])
def test_every_scorer_has_weights_that_say_what_speaking_is(name: str) -> None:
    n = 50
    model = speaking_model(name)
    moving, still = np.full(n, 0.05), np.full(n, 0.002)
    alone = np.full(n, np.nan)
    speaks = model.log_odds(features(np.full(n, 3.0), moving, moving, np.ones(n), alone))
    listens = model.log_odds(features(np.full(n, -2.0), still, still, np.ones(n), alone))
    idle = model.log_odds(features(np.full(n, -2.0), still, still, np.zeros(n), alone))
    assert (speaks > 2).all() and (listens < -2).all() and (idle < -2).all()


def test_a_rival_and_unseen_lips_count_as_documented() -> None:
    n = 30
    unseen = np.full(n, np.nan)
    found = features(np.zeros(n), unseen, unseen, np.zeros(n), np.full(n, np.nan))
    assert found.shape == (n, len(FEATURES))
    assert (found[:, FEATURES.index("rival")] == NO_RIVAL).all() and not found[:, FEATURES.index("rival_seen")].any()
    assert np.isfinite(found).all()
    assert np.isnan(features(unseen, unseen, unseen, np.zeros(n), unseen)[:, 0]).all()


def test_weights_for_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="other features"):
        model_of("x", {"features": ["a"], "mean": [0], "scale": [1], "weights": [1], "offset": 0})
