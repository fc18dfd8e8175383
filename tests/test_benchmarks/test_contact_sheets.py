"""Contact sheets of a packed dataset: every sample on every kind of page."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from contact_sheets import write_sheets
from sheet_drawing import GOOD, PAGE_PX, WIDTH_PX, row, write_pages
from table_rows import row as table_row

from curation import Dataset
from curation.dataset import FORMAT_VERSION
from curation.media.encode import decode_jpeg, encode_clip_bytes, encode_jpeg
from curation.pack.shards import end_of_archive, write_members
from curation.storage.store import Store, table_file
from schemas import tables as t

SAMPLE = "ab" * 8 + "-t00000-00000000"


def test_pages_of_a_packed_sample(tmp_path: Path) -> None:
    facts = {
        "sample_id": SAMPLE, "state": "listen", "category": "Listen_dialogue", "split": "train", "identity_id": "p-1",
        "text": "ça va", "language": "fr", "partner": None, "source": {"name": "a.mp4", "start_s": 0.0, "end_s": 3.0},
        "states": [{"state": "listen", "start_s": 0.0, "end_s": 3.0, "confidence": 0.9, "reason": "heard_voice"}],
        "performance": {"caption": "A person listens.", "emotions": [], "expressions": ["smile"], "head_motion": [],
                        "gaze": "camera", "stance": None, "annotator": "x"},
        "references": [{"member": "ref_global_0.jpg", "distance": 0.3, "view": "frontal", "expression": "neutral",
                        "time_s": 1.0, "overlaps_clip": False}],
        "scores": {"asd_mean": 0.5, "music": None},
    }  # fmt: skip
    clip, _ = encode_clip_bytes((np.full((64, 64, 3), 80 * i, np.uint8) for i in range(3)), preset="ultrafast")
    picture = encode_jpeg(np.full((40, 30, 3), 200, np.uint8))
    data = {"mp4": clip, "json": json.dumps(facts).encode(), "ref_global_0.jpg": picture}
    tar = io.BytesIO()
    index = write_members(tar, [(f"{SAMPLE}.{name}", content) for name, content in data.items()])
    end_of_archive(tar)
    store = Store(str(tmp_path / "set"))
    store.write_json("dataset.json", {"format": FORMAT_VERSION, "name": "openlpm"})
    store.write("shards/train-000000.tar", tar.getvalue())
    members = [{"name": n, "offset": o, "size": s} for n, o, s in index]
    entry = table_row(t.MANIFEST, segment_id=SAMPLE, shard="train-000000.tar", members=members)
    store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows([entry]))
    pages = write_sheets(Dataset(store.uri), tmp_path / "out", {(SAMPLE, "ref_global_0.jpg"): True})
    assert [p.name for p in pages] == ["references-001.jpg", "clips-001.jpg", "captions-001.jpg"]
    index_page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert all(p.name in index_page for p in pages)
    sheet = decode_jpeg(pages[0].read_bytes())
    assert sheet.shape[1] == WIDTH_PX
    assert (np.abs(sheet.astype(int) - GOOD).sum(2) < 60).sum() > 300  # a green border round the reference


def test_rows_fill_pages_in_order(tmp_path: Path) -> None:
    one = row("title", [], "text " * 50)
    pages = write_pages(tmp_path, "x", [one] * 200)
    heights = [len(decode_jpeg(p.read_bytes())) for p in pages]
    assert sum(heights) == 200 * len(one) and max(heights) <= PAGE_PX
