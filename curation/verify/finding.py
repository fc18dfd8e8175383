"""What a check finds: a sentence for people, and what would mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from curation.verify.few import Said

How = Literal["withdraw", "delete", "pack", "decide"]
"""withdraw: the commit of that name and what it vouches for, so that the next run does the step again; delete: the file
of that name, which nothing needs or which is made again; pack: the shard or sidecar of that name, or the manifest,
which packing writes again; decide: the ledger's tables, which deciding writes again."""


@dataclass(frozen=True, slots=True)
class Mend:
    """One thing to do about a finding."""

    how: How
    file: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not as it must be. Without mends a person has to see to it."""

    what: str
    mends: tuple[Mend, ...] = ()

    @property
    def things(self) -> int:
        """How many things it is about."""
        return self.what.things if isinstance(self.what, Said) else 1


def plain(sentences: Iterable[str]) -> Iterator[Finding]:
    """Turn sentences into findings that nothing mends by itself."""
    yield from (Finding(what) for what in sentences)
