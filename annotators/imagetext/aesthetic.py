"""How pleasing a picture is, by a small head over its CLIP vector: a file of your own.

Reads the state dictionaries of LAION's published heads as they are: one linear layer (`weight`, `bias`), and the
five-layer ones (`layers.0.weight`, ...), without activations or, where the layers' numbers leave room for them, with
ReLU between the layers. A head belongs to the CLIP model whose vectors it was trained on. Costs microseconds.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from annotators.models import weights
from annotators.models.weights import WeightsMismatch
from annotators.parts import Made
from annotators.protocols import FloatArray

_PLAIN = (0, 2, 4, 6, 7)
_RELU = (0, 3, 6, 9, 11)
"""Places of the five linear layers among dropout, and among ReLU and dropout."""


class AestheticHead:
    """A head: `model` is its file, by path or by name in OPENLPM_MODELS."""

    def __init__(self, model: str) -> None:
        """Read it. Raises WeightsNotFound, and WeightsMismatch for a file that is no such head."""
        self._file = weights.locate(model)
        self.name, self.weights = self.made_of(model).name, (str(self._file),)
        self._layers, self._relu = _layers(self._file)

    @classmethod
    def made_of(cls, model: str) -> Made:
        """Name the file. Raises WeightsNotFound."""
        file = weights.locate(model)
        return Made(f"aesthetic:{file.stem}", (str(file),), private=("model",))

    def score(self, vectors: FloatArray) -> FloatArray:
        """Return the scores [N] of vectors [N, E]. Raises ValueError for vectors of another length."""
        wanted = self._layers[0][0].shape[1]
        if vectors.shape[1] != wanted:
            raise ValueError(
                f"{self._file.name} scores vectors of {wanted} numbers, and these have {vectors.shape[1]}: name the "
                "head that was trained on this CLIP model's vectors"
            )
        out = vectors.astype(np.float32)
        for i, (weight, bias) in enumerate(self._layers):
            out = (np.maximum(out, 0.0) if self._relu and i else out) @ weight.T + bias
        return np.asarray(out[:, 0], np.float32)


def _layers(file: Path) -> tuple[list[tuple[FloatArray, FloatArray]], bool]:
    """Return weight [out, in] and bias [out] of each layer, and whether ReLU stands between them."""
    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        arrays = {name: np.asarray(value.numpy(), np.float32) for name, value in state.items()}
    except Exception as e:  # a file that is something else may raise anything
        raise WeightsMismatch(f"{file} is no state dictionary that torch can load: name a head's .pth file") from e
    if arrays.keys() == {"weight", "bias"}:
        found, relu = [(arrays["weight"], arrays["bias"])], False
    else:
        places = tuple(
            sorted({int(p) for name in arrays if (p := name.split(".")[1:2] and name.split(".")[1]).isdigit()})
        )
        if places not in (_PLAIN, _RELU):
            raise _no_head(file, arrays)
        try:
            found = [(arrays[f"layers.{p}.weight"], arrays[f"layers.{p}.bias"]) for p in places]
        except KeyError as e:
            raise _no_head(file, arrays) from e
        relu = places == _RELU
    sizes = [weight.shape for weight, _ in found]
    fits = all(len(s) == 2 for s in sizes) and all(a[0] == b[1] for a, b in itertools.pairwise(sizes))
    if not fits or sizes[-1][0] != 1 or any(bias.shape != weight.shape[:1] for weight, bias in found):
        raise _no_head(file, arrays)
    return found, relu


def _no_head(file: Path, arrays: dict[str, Any]) -> WeightsMismatch:
    held = ", ".join(sorted(arrays)[:4]) or "nothing"
    return WeightsMismatch(f"{file} is no head that gives one score (it holds {held}): name one of LAION's form")
