"""What the page plays and shows: stretches of sources, packed clips with one of their sounds, portraits.

Files are made when they are asked for first, in a folder of their own that goes with the server; the last few are kept.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from curation.dataset import Dataset
from curation.engine.fetch import MediaCache, SourceChangedError
from curation.media.apart import media_apart
from curation.media.encode import jpeg_part
from curation.media.stretch import Form, write_packed, write_stretch
from curation.report.rows import path_of
from curation.review.watch import MOST_S, NotThereError
from schemas import tables as t

MOST_FILES = 40
Members = dict[str, tuple[str, int, int]]
"""By suffix: shard, offset and size of a member."""
TRACKS = {"speak": ("speak",), "listen": ("listen",), "both": ("speak", "listen"), "none": ()}
"""Sounds of a packed clip that can be chosen, and the tracks that each is mixed of."""


@dataclass(frozen=True, slots=True)
class Playable:
    """A file to be played, by name, and the time of the source at which it begins."""

    name: str
    start_s: float
    copied: bool


class Media:
    """Makes and keeps the files of one server."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self._sources = dataset, MediaCache(dataset.store)
        self._folder = tempfile.TemporaryDirectory(prefix="lpm-review-")
        self._made: dict[str, Playable] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Delete the files."""
        self._folder.cleanup()

    def file(self, name: str) -> Path | None:
        """Return a file that was made, by name; None where there is none (any more)."""
        return Path(self._folder.name) / name if any(p.name == name for p in self._made.values()) else None

    def stretch(self, source_id: str, start_s: float, end_s: float, form: Form) -> Playable:
        """Return a stretch of a source.

        Raises:
            NotThereError: the source is not in the dataset, or its file is gone or another one.
            MediaError: it cannot be read there.
        """
        if not 0 <= start_s < end_s <= start_s + MOST_S + 20:
            raise NotThereError(f"{start_s:g}-{end_s:g} s is no stretch that can be shown at once")

        def make(out: Path) -> tuple[float, bool]:
            path = path_of(self._dataset.connect(tables=[t.INPUTS]), source_id)
            if path is None:
                raise NotThereError("no input names this source any more")
            try:
                made = media_apart(write_stretch, self._sources.local(path, source_id), start_s, end_s, out, form)
            except (FileNotFoundError, SourceChangedError, OSError) as e:
                raise NotThereError(str(e)) from e
            return made.start_s, made.copied

        return self._make(f"{source_id} {start_s:.3f} {end_s:.3f}", form, make)

    def clip(self, sample_id: str, sound: str, form: Form) -> Playable:
        """Return a packed clip with one of its sounds, or both mixed.

        Raises:
            NotThereError: it is not packed, or there is no such sound.
            MediaError: it cannot be read.
        """
        if sound not in TRACKS:
            raise NotThereError(f"there is no sound {sound!r}; there are: {', '.join(TRACKS)}")

        def make(out: Path) -> tuple[float, bool]:
            members = self._members(sample_id)
            heard = [self._read(members, f".{x}.flac") for x in TRACKS[sound]]
            media_apart(write_packed, self._read(members, ".mp4"), heard, out, form)
            return 0.0, form == "mp4"

        return self._make(f"{sample_id} {sound}", form, make)

    def portrait(self, track_id: str, k: int) -> bytes:
        """Return the portrait of a track that is nearest to a grid point, as JPEG. Raises NotThereError."""
        con = self._dataset.connect(tables=[t.PORTRAITS, t.TRACKLETS], sources=[track_id[:16]])
        rows = con.execute(
            "SELECT p.image FROM portraits p JOIN tracklets l ON l.tracklet_id = p.tracklet_id WHERE l.track_id = ? "
            "ORDER BY abs(p.k - ?), p.k LIMIT 1", [track_id, k],
        ).fetchall()  # fmt: skip
        if not rows or not rows[0][0]:
            raise NotThereError(f"there is no portrait of {track_id}")
        return bytes(rows[0][0])

    def reference(self, segment_id: str, kind: str, n: int) -> bytes:
        """Return a reference image of a segment as JPEG. Raises NotThereError."""
        sql = 'SELECT ref_track_id, ref_k, part_xywh FROM "references" WHERE segment_id = ? AND kind = ? AND n = ?'
        rows = self._dataset.connect(tables=[t.REFERENCES]).execute(sql, [segment_id, kind, n]).fetchall()
        if not rows:
            raise NotThereError(f"{segment_id} has no reference {kind} {n}")
        track_id, k, part = rows[0]
        return jpeg_part(self.portrait(track_id, k), part or [])

    def _make(self, what: str, form: Form, make: Callable[[Path], tuple[float, bool]]) -> Playable:
        name = f"{hashlib.sha256(what.encode()).hexdigest()[:20]}.{form}"
        with self._lock:  # one at a time: encoding takes a whole core
            if name not in self._made:
                start_s, copied = make(Path(self._folder.name) / name)
                self._made[name] = Playable(name, start_s, copied)
                while len(self._made) > MOST_FILES:
                    old = self._made.pop(next(iter(self._made)))
                    (Path(self._folder.name) / old.name).unlink(missing_ok=True)
            else:
                self._made[name] = self._made.pop(name)
            return self._made[name]

    def _members(self, sample_id: str) -> Members:
        rows = self._dataset.connect(tables=[t.MANIFEST]).execute(
            "SELECT shard, m.name, m.offset, m.size FROM (SELECT shard, unnest(members) AS m FROM manifest "
            "WHERE segment_id = ?)", [sample_id],
        ).fetchall()  # fmt: skip
        if not rows:
            raise NotThereError(f"{sample_id} is not packed")
        return {name.removeprefix(sample_id): (f"shards/{shard}", offset, size) for shard, name, offset, size in rows}

    def _read(self, members: Members, suffix: str) -> bytes:
        if suffix not in members:
            raise NotThereError(f"the sample has no {suffix.lstrip('.')}")
        return self._dataset.store.read(*members[suffix])
