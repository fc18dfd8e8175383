"""Union-find over strings, rooted at each group's smallest member. Near-constant time a call."""

from __future__ import annotations


class Groups:
    """Disjoint groups of names; a name that was never joined is a group of its own."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def smallest(self, name: str) -> str:
        """Return the smallest member of the group that holds `name`."""
        root = name
        while (above := self._parent.get(root, root)) != root:
            root = above
        while (above := self._parent.get(name, root)) != root:
            self._parent[name] = root
            name = above
        return root

    def join(self, a: str, b: str) -> None:
        """Make one group of those that hold `a` and `b`."""
        low, high = sorted((self.smallest(a), self.smallest(b)))
        self._parent[high] = low
