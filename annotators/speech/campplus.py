"""The CAM++ network and its input: filter banks in, one 192-d vector of a voice out.

After Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking"
(Interspeech 2023): a small 2-d convolutional head, a densely connected time-delay network whose layers are masked
by their context, mean and deviation over time. 6.8 M parameters; names follow the published weight file. The
filter banks are Kaldi's (povey window, 25 ms every 10 ms, 80 mel bins), which the network was trained on.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from annotators.sound.mel_filters import mel_filters
from annotators.speech.voices import EMBEDDING_SIZE, FRAME_SAMPLES, HOP_SAMPLES
from schemas.time import AUDIO_HZ

MEL_BINS = 80
_FFT_SIZE = 512
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_GROWTH, _BOTTLENECK = 32, 128
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation
CONTEXT_FRAMES = 100


@cache
def _filters() -> Tensor:
    """Return Kaldi's filters [257, 80]."""
    return torch.from_numpy(mel_filters(MEL_BINS, _LOWEST_HZ, AUDIO_HZ / 2, _FFT_SIZE).astype(np.float32))


def filter_banks(audio: Tensor) -> Tensor:
    """Return log mel energies [B, F, 80] of audio [B, N] in [-1, 1], their mean over time taken away.

    F = 1 + (N - 400) // 160: frames lie wholly inside the audio. Raises ValueError below one frame.
    """
    if audio.shape[-1] < FRAME_SAMPLES:
        raise ValueError(f"a voice needs at least {FRAME_SAMPLES} samples, got {audio.shape[-1]}")
    frames = audio.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    before = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
    window = torch.hann_window(FRAME_SAMPLES, periodic=False).pow(0.85)
    power = torch.fft.rfft((frames - _PREEMPHASIS * before) * window, _FFT_SIZE).abs().square()
    energies = (power @ _filters()).clamp_min(torch.finfo(torch.float32).eps).log()
    centred: Tensor = energies - energies.mean(dim=-2, keepdim=True)
    return centred


def _norm_relu(width: int, affine: bool = True, relu: bool = True) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(batchnorm=nn.BatchNorm1d(width, affine=affine))
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, over [B, 32, mel, frames]; may halve the mel axis."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(width, width, 1, (stride, 1), bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class _Head(nn.Module):
    """Filter banks [B, 80, F] to [B, 320, F] by convolutions that divide the mel axis by eight."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(_Residual(width, 2), _Residual(width, 1))
        self.layer2 = nn.Sequential(_Residual(width, 2), _Residual(width, 1))
        self.conv2 = nn.Conv2d(width, width, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        x = functional.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class _ContextMasked(nn.Module):
    """A convolution whose channels are masked by the mean of the whole clip and of each 100 frames."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(_BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[-1]
        pooled = functional.avg_pool1d(x, CONTEXT_FRAMES, CONTEXT_FRAMES, ceil_mode=True)
        near = pooled.repeat_interleave(CONTEXT_FRAMES, dim=-1)[..., :frames]
        context = functional.relu(self.linear1(x.mean(-1, keepdim=True) + near))
        mask = torch.sigmoid(self.linear2(context))
        return torch.mul(self.linear_local(x), mask)


class _DenseLayer(nn.Module):
    def __init__(self, width_in: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm_relu(width_in)
        self.linear1 = nn.Conv1d(width_in, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm_relu(_BOTTLENECK)
        self.cam_layer = _ContextMasked(dilation)

    def forward(self, x: Tensor) -> Tensor:
        new = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat((x, new), dim=1)


class _Transit(nn.Module):
    def __init__(self, width_in: int) -> None:
        super().__init__()
        self.nonlinear = _norm_relu(width_in)
        self.linear = nn.Conv1d(width_in, width_in // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.nonlinear(x))
        return out


class _Entry(nn.Module):
    """The first time-delay layer, which halves the frame rate."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(width_in, width_out, 5, 2, 2, bias=False)
        self.nonlinear = _norm_relu(width_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlinear(self.linear(x))
        return out


class _Statistics(nn.Module):
    """Mean and standard deviation over time: [B, C, F] to [B, 2 * C]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.mean(-1), x.std(-1, unbiased=True)), dim=1)


class _Projection(nn.Module):
    def __init__(self, width_in: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(width_in, EMBEDDING_SIZE, 1, bias=False)
        self.nonlinear = _norm_relu(EMBEDDING_SIZE, affine=False, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlinear(self.linear(x.unsqueeze(-1)).squeeze(-1))
        return out


class CamPlusPlus(nn.Module):
    """Filter banks [B, F, 80] (F >= 4) to embeddings [B, 192], not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        width = 128
        layers: OrderedDict[str, nn.Module] = OrderedDict(tdnn=_Entry(320, width))
        for number, (depth, dilation) in enumerate(_BLOCKS, start=1):
            block = [(f"tdnnd{i + 1}", _DenseLayer(width + i * _GROWTH, dilation)) for i in range(depth)]
            layers[f"block{number}"] = nn.Sequential(OrderedDict(block))
            width += depth * _GROWTH
            layers[f"transit{number}"] = _Transit(width)
            width //= 2
        layers["out_nonlinear"] = _norm_relu(width)
        layers["stats"] = _Statistics()
        layers["dense"] = _Projection(2 * width)
        self.xvector = nn.Sequential(layers)

    def forward(self, features: Tensor) -> Tensor:
        """Return the embeddings [B, 192] of filter banks [B, F, 80]."""
        embeddings: Tensor = self.xvector(self.head(features.transpose(1, 2)))
        return embeddings
