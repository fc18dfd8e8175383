"""The TransNetV2 network: does a new shot begin after this frame, from pictures of 48x27 pixels.

After Soucek and Lokoc, "TransNet V2: An effective deep network architecture for fast shot transition detection"
(arXiv 2008.04838): three stacks of convolutions that are factored into a spatial and a temporal part, the temporal one
at four dilations, beside the likeness of each frame's features and colours to those of the 50 frames on either side.
7.6 M parameters. Module names follow the published weight file, so that it loads strictly.

Cost: about 410 million multiply-adds a frame. `Folded` is the same function with batch norm folded into the weights
and everything in two dimensions on channels-last memory: 0.4 s of CPU for 100 frames (0.5 s in onnxruntime).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEIGHT = 48, 27
_REACH = 50
"""Frames to either side that a frame is compared with."""
_DILATIONS = (1, 2, 4, 8)
_NORM_EPS = 1e-3
_BINS = 8  # of each colour channel


class Factored(nn.Module):
    """A spatial convolution without bias, then a temporal one with a dilation."""

    def __init__(self, width_in: int, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv3d(width_in, 2 * width, (1, 3, 3), padding=(0, 1, 1), bias=False),
                nn.Conv3d(2 * width, width, (3, 1, 1), padding=(dilation, 0, 0), dilation=(dilation, 1, 1), bias=False),
            ]
        )

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return the spatial and the temporal convolution's weights."""
        spatial, temporal = (p.detach() for p in self.parameters())
        return spatial, temporal

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in, T, H, W] to [B, width, T, H, W]."""
        for layer in self.layers:
            x = layer(x)
        return x


class Layer(nn.Module):
    """Four factored convolutions of different dilation side by side, and batch norm."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.Conv3D_1 = Factored(width_in, width, 1)
        self.Conv3D_2 = Factored(width_in, width, 2)
        self.Conv3D_4 = Factored(width_in, width, 4)
        self.Conv3D_8 = Factored(width_in, width, 8)
        self.bn = nn.BatchNorm3d(4 * width, eps=_NORM_EPS)

    def branches(self) -> list[Factored]:
        """Return the convolutions in order of dilation."""
        return [self.Conv3D_1, self.Conv3D_2, self.Conv3D_4, self.Conv3D_8]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in, T, H, W] to [B, 4 * width, T, H, W]."""
        normed: Tensor = self.bn(torch.cat([branch(x) for branch in self.branches()], dim=1))
        return normed


class Stack(nn.Module):
    """Two layers with a shortcut from the first to the end, then a quarter of the pixels."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList([Layer(width_in, width), Layer(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in, T, H, W] to [B, 4 * width, T, H / 2, W / 2]."""
        first = functional.relu(self.DDCNN[0](x))
        return functional.avg_pool3d(functional.relu(self.DDCNN[1](first)) + first, (1, 2, 2))


class Likeness(nn.Module):
    """What a frame's likeness to its neighbours says."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * _REACH + 1, 128)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map unit vectors [B, T, D] to [B, T, 128]."""
        return functional.relu(self.fc(band(vectors)))


