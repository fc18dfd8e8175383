"""The parts of pyannote's pipeline, made from the weights at hand. Imports pyannote.audio: several seconds.

Import it through `annotators.speech.pyannote_diarizer`, which turns usage reports off first and says what is missing.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio import Model
from pyannote.audio.core.plda import PLDA
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.pipelines import SpeakerDiarization
from torch import Tensor, nn

from annotators.models.weights_registry import WeightsNotFound
from annotators.protocols_speech import FloatArray, SpeakerEmbedder
from annotators.speech.pyannote_pipeline import Configured
from annotators.speech.speaker_segmentation import LOCAL_SPEAKERS, POWERSET, WINDOW_S
from annotators.speech.voices import MIN_CLIP_SAMPLES
from schemas.time import AUDIO_HZ

Intervals = list[tuple[float, float, str]]

_NO_PLDA = PLDA.__new__(PLDA)
"""Asked for by every pipeline, and used by one kind of clustering only."""


class Voice(Model):  # type: ignore[misc]
    """A speaker embedder as the pipeline wants it: [B, 1, N] sound and [B, F] weights in, [B, D] out."""

    def __init__(self, embedder: SpeakerEmbedder) -> None:
        super().__init__(sample_rate=AUDIO_HZ, num_channels=1)
        self.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
        )
        self._embedder = embedder
        self._place = nn.Parameter(torch.zeros(1), requires_grad=False)  # a model has a device only by a parameter

    @property
    def dimension(self) -> int:
        """The length of an embedding."""
        return self._embedder.dimension

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return an embedding of what is heard where the weights are above one half; nan where that is too short."""
        out = np.full((len(waveforms), self.dimension), np.nan, np.float32)
        for n, wave in enumerate(waveforms[:, 0].cpu().numpy()):
            clip = wave if weights is None else wave[_chosen(weights[n].cpu().numpy(), len(wave))]
            if len(clip) >= MIN_CLIP_SAMPLES:
                out[n] = self._embedder.embed([clip])[0]
            elif weights is None:
                raise ValueError(f"a voice needs at least {MIN_CLIP_SAMPLES} samples, got {len(clip)}")
        return torch.from_numpy(out)


def _chosen(weights: FloatArray, samples: int) -> NDArray[np.bool_]:
    frame = np.minimum(np.arange(samples) * len(weights) // samples, len(weights) - 1)
    return np.asarray(weights[frame] > 0.5)


def segmentation(path: Path) -> PyanNet:
    """Return segmentation-3.0 with the weights of `path`, loaded strictly."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    network = PyanNet(lstm={"num_layers": 4})
    network.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=WINDOW_S,
        classes=[f"speaker#{n + 1}" for n in range(LOCAL_SPEAKERS)],
        powerset_max_classes=max(len(talkers) for talkers in POWERSET),
        permutation_invariant=True,
    )
    network.build()
    network.load_state_dict(checkpoint["state_dict"], strict=True)
    return network.eval()


class Pipeline:
    """`SpeakerDiarization` with agglomerative clustering; knows nothing of speech regions."""

    def __init__(
        self, network: PyanNet, embedder: SpeakerEmbedder, step_s: float, max_distance: float, min_cluster: int
    ) -> None:
        """Take networks and settings.

        `step_s`: hop of the windows. Clusters whose mean cosine distance is below `max_distance` are one speaker, and
        those of fewer than `min_cluster` voices join another.
        """
        self._pipeline = SpeakerDiarization(
            segmentation=network,
            segmentation_step=step_s / WINDOW_S,
            embedding=Voice(embedder),
            embedding_exclude_overlap=True,
            plda=_NO_PLDA,
            clustering="AgglomerativeClustering",
        )
        self._pipeline.instantiate(
            {
                "segmentation": {"min_duration_off": 0.0},
                "clustering": {"method": "average", "threshold": max_distance, "min_cluster_size": min_cluster},
            }
        )

    def __call__(self, audio: FloatArray) -> Intervals:
        """Return (start_s, end_s, label) in audio [N] at 16 kHz."""
        return _heard(self._pipeline, audio)


class UsersPipeline:
    """`SpeakerDiarization` as a configuration says, with the models and the clustering of its own."""

    def __init__(self, configured: Configured) -> None:
        """Load it. Raises WeightsNotFound for files that pyannote cannot load."""
        # As mappings: a bare path that holds a word such as "wespeaker" would choose another loader.
        models = {k: {"checkpoint": str(v)} for k, v in configured.arguments.items() if isinstance(v, Path)}
        try:
            self._pipeline = SpeakerDiarization(**{"plda": _NO_PLDA, **configured.arguments, **models})
            self._pipeline.instantiate(configured.parameters or self._pipeline.default_parameters())
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, pickle.UnpicklingError) as e:
            folder = configured.folders["pipeline"]
            why = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise WeightsNotFound(f"pyannote cannot load the pipeline of {folder}: {why}") from e

    def __call__(self, audio: FloatArray) -> Intervals:
        """Return (start_s, end_s, label) in audio [N] at 16 kHz."""
        return _heard(self._pipeline, audio)


def _heard(pipeline: SpeakerDiarization, audio: FloatArray) -> Intervals:
    sound = {"waveform": torch.from_numpy(audio)[None], "sample_rate": AUDIO_HZ, "uri": "sound"}
    with warnings.catch_warnings():
        # Of voices too short for an embedding it takes the mean, which it then does not use.
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        warnings.filterwarnings("ignore", "invalid value encountered in", RuntimeWarning, "numpy")
        heard: Any = pipeline(sound)
    found = getattr(heard, "speaker_diarization", heard).itertracks(yield_label=True)
    return [(float(part.start), float(part.end), str(label)) for part, _, label in found]
