"""Aesthetic heads in the forms in which LAION published them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from annotators.imagetext.aesthetic import AestheticHead
from annotators.imagetext.embedder import mean_direction
from annotators.models.weights import WeightsMismatch, WeightsNotFound

E = 6


def _write(network: torch.nn.Module, path: Path) -> AestheticHead:
    torch.save(network.state_dict(), path)
    return AestheticHead(str(path))


class _Head(torch.nn.Module):
    """Five layers with dropout between them, and ReLU where it is asked for: the published heads' places."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        sizes, parts = (E, 8, 7, 5, 4, 1), []
        for n, (a, b) in enumerate(itertools.pairwise(sizes)):
            parts.append(torch.nn.Linear(a, b))
            parts += [torch.nn.ReLU()] * (relu and n < 4) + [torch.nn.Dropout(0.2)] * (n < 3)
        self.layers = torch.nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


@pytest.mark.parametrize("kind", ["linear", "layers", "relu"])
def test_scores_are_those_of_the_network_that_was_saved(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: torch.nn.Module = torch.nn.Linear(E, 1) if kind == "linear" else _Head(kind == "relu")
    head = _write(network, tmp_path / "head.pth")
    vectors = np.random.default_rng(0).standard_normal((9, E)).astype(np.float32)
    with torch.inference_mode():
        wanted = network.eval()(torch.from_numpy(vectors))[:, 0].numpy()
    np.testing.assert_allclose(head.score(vectors), wanted, atol=1e-5)
    assert head.score(vectors[:0]).shape == (0,) and head.name == "aesthetic:head"
    with pytest.raises(ValueError, match=r"head\.pth scores vectors of 6 numbers, and these have 5"):
        head.score(vectors[:, :5])


def test_another_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    torch.save(torch.nn.Linear(E, 3).state_dict(), tmp_path / "three.pth")
    torch.save(torch.nn.Sequential(torch.nn.Linear(E, 1)).state_dict(), tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, said in {
        "text.pth": "is no state dictionary that torch can load",
        "list.pth": "is no state dictionary that torch can load",
        "three.pth": "is no head that gives one score (it holds bias, weight)",
        "other.pth": "is no head that gives one score (it holds 0.bias, 0.weight)",
    }.items():
        with pytest.raises(WeightsMismatch, match=re.escape(said)):
            AestheticHead(str(tmp_path / name))
    with pytest.raises(WeightsNotFound, match=r"no model file 'nowhere\.pth'"):
        AestheticHead("nowhere.pth")


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-1, 1, width=32)))
def test_a_mean_direction_is_of_length_one(values: np.ndarray) -> None:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.where(lengths > 1e-3, values / np.maximum(lengths, 1e-3), np.eye(4, dtype=np.float32)[:1])
    mean = mean_direction(unit.astype(np.float32))
    assert mean.shape == (4,) and np.linalg.norm(mean) == pytest.approx(1.0, abs=1e-3)


def test_of_opposite_vectors_the_first_stands_and_of_none_nothing() -> None:
    pair = np.array([[1, 0], [-1, 0]], np.float32)
    assert mean_direction(pair).tolist() == [1, 0]
    with pytest.raises(ValueError, match="the clip shows no frame"):
        mean_direction(pair[:0])
