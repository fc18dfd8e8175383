"""A measured dataset made of rows: talkers in sync, one a clip, that tests then spoil one at a time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from table_rows import row, source_row

from curation import Dataset
from curation.check.findings import Checked, Clip, check
from curation.check.limits import Limits
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.table import Row, Table


class Foreign:
    """Clips `a`, `b`, ... of five seconds; `rows` are what stages measured of them."""

    def __init__(self, folder: Path, clips: str = "ab") -> None:
        self.folder = folder
        self.rows: dict[Table[Any], list[Row]] = defaultdict(list)
        self.clips: list[dict[str, Any]] = [
            {"clip": name, "path": f"/{name}.mp4", "tracks": False, "declared_fps": 25.0} for name in clips
        ]
        for name in clips:
            self.talker(name)

    @staticmethod
    def id(name: str) -> str:
        return name * 16

    def talker(self, name: str) -> None:
        """Add what is measured of somebody who talks."""
        sid, tid = self.id(name), f"{self.id(name)}-t0000"
        self.add(t.INPUTS, path=f"/{name}.mp4", source_id=sid, name=f"{name}.mp4")
        self.rows[t.SOURCES].append(
            source_row(
                sid, duration_s=5.0, n_frames=125, audio_rate_hz=48000, audio_channels=2, audio_start_s=0.0,
                audio_duration_s=5.0,
            )
        )  # fmt: skip
        whole = {"source_id": sid, "start_s": 0.0, "end_s": 5.0}
        self.add(
            t.TRACKS, track_id=tid, **whole, duration_s=5.0, visible_ratio=1.0, face_area=0.1, median_face_px=100.0
        )
        self.add(t.AUDIO, source_id=sid, has_audio=True, silence_ratio=0.1)
        self.add(t.TIMELINE, track_id=tid, **whole, state="speak", reason="synced_voice", confidence=0.9)
        self.add(t.SYNC, track_id=tid, offset_ms=20.0, confidence=0.5, own_voice=1.0, evidence_s=4.5, annotator="lips")
        self.add(t.DUPLICATES, source_id=sid)

    def add(self, table: Table[Any], **values: Any) -> None:
        self.rows[table].append(row(table, **values))

    def change(self, table: Table[Any], name: str, **values: Any) -> None:
        """Give a clip's rows of a table other values."""
        key = table.key[0]
        self.rows[table] = [
            r.but(**values) if str(r[key]).startswith(name if table is t.INPUTS else self.id(name)) else r
            for r in self.rows[table]
        ]

    def declare(self, name: str, **values: Any) -> None:
        next(c for c in self.clips if c["clip"] == name).update(values)

    def check(self, **limits: float) -> Checked:
        store = Store(str(self.folder))
        store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
        for table, rows in self.rows.items():
            window = 0 if table.grain == "window" else None
            name = table_file(table, self.id("a"), window)  # all in one file, which no reader minds
            store.write_table(name, table, table.from_rows(rows))
        return check(Dataset(self.folder), [Clip(**c) for c in self.clips], Limits(**limits))

    def found(self, **limits: float) -> set[tuple[str, str]]:
        """Return (clip, finding)."""
        return {(f.clip, f.finding) for f in self.check(**limits).findings}
