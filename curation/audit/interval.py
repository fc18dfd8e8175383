"""Statistics of verdicts, as pure functions: the Wilson interval of a share, and Cohen's kappa of two readers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Z95 = 1.959964
"""Half width of the 95 % interval of a normal distribution, in standard deviations."""


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a share of `right` in `n`; (0, 1) where nothing was judged.

    It stays inside 0 and 1 and is honest for few verdicts and for shares near 0 or 1, as precisions are.
    """
    if not n:
        return 0.0, 1.0
    share, spread = right / n, z * z / n
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return (0.0 if right == 0 else max(0.0, low)), (1.0 if right == n else min(1.0, high))


def verdicts_for(bound: float, z: float = Z95) -> int:
    """Return how many verdicts without a wrong one bring the interval's lower end to a bound below 1."""
    return math.ceil(z * z * bound / (1 - bound) - 1e-9)


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Return Cohen's kappa of two readers' answers on the same units: 1 = always agree, 0 = as by chance.

    None where there is no pair, or where both always gave one and the same answer, so that chance alone agrees.
    """
    n = len(pairs)
    if not n:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    by_chance = sum(first[x] * second[x] for x in first) / n**2
    agreed = sum(a == b for a, b in pairs) / n
    return None if by_chance >= 1 else (agreed - by_chance) / (1 - by_chance)
