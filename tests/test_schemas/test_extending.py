"""The examples of docs/extending.md: each is applied to a copy of the program, which then measures and packs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
MEASURED, CAPTION = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)

NEW_MEASURE = """
import json, sys
from pathlib import Path

from conversation_case import SOURCE, Case, Face, solve
from table_rows import row

from curation import Dataset
from curation.decisions.rules import check_policy
from curation.pack.samples import kept_entries
from curation.report.content import distributions
from curation.storage.store import Store, table_file
from schemas import tables as t
from schemas.samples.manifest import manifest_row
from schemas.settings.policy import parse_policy

words = [(0.1 + n / 2, 0.4 + n / 2, "word") for n in range(16)]
found = solve(Case({"a": Face("s", 0.0, 8.0, [(0.0, 8.0, 3.0)])}, {"v": [(0.0, 8.0)]}, words=words))
segments = [t.SEGMENTS.row.of(r).but(segment_id=f"{SOURCE}-t0000-{n}") for n, r in enumerate(found.segments)]
said = max(segments, key=lambda r: r.duration_s)
given = {
    t.SEGMENTS: segments,
    t.SOURCES: [row(t.SOURCES, source_id=SOURCE)],
    t.INPUTS: [row(t.INPUTS, path="x", source_id=SOURCE)],
    t.CLIPS: [row(t.CLIPS, segment_id=said.segment_id, source_id=SOURCE)],
    t.DECISIONS: [row(t.DECISIONS, unit="segments", unit_id=said.segment_id, source_id=SOURCE, outcome="kept")],
    t.SPLITS: [row(t.SPLITS, source_id=SOURCE, split="train")],
}
store = Store(sys.argv[1])
store.write_json("dataset.json", {"format": 1, "name": "openlpm"})
for table, rows in given.items():
    store.write_table(table_file(table, SOURCE), table, table.from_rows(rows))
dataset = Dataset(sys.argv[1])
(entry,) = kept_entries(dataset, {}, "p")
packed = manifest_row(entry.sample, entry.uri, "train-000000.tar", [])
store.write_table(table_file(t.MANIFEST), t.MANIFEST, t.MANIFEST.from_rows([packed]))
rule = {"id": "talkative", "on": "segments", "step": "quality", "keep": "words_per_s > 0.5", "why": "too few words"}
policy = parse_policy({"name": "mine", "rules": [rule]}, "here")
check_policy(policy)
print(json.dumps({
    "segment": said["words_per_s"],
    "sample": json.loads(entry.sample.model_dump_json())["scores"]["words_per_s"],
    "manifest": dataset.query("SELECT words_per_s FROM manifest").fetchall()[0][0],
    "report": [f"{x['title']}: {x['rules']}" for x in distributions(dataset, policy) if "words" in str(x["title"])],
    "no rule": [x["title"] for x in distributions(dataset, policy.model_copy(update={"rules": ()}))],
}))
"""
NEW_CAPTION = """
import json, sys

from chat_server import FRAMES, answer, completion, serving
from signal_factory import face

from annotators.captions.captioner import ClipContext
from annotators.captions.captioner_openai import OpenAICaptioner
from annotators.captions.chat import ChatEndpoint
from annotators.performance.speaking_style import NO_STYLE
from schemas import tables as t
from schemas.samples.sample import Performance
from schemas.tables.performance import CaptionRow

reply = {
    "emotions": [], "expressions": [], "stance": None, "gaze": "camera", "head_motion": [], "body_motion": "low",
    "hair": None, "glasses": None, "headwear": "cap", "place": None, "relationship": None, "personality": [],
    "motions": [], "prose": "A person in a cap listens.",
}
with serving(answer(completion(reply))) as server:
    asked = OpenAICaptioner(ChatEndpoint(f"http://127.0.0.1:{server.server_address[1]}/v1"), "model")
    caption = asked.caption(ClipContext("listen", face()), FRAMES)
row = caption.row("segment", "source", [], NO_STYLE)
stored = t.CAPTIONS.rows(t.CAPTIONS.from_rows([row]))[0]
performance = Performance.of({c: stored[c.name] for c in CaptionRow.columns if c.packed})
print(json.dumps({
    "sample": json.loads(performance.model_dump_json())["headwear"],
    "manifest": "headwear" in t.MANIFEST.column_names,
    "asked": server.requests[0]["body"]["response_format"]["json_schema"]["schema"]["required"],
}))
"""


def copied(folder: Path, diff: str) -> list[str]:
    """Copy the program, apply a diff of the page and return the files that it changes."""
    for name in ("schemas", "curation", "annotators", "stages", "workflows", "lpm_train"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    files = re.split(r"^--- a/(.*)\n", diff, flags=re.MULTILINE)[1:]
    for name, hunks in zip(files[::2], files[1::2], strict=True):
        text = (folder / name).read_text(encoding="utf-8")
        for hunk in hunks.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            before, after = ("".join(x[1:] for x in lines if x[0] in kind) for kind in (" -", " +"))
            assert text.count(f"\n{before}") == 1, f"{name} no longer holds {before!r}"
            text = text.replace(f"\n{before}", f"\n{after}")
        (folder / name).write_text(text, encoding="utf-8")
    return files[::2]


def told(folder: Path, script: str) -> dict[str, object]:
    path = os.pathsep.join([str(folder), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "dataset")],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_new_measure_is_two_files(tmp_path: Path) -> None:
    assert len(copied(tmp_path, MEASURED)) == 2
    found = told(tmp_path, NEW_MEASURE)
    assert found["segment"] == found["sample"] == found["manifest"] == pytest.approx(2.0, abs=0.3)
    assert found["report"] == ["segments.words_per_s: talkative"]
    assert "manifest.words_per_s" in str(found["no rule"])


def test_a_new_kind_of_caption_is_three_files(tmp_path: Path) -> None:
    assert len(copied(tmp_path, CAPTION)) == 3
    found = told(tmp_path, NEW_CAPTION)
    assert found["sample"] == "cap" and found["manifest"] is True
    assert "headwear" in str(found["asked"])
