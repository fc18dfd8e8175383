"""A pyannote pipeline as a directory, made of the weights at hand. Needs pyannote.audio."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import torch

from annotators.models import weights
from annotators.speech.pyannote_parts import Voice, segmentation
from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT
from annotators.speech.voices import CamPlusPlusEmbedder

CONFIG = """
dependencies:
  pyannote.audio: 4.0.0
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    segmentation: $model/segmentation
    segmentation_step: 0.1
    embedding: $model/embedding
    embedding_exclude_overlap: true
params:
  segmentation: {min_duration_off: 0.0}
  clustering: {method: average, threshold: 0.5, min_cluster_size: 12}
"""


class CamVoice(Voice):
    """CAM++ as a model that pyannote loads by its name; its weights are those of the registry."""

    def __init__(self) -> None:
        super().__init__(CamPlusPlusEmbedder())


def write_pipeline(folder: Path) -> Path:
    """Write the directory and return it."""
    models = {"segmentation": segmentation(weights.resolve(SEGMENTATION_WEIGHT)), "embedding": CamVoice()}
    for name, model in models.items():
        checkpoint: dict[str, Any] = {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "pytorch-lightning_version": importlib.metadata.version("lightning"),
        }
        model.on_save_checkpoint(checkpoint)
        (folder / name).mkdir(parents=True)
        torch.save(checkpoint, folder / name / "pytorch_model.bin")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return folder
