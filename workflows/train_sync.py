"""`lpm models train-sync`: fit the lip-audio sync again, on the talkers of a dataset.

The corpus that is curated is the best teacher of the model that curates it: no labels are needed, only people who talk.
Put the file into a directory of OPENLPM_MODELS and the next run uses it (the stage's fingerprint holds its hash). Cost
per hour of talkers: two minutes for Whisper's features and one for the fits; memory 0.3 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from annotators.lips.lip_sync_model import MODEL_FILE, save_towers
from annotators.lips.lip_sync_training import HeldOut, train
from annotators.lips.sync_audio import WHISPER_WEIGHT, MelSyncAudio, SyncAudio, WhisperSyncAudio
from annotators.models import weights
from curation.dataset import Dataset
from schemas.time import GRID_HZ
from workflows.talkers import spoken_stretches, talker_clips

_MAX_HOURS = 2.0


@dataclass(frozen=True)
class Trained:
    """What was fitted on what, and how people held out fare, by kind of sound feature."""

    clips: int
    people: int
    hours: float
    held_out: dict[str, list[HeldOut]]


def train_sync(target: str, file: Path, max_hours: float = _MAX_HOURS) -> Trained:
    """Fit on the kept speaking segments of the dataset `target`, write `file`, return the held-out figures.

    Raises ValueError for fewer than 4 people or less than a minute of speech with lips in view.
    """
    kinds: dict[str, SyncAudio] = {"mel": MelSyncAudio()}
    if weights.find(WHISPER_WEIGHT) is not None:
        kinds["whisper-base"] = WhisperSyncAudio()
    dataset = Dataset(target)
    clips = talker_clips(dataset, spoken_stretches(dataset, max_hours), kinds)
    fitted = {kind: train(of_kind, kind) for kind, of_kind in clips.items()}
    some = clips["mel"]
    hours = sum(len(c.lips) for c in some) / GRID_HZ / 3600
    people = len({c.person for c in some})
    about: dict[str, object] = {"clips": len(some), "people": people, "hours": round(hours, 3)}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_towers(file, {kind: towers for kind, (towers, _) in fitted.items()}, about)
    return Trained(len(some), people, hours, {kind: found for kind, (_, found) in fitted.items()})


def default_file() -> Path:
    """Return where the model goes unless told: the first directory of OPENLPM_MODELS, else the cache directory."""
    return (weights.model_directories() or [weights.cache_directory()])[0] / MODEL_FILE
