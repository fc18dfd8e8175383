"""What rows of several tables have in common, for functions that take any of them."""

from __future__ import annotations

from typing import Protocol


class Timed(Protocol):
    """A row with a time."""

    @property
    def start_s(self) -> float:
        """Its start in seconds, inclusive."""

    @property
    def end_s(self) -> float:
        """Its end in seconds, exclusive."""


class Placed(Protocol):
    """A row with a place in the picture: the median centre of a face, in shares of the picture."""

    @property
    def center_x(self) -> float:
        """From the left."""

    @property
    def center_y(self) -> float:
        """From the top."""


class Anchored(Timed, Placed, Protocol):
    """A row that says which track it means by id, time and place: of tracks, of the registry and of decisions."""

    @property
    def track_id(self) -> str:
        """The track's id when the row was made."""

    @property
    def source_id(self) -> str:
        """Its source."""


class Stretch(Timed, Protocol):
    """A row that is a stretch of a track: a segment."""

    @property
    def segment_id(self) -> str:
        """Its id."""

    @property
    def track_id(self) -> str:
        """Its track."""

    @property
    def shot_id(self) -> str:
        """The track's shot."""
