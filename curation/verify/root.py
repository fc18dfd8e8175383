"""One hash for a whole dataset: of the sorted names and hashes of its files, group by group.

A file is a line `<sha256>  <name>`, as `sha256sum` prints it. A group is the SHA-256 of its files' lines in order of
name; the root is the SHA-256 of the lines `<sha256>  <group>` in order of name. Groups are `commits/<stage>/<bucket>`
with the tables and clips that those commits vouch for, `shards`, and `dataset` for the rest. A table is named and
hashed as the file that its stage wrote, gathered into a larger one or not; so neither the engine, nor the order of
work, nor compaction changes the root. In memory are the hashes of one group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


class Root:
    """The hash of a dataset, while its files are read."""

    def __init__(self) -> None:
        self._groups: dict[str, str] = {}

    def add(self, group: str, files: Mapping[str, str]) -> None:
        """Take in a whole group: hashes by file name."""
        if files:
            self._groups[group] = _hash(files)

    def hexdigest(self) -> str:
        """Return the root of what was taken in."""
        return _hash(self._groups)


def _hash(lines: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name, of in sorted(lines.items()):
        digest.update(f"{of}  {name}\n".encode())
    return digest.hexdigest()
