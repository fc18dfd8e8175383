"""CAM++ as onnxruntime computes it is CAM++ as torch has it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from annotators.speech.campplus import CamPlusPlus
from annotators.speech.campplus_folded import FoldedCamPlusPlus
from annotators.speech.onnx_graph import OnnxGraph


def norms(network: CamPlusPlus) -> Iterator[nn.BatchNorm1d | nn.BatchNorm2d]:
    return (m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))


@pytest.fixture(scope="module")
def network() -> CamPlusPlus:
    """Random weights, and norms of which some channels fall where others rise."""
    torch.manual_seed(0)
    network = CamPlusPlus().eval().requires_grad_(False)
    for norm in norms(network):
        norm.running_mean = torch.randn(norm.num_features) * 0.3
        norm.running_var = torch.rand(norm.num_features) + 0.5
        if norm.affine:
            norm.weight.copy_(torch.rand(norm.num_features) + 0.5)
            norm.weight[::7] *= -1
            norm.bias.copy_(torch.randn(norm.num_features) * 0.3)
    return network


@pytest.fixture(scope="module")
def folded(network: CamPlusPlus) -> FoldedCamPlusPlus:
    return FoldedCamPlusPlus(network)


@pytest.mark.parametrize("frames", [4, 11, 98, 199, 200, 201, 498])
def test_the_folded_network_equals_the_network_as_written(
    network: CamPlusPlus, folded: FoldedCamPlusPlus, frames: int
) -> None:
    features = torch.randn(2, frames, 80, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        plain = network(features).numpy()
    found = folded(features.numpy())
    assert found.shape == plain.shape == (2, 192)
    assert found.dtype == np.float32
    assert np.all(np.linalg.norm(found - plain, axis=1) <= 1e-5 * np.linalg.norm(plain, axis=1))


def test_a_norm_of_zero_is_refused() -> None:
    network = CamPlusPlus().eval().requires_grad_(False)
    list(norms(network))[-3].weight[0] = 0.0
    with pytest.raises(ValueError, match="zero"):
        FoldedCamPlusPlus(network)


def test_a_written_graph_is_valid_onnx() -> None:
    graph = OnnxGraph()
    x = graph.input("x", ("B", 2, "T"))
    y = graph.node("Conv", x, graph.constant(np.ones((1, 2, 3), np.float32)), pads=(1, 1))
    y = graph.node("Concat", graph.node("Reshape", y, graph.constant(np.array([0, 1, -1]))), y, axis=1)
    file = graph.file(y, ("B", 2, "T"))
    onnx.checker.check_model(file, full_check=True)
    assert file == graph.file(y, ("B", 2, "T"))
