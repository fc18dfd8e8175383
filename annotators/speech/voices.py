"""Voice embeddings: a clip of speech as a vector of length one, alike for one speaker whatever is said.

Back-end: CAM++ (Chinese and English, 200 k speakers). Cosine similarities measured on stretches of 3-8 s: one
speaker 0.74-0.99 (the least by telephone), two speakers below 0.1 in wideband and 0.32-0.44 in one telephone call.
Clips below about 1 s are unreliable. Cost: about 1/150 of real time on one core, 0.2 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from annotators.models import weights
from annotators.protocols_speech import FloatArray
from schemas.time import AUDIO_HZ

CAMPPLUS_WEIGHT = "campplus_cn_en_common.pt"
EMBEDDING_SIZE = 192
FRAME_SAMPLES, HOP_SAMPLES = 400, 160  # of the filter banks: 25 ms every 10 ms
MIN_CLIP_SAMPLES = FRAME_SAMPLES + 9 * HOP_SAMPLES  # 0.115 s: the network needs a few frames to pool over
_MAX_CLIP_S = 20.0


class CamPlusPlusEmbedder:
    """CAM++, 192 numbers."""

    name = "campplus-cn-en-common"
    weights = (CAMPPLUS_WEIGHT,)
    dimension = EMBEDDING_SIZE

    def __init__(self, path: Path | None = None) -> None:
        """Load the weights from `path`, or through the weights resolver."""
        import torch  # here and below: where no model is loaded it is not needed

        from annotators.speech.campplus import CamPlusPlus
        from annotators.speech.campplus_folded import FoldedCamPlusPlus

        state = torch.load(path or weights.resolve(CAMPPLUS_WEIGHT), map_location="cpu", weights_only=True)
        network = CamPlusPlus()
        network.load_state_dict(state, strict=True)
        self._network = FoldedCamPlusPlus(network.eval())

    def embed(self, clips: Sequence[FloatArray]) -> FloatArray:
        """Return unit-length embeddings [len(clips), 192] of clips [N_i] of speech, N_i >= 1840.

        Clips run one by one: together they would cost as much. Of a clip above 20 s the middle 20 s are used, which
        bounds memory; give several clips and average their embeddings to cover more. Raises ValueError for a clip that
        is too short.
        """
        for index, clip in enumerate(clips):
            if clip.ndim != 1 or len(clip) < MIN_CLIP_SAMPLES:
                raise ValueError(
                    f"clip {index} has shape {clip.shape}: a voice needs at least {MIN_CLIP_SAMPLES} samples"
                )
        result = np.zeros((len(clips), EMBEDDING_SIZE), np.float32)
        for index, clip in enumerate(clips):
            result[index] = self._run(_middle(clip))
        return result

    def _run(self, clip: FloatArray) -> FloatArray:
        import torch

        from annotators.speech.campplus import filter_banks

        with torch.inference_mode():
            features = filter_banks(torch.from_numpy(clip.astype(np.float32))[None])
        voice = self._network(features.numpy())[0]
        unit: FloatArray = voice / max(float(np.linalg.norm(voice)), 1e-12)
        return unit


def cosine_similarity(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the cosine similarities [A, B] in [-1, 1] of embeddings [A, D] and [B, D], none of them zero."""
    a = first / np.linalg.norm(first, axis=1, keepdims=True)
    b = second / np.linalg.norm(second, axis=1, keepdims=True)
    similarity: FloatArray = np.clip(a @ b.T, -1.0, 1.0).astype(np.float32)
    return similarity


def _middle(clip: FloatArray) -> FloatArray:
    longest = int(_MAX_CLIP_S * AUDIO_HZ)
    start = max(0, (len(clip) - longest) // 2)
    return clip[start : start + longest]