class FeatureLikeness(Likeness):
    """Likeness by the features of all stacks."""

    def __init__(self, width_in: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width_in, 128)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map mean features [B, T, width_in] to [B, T, 128]."""
        return super().forward(functional.normalize(self.projection(vectors), dim=2))


class TransNetV2(nn.Module):
    """The whole network; `cls_layer2` marks all frames of a gradual change, `cls_layer1` its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.SDDCNN = nn.ModuleList([Stack(3, 16), Stack(64, 32), Stack(128, 64)])
        self.frame_sim_layer = FeatureLikeness(64 + 128 + 256)
        self.color_hist_layer = Likeness()
        self.fc1 = nn.Linear(256 * 3 * 6 + 128 + 128, 1024)
        self.cls_layer1 = nn.Linear(1024, 1)
        self.cls_layer2 = nn.Linear(1024, 1)

    def head(self, pictures: Tensor, means: Tensor, last: Tensor) -> Tensor:
        """Return two probabilities a frame [B, T, 2] from what the stacks found.

        Args:
            pictures: uint8 [B, T, 27, 48, 3], RGB.
            means: features of all stacks, mean over each picture [B, T, 448].
            last: features of the last stack [B, T, 3 * 6 * 256], rows first, channels last.
        """
        colours = self.color_hist_layer(_colour_histograms(pictures))
        x = torch.cat([colours, self.frame_sim_layer(means), last], dim=2)
        x = functional.relu(self.fc1(x))
        return torch.sigmoid(torch.cat([self.cls_layer1(x), self.cls_layer2(x)], dim=2))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return probabilities [B, T, 2] (a change's middle, any of its frames) of pictures uint8 [B, T, 27, 48, 3]."""
        x = pictures.permute(0, 4, 1, 2, 3).float() / 255
        means = []
        for stack in self.SDDCNN:
            x = stack(x)
            means.append(x.mean(dim=(3, 4)).transpose(1, 2))
        return self.head(pictures, torch.cat(means, dim=2), x.permute(0, 2, 3, 4, 1).flatten(2))


class Folded:
    """The network for inference on a CPU: norms folded, 2-d convolutions, channels-last memory throughout.

    With features kept as [B, T, H, W, C], a spatial convolution sees B * T pictures of H x W and a temporal one sees
    B pictures of T x (H * W): both are views of the same memory. Each dilation goes its own way as far as it can, to
    the quarter of the pixels in a second layer: parts of a larger tensor would be copied, and memory asked for in
    such large pieces is given back to the system, and cleared by it, each time.
    """

    def __init__(self, network: TransNetV2) -> None:
        self._network = network
        self._stacks = [[_fold(layer) for layer in stack.DDCNN] for stack in network.SDDCNN]  # type: ignore[union-attr]

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return probabilities [B, T, 2] of pictures uint8 [B, T, 27, 48, 3]."""
        batch, frames = pictures.shape[:2]
        x = pictures.flatten(0, 1).permute(0, 3, 1, 2).float() / 255  # channels-last as it lies
        means = []
        for first, second in self._stacks:
            x = torch.cat([branch(x, batch) for branch in first], dim=1)
            parts = zip(second, torch.chunk(x, len(second), dim=1), strict=True)
            x = torch.cat([functional.avg_pool2d(branch(x, batch).add_(part), 2) for branch, part in parts], dim=1)
            means.append(x.mean(dim=(2, 3)).reshape(batch, frames, -1))
        last = x.permute(0, 2, 3, 1).reshape(batch, frames, -1)
        return self._network.head(pictures, torch.cat(means, dim=2), last)


class _Branch(NamedTuple):
    """A factored convolution with its part of the norm, and the rectifier."""

    spatial: Tensor
    temporal: Tensor
    bias: Tensor
    dilation: int

    def __call__(self, x: Tensor, batch: int) -> Tensor:
        """Map [B * T, width_in, H, W] to [B * T, width, H, W]."""
        x = functional.conv2d(x, self.spatial, padding=1)
        count, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1).reshape(batch, count // batch, height * width, channels).permute(0, 3, 1, 2)
        d = self.dilation
        x = functional.conv2d(x, self.temporal, self.bias, padding=(d, 0), dilation=(d, 1)).relu_()
        return x.permute(0, 2, 3, 1).reshape(count, height, width, x.shape[1]).permute(0, 3, 1, 2)


def _fold(layer: Layer) -> list[_Branch]:
    """Return a layer's branches in order of dilation, with the norm in their temporal weights and biases."""
    norm = layer.bn
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    shift = (norm.bias - norm.running_mean * scale).detach()
    out = []
    for branch, s, b, d in zip(layer.branches(), scale.chunk(4), shift.chunk(4), _DILATIONS, strict=True):
        spatial, temporal = branch.weights()
        temporal = temporal.squeeze(-1) * s[:, None, None, None]
        out.append(_Branch(_channels_last(spatial.squeeze(2)), _channels_last(temporal), b, d))
    return out


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def band(vectors: Tensor) -> Tensor:
    """Return the products of each vector with its 50 neighbours on either side [B, T, 101]; 0 beyond the ends.

    `vectors` are [B, T, D]; column 50 is the vector with itself.
    """
    frames = vectors.shape[1]
    products = functional.pad(vectors @ vectors.transpose(1, 2), (_REACH, _REACH))
    index = torch.arange(frames)[:, None] + torch.arange(2 * _REACH + 1)[None, :]
    return products.gather(2, index.expand(len(vectors), -1, -1))


def _colour_histograms(pictures: Tensor) -> Tensor:
    """Return unit histograms [B, T, 512] of the pixels' colours in pictures uint8 [B, T, H, W, 3]."""
    coarse = (pictures >> 5).long()
    bins = (coarse[..., 0] * _BINS + coarse[..., 1]) * _BINS + coarse[..., 2]
    bins = bins.flatten(2)
    counts = torch.zeros(*bins.shape[:2], _BINS**3).scatter_add_(2, bins, torch.ones(bins.shape))
    return functional.normalize(counts, dim=2)
