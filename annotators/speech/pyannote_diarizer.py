"""Who spoke when, by pyannote.audio's own pipeline on the weights at hand: an optional part, not installed by default.

The same networks as the default diarizer, joined by pyannote's `SpeakerDiarization` with agglomerative clustering.
Speakers are divided, turns drawn and kept inside speech by the same rule as the default's, so that the two differ in
nothing else.

Or a whole pipeline of the user's, speakers and all: a local directory, or a gated one of the hub by name, which is
fetched before the run begins with the token in HF_TOKEN. Its files hold pickled Python objects: use one that you trust.
Nothing else is downloaded, and the library's usage reports are off before it is imported.

Cost on one core: about 1/6 of real time where people talk all the time, and some seconds to import. Clustering takes
memory that grows with the square of the recording: 0.4 GB for an hour.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from annotators.models import weights
from annotators.optional_parts import of_the_full_set
from annotators.parts import Made
from annotators.protocols_speech import FloatArray, Segment, SpeakerEmbedder, Turn
from annotators.speech import pyannote_pipeline, quiet_import
from annotators.speech.diarizer import DiarizationRule, drawn_turns, voice_name
from annotators.speech.speaker_segmentation import FRAME_STEP_S, SEGMENTATION_WEIGHT, frame_times_s
from annotators.speech.voice_pieces import PieceRule, divided
from annotators.speech.voices import CamPlusPlusEmbedder
from schemas.time import AUDIO_HZ

_MIN_CLUSTER = 12
"""Voices of windows that make a speaker, fewer in short recordings: that of pyannote's pipeline 3.1."""

_ASKED = ("diarizer=pyannote", "pyannote.audio", "diarizer=clustering")


class PyannoteDiarizer:
    """pyannote's pipeline; labels are "speaker_0", "speaker_1", ... in order of first appearance."""

    def __init__(
        self, embedder: SpeakerEmbedder | None = None, rule: DiarizationRule | None = None, pipeline: str | None = None
    ) -> None:
        """Build the pipeline.

        Args:
            embedder: a voice as a vector; a `pipeline` brings its own.
            rule: how turns are drawn, and what is one voice; a `pipeline` knows that itself.
            pipeline: directory with pyannote's config.yaml and all that it names, or a pipeline's name on the hub.

        Raises PartNotInstalledError and WeightsNotFound.
        """
        parts = _parts()
        self._rule = rule = rule or DiarizationRule()
        made = self.made_of(pipeline)
        self._pieces: tuple[SpeakerEmbedder, PieceRule] | None = None
        self._pipeline: Callable[[FloatArray], list[tuple[float, float, str]]]
        if pipeline is not None:
            self.name, self.weights = made.name, made.weights
            self._pipeline = parts.UsersPipeline(pyannote_pipeline.configured(pipeline))
            return
        embedder = embedder or CamPlusPlusEmbedder()
        self.name = f"pyannote.audio+segmentation-3.0+{voice_name(embedder)}+ahc+pieces"
        self.weights = (*made.weights, *embedder.weights)
        if rule.pieces is not None:
            self._pieces = (embedder, rule.pieces)
        self._pipeline = parts.Pipeline(
            parts.segmentation(weights.resolve(SEGMENTATION_WEIGHT)),
            embedder,
            step_s=rule.step_s,
            max_distance=1.0 - rule.same_voice_similarity,
            min_cluster=_MIN_CLUSTER,
        )

    @classmethod
    def made_of(cls, pipeline: str | None = None, **_: object) -> Made:
        """Name the scheme, its files and the library's version, without importing it.

        Raises PartNotInstalledError, and WeightsNotFound for a pipeline that cannot be had.
        """
        try:
            library = {"pyannote.audio": importlib.metadata.version("pyannote.audio")}
        except importlib.metadata.PackageNotFoundError as e:
            raise of_the_full_set(*_ASKED) from e
        if pipeline is None:
            return Made("pyannote.audio+segmentation-3.0+ahc+pieces", (SEGMENTATION_WEIGHT,), library)
        folders = pyannote_pipeline.configured(pipeline).folders
        return Made(f"pyannote.audio+{Path(pipeline).name}", libraries=library, folders=folders)

    def diarize(self, audio: FloatArray, speech: Sequence[Segment]) -> list[Turn]:
        """Return the turns in audio [N] within `speech` (widened by the rule's margin), sorted by start.

        Turns of different speakers may overlap in time; such stretches are turns of their own with `overlap` true.
        """
        if not speech:
            return []
        found = self._pipeline(audio.astype(np.float32, copy=False))
        labels = sorted({label for _, _, label in found})
        if not labels:
            return []
        duration_s = len(audio) / AUDIO_HZ
        times_s = frame_times_s(round(duration_s / FRAME_STEP_S) + 1)
        talking = np.zeros((len(times_s), len(labels)), bool)
        for start_s, end_s, label in found:
            talking[(times_s >= start_s) & (times_s < end_s), labels.index(label)] = True
        if self._pieces is not None:
            talking = divided(talking, audio, *self._pieces)
        return drawn_turns(talking, speech, duration_s, self._rule)


def _parts() -> ModuleType:
    """Import pyannote with its usage reports off, and say what to do where it is missing."""
    try:
        return quiet_import.imported("annotators.speech.pyannote_parts")
    except (ImportError, OSError) as e:
        raise of_the_full_set(*_ASKED, e) from e
