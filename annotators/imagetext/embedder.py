"""What the stages ask of an embedder of pictures and words, and of what scores its vectors.

Costs nothing but a mean of a few vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from annotators.protocols import FloatArray, Image


class ImageTextEmbedder(Protocol):
    """Turns pictures and sentences into vectors of one space: what belongs together lies close together.

    `name` stands beside the vectors. It tells apart whatever gives other vectors, other weights included, so that two
    vectors may be compared if, and only if, their names are equal.
    """

    name: str
    weights: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """Length E of a vector."""
        ...

    def pictures(self, pictures: Sequence[Image]) -> FloatArray:
        """Return a vector of length 1 for each picture (RGB uint8, [H, W, 3], any size), [N, E]; [0, E] for none."""
        ...

    def texts(self, texts: Sequence[str]) -> FloatArray:
        """Return a vector of length 1 for each text, [N, E]; what is beyond the model's longest text is cut off."""
        ...


class VectorScorer(Protocol):
    """Gives vectors of pictures a score, such as how pleasing they are."""

    name: str
    weights: tuple[str, ...]

    def score(self, vectors: FloatArray) -> FloatArray:
        """Return the scores [N] of vectors [N, E] of length 1. Raises ValueError for vectors of another length E."""
        ...


def mean_direction(vectors: FloatArray) -> FloatArray:
    """Return the mean of vectors [N, E] at length 1, [E]; of vectors that cancel out, the first one.

    Raises ValueError where there is none.
    """
    if not len(vectors):
        raise ValueError("no picture was embedded, so there is no mean: the clip shows no frame")
    mean = vectors.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return np.asarray(mean / length if length > 1e-6 else vectors[0], np.float32)
