"""The nearest known grid point, against a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.nearest import nearest_index

points = st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True).map(lambda v: np.array(sorted(v)))


@given(points, st.lists(st.integers(-10, 70), max_size=30).map(lambda v: np.array(v, np.int64)))
def test_it_is_the_plain_search(known: np.ndarray, wanted: np.ndarray) -> None:
    assert nearest_index(known, wanted).tolist() == [int(np.argmin(np.abs(known - w))) for w in wanted]


def test_nothing_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="nearest"):
        nearest_index(np.zeros(0, np.int64), np.arange(3))
