"""Of many things that are wrong in the same way, say a few: a list of all would grow with the dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

NAMED = 3
"""How many are named."""


class Said(str):
    """A sentence that stands for some things that are wrong in the same way."""

    things: int

    def __new__(cls, sentence: str, things: int) -> Said:
        """Say something of so many things."""
        said = super().__new__(cls, sentence)
        said.things = things
        return said


@dataclass(slots=True)
class Few:
    """The first ids that a sentence is true of, and how many there are; `{}` in the sentence stands for an id."""

    sentence: str
    named: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, ids: Iterable[str]) -> None:
        """Count ids in."""
        for i in ids:
            if len(self.named) < NAMED:
                self.named.append(i)
            self.count += 1

    def said(self) -> Iterator[str]:
        """Yield the sentence for each that is named, and how many more there are."""
        yield from (self.sentence.format(i) for i in self.named)
        if self.count > NAMED:
            yield Said(f"{self.count - NAMED} more: {self.sentence.format('...')}", self.count - NAMED)
