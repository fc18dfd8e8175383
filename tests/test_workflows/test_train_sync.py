"""`lpm models train-sync`: fitted on a dataset's own talkers, and used by the next run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import lpm, lpm_well
from speech_media import need

from annotators.lips.lip_sync_model import MODEL_FILE
from annotators.models import weights
from curation.dataset import Dataset
from schemas import tables as t

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PEOPLE = ("generated_11", "generated_13", "generated_15", "generated_17", "generated_5", "generated_7", "generated_9")
WORKFLOW = """
name: to_pairing
policy: demo
stages:
  probe: {use: "stages.sources.probe:Probe"}
  scan: {use: "stages.scan.scan:Scan"}
  tracks: {use: "stages.tracks.tracks:Tracks"}
  speech: {use: "stages.speech.speech:Speech", settings: {recogniser: tiny.en}}
  active_speaker: {use: "stages.speech.active_speaker:ActiveSpeakerStage"}
  attribution: {use: "stages.attribution.attribution:Attribution"}
  pairing: {use: "stages.pairing.pairing:Pairing"}
"""


def test_a_model_fitted_on_the_dataset_is_used_by_the_next_run(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("lr_asd_talkset.pt")
    workflow, dataset, models = tmp_path / "to_pairing.yaml", tmp_path / "dataset", tmp_path / "models"
    workflow.write_text(WORKFLOW)
    command = ("run", *(str(media / "talkers" / f"{p}.mp4") for p in PEOPLE), "--out", str(dataset))
    command += ("--workflow", str(workflow), "--engine", "local")
    lpm_well(*command)
    before = Dataset(dataset).table(t.SYNC_FRAMES)

    nobody = lpm("models", "train-sync", str(tmp_path / "none"), "--out", str(tmp_path / "no.npz"))
    assert nobody.returncode != 0 and not (tmp_path / "no.npz").exists()

    models.mkdir()
    directories = [str(models), *(str(d) for d in weights.model_directories())]
    monkeypatch.setenv("OPENLPM_MODELS", os.pathsep.join(directories))
    said = lpm_well("models", "train-sync", str(dataset)).stdout
    assert f"{len(PEOPLE)} people" in said, said
    assert (models / MODEL_FILE).is_file() and str(models / MODEL_FILE) in said.replace("\n", "")
    whisper = [float(x) for x in re.findall(r"whisper-base\D+7 \D+([01]\.\d+)\D+([01]\.\d+)", said)[0]]
    assert whisper[0] > 0.8 and whisper[1] > 0.6, said

    lpm_well(*command)
    after = Dataset(dataset).table(t.SYNC_FRAMES)
    assert before["k"].equals(after["k"]) and not before["log_odds"].equals(after["log_odds"]), (
        "another model made these"
    )
    sync = Dataset(dataset).table(t.SYNC).to_pylist()
    offsets = [r["offset_ms"] for r in sync if r["offset_ms"] is not None]
    assert len(offsets) >= 6 and np.abs(offsets).max() <= 80, offsets
    assert min(r["own_voice"] for r in sync if r["own_voice"] is not None) > 0.5
