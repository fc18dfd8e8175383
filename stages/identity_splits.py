"""Splits that no person crosses: identities that share anything fall into one group, and a group into one split.

The split is a function of the group's smallest source id (a content hash) and the settings alone, so it does not
depend on order, machine or what else is in the dataset. Adding sources moves a group only where they join it to one
with a smaller source id. Linear in the number of tracks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from stages.groups import Groups

SPLITS = ("train", "val", "test")


def split_of(source_id: str, val: float, test: float, seed: str = "") -> str:
    """Return the split of a group by its smallest source id; `val` and `test` are shares, the rest is train.

    SHA-256 of seed and id, read as a number in [0, 1): test lies at the bottom, val above it. A share that grows
    therefore only takes from its neighbour.
    """
    if val < 0 or test < 0 or val + test > 1:
        raise ValueError(f"split shares must be at least 0 and sum to at most 1, got val {val}, test {test}")
    digest = hashlib.sha256(f"{seed}:{source_id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < test:
        return "test"
    return "val" if position < test + val else "train"


def identity_groups(sources_of: Mapping[str, Iterable[str]], linked: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the smallest source id of each identity's group.

    Args:
        sources_of: the sources each identity appears in (at least one).
        linked: pairs of sources that belong together for another reason: one session, copies of one recording.
    """
    groups = Groups()
    for sources in sources_of.values():
        first, *rest = sorted(sources)
        for other in rest:
            groups.join(first, other)
    for a, b in linked:
        groups.join(a, b)
    return {identity: groups.smallest(min(sources)) for identity, sources in sources_of.items()}
