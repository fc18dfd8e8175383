"""Small files beside the page that a browser plays: packed clips with both their sounds, and excerpts of sources.

They lie in report/clips/ and are named by the page with relative addresses, so that the folder can be copied. The
picture of a packed clip is copied; an excerpt is encoded anew, small and a few seconds long.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from curation.media.apart import ReaderEndedError, media_apart
from curation.media.errors import MediaError
from curation.media.stretch import write_packed, write_stretch
from curation.storage.store import Store, StoreError
from schemas.tables.output import ManifestRow
from schemas.time import Interval

FOLDER = "report/clips"
LONGEST_S = 4.0
"""Of a unit that was left out this much plays, around its middle."""
MARGIN_S = 0.5
SIDE = 480
"""Longer side of an excerpt, in pixels."""


class Clips:
    """Writes the files of one page."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._there = set(store.names(FOLDER))
        self._written: set[str] = set()
        self._broken: set[Path] = set()
        """sources that ended their reader"""

    def sample(self, row: ManifestRow) -> str | None:
        """Write a packed clip and return its address as the page names it; None where it cannot be read."""

        def make(out: Path) -> None:
            places = {member["name"].removeprefix(row.segment_id): member for member in row.members}

            def read(suffix: str) -> bytes:
                return self._store.read(f"shards/{row.shard}", places[suffix]["offset"], places[suffix]["size"])

            media_apart(write_packed, read(".mp4"), [read(".speak.flac"), read(".listen.flac")], out, "mp4")

        return self._write(f"{row.segment_id} {row.member_sha256}", row.segment_id, make)

    def excerpt(self, file: Path | None, unit_id: str, span: Interval) -> str | None:
        """Write what a source shows around the middle of a unit and return its address; None where that cannot be."""
        if file is None or file in self._broken:
            return None
        middle = (span.start_s + span.end_s) / 2
        half = min(LONGEST_S, span.duration_s + 2 * MARGIN_S) / 2
        start_s = max(0.0, middle - half)

        def make(out: Path) -> None:
            try:
                media_apart(write_stretch, file, start_s, middle + half, out, "mp4", SIDE)
            except ReaderEndedError:
                self._broken.add(file)
                raise

        return self._write(f"{unit_id} {start_s:.3f} {half:.3f}", unit_id, make)

    def tidy(self) -> None:
        """Delete what earlier pages played and this one does not."""
        for name in self._there - self._written:
            self._store.delete(name)

    def _write(self, content: str, name: str, make: Callable[[Path], None]) -> str | None:
        """Make a file unless one of the same content is there; ids begin with the hash of their source's bytes."""
        stored = f"{FOLDER}/{name}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.mp4"
        if stored not in self._there:
            with tempfile.TemporaryDirectory(prefix="lpm-report-") as folder:
                out = Path(folder) / "clip.mp4"
                try:
                    make(out)
                    self._store.write(stored, out.read_bytes())
                except (MediaError, StoreError, OSError, KeyError):
                    return None
        self._written.add(stored)
        return stored.removeprefix("report/")
