"""Of two faces that seem to speak under one voice: whose lips follow it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from table_rows import row

from schemas import tables as t
from stages.pairing.rivals import followed_better, sync_now


def now(**odds: float) -> dict[str, dict[int, float]]:
    rows = [row(t.SYNC_FRAMES, track_id=n, k=k, log_odds=x) for n, x in odds.items() for k in range(100)]
    return {n: dict(v) for n, v in sync_now(t.SYNC_FRAMES.from_rows(rows)).items()}


BOTH = {k: {"a", "b"} for k in range(100)}


def test_the_face_that_follows_the_voice_speaks_and_the_other_does_not() -> None:
    found = now(a=0.1, b=-0.05)
    assert abs(found["a"][50] - 7.5) < 1e-4  # three seconds of 0.1 a frame
    assert followed_better("b", range(100), BOTH, found, 6.0).all()
    assert not followed_better("a", range(100), BOTH, found, 6.0).any()


def test_without_a_clear_owner_nobody_loses_the_voice() -> None:
    for odds in ({"a": 0.1, "b": 0.05}, {"a": -0.01, "b": -0.5}, {"b": -0.5}, {}):
        found = now(**odds)
        assert not any(followed_better(x, range(100), BOTH, found, 6.0).any() for x in "ab")
    alone = {k: {"b"} for k in range(100)}
    assert not followed_better("b", range(100), alone, now(a=0.5, b=-0.5), 6.0).any()


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 20))
def test_never_both_of_two(a: float, b: float, margin: float) -> None:
    found = now(a=a, b=b)
    lost = [followed_better(x, range(100), BOTH, found, margin) for x in "ab"]
    assert not np.logical_and(*lost).any()
