"""The LR-ASD network: is this face speaking, from grey face crops and MFCC.

After Liao et al., "LR-ASD: Lightweight and Robust Network for Active Speaker Detection" (IJCV 2025): factored
spatial and temporal convolutions, gated fusion, one forward and one backward GRU. 0.84 M parameters. Module names
follow the published weight file, so that it loads strictly.

Cost: about 160 million multiply-adds a face frame, nearly all in the visual encoder, which `lr_asd_folded` runs in
another form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXEL_MEAN, PIXEL_STD = 0.4161, 0.1688  # of the grey training crops, on pixels scaled to [0, 1]
CONTEXT_FRAMES = 9  # each block sees 2 + 1 frames to each side, and there are three
AUDIO_FRAMES_PER_VIDEO_FRAME = 4
_NORM_EPS = 0.001
_WIDTHS = (1, 32, 64, 128)


class VisualBlock(nn.Module):
    """Two spatial and two temporal convolutions in series."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        half = width_out // 2
        self.s_1 = nn.Conv3d(width_in, half, (1, 5, 5), (1, stride, stride), (0, 2, 2), bias=False)
        self.s_norm_1 = nn.BatchNorm3d(half, eps=_NORM_EPS)
        self.s_2 = nn.Conv3d(half, width_out, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.s_norm_2 = nn.BatchNorm3d(width_out, eps=_NORM_EPS)
        self.t_1 = nn.Conv3d(width_out, width_out, (5, 1, 1), padding=(2, 0, 0), bias=False)
        self.t_norm_1 = nn.BatchNorm3d(width_out, eps=_NORM_EPS)
        self.t_2 = nn.Conv3d(width_out, width_out, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.t_norm_2 = nn.BatchNorm3d(width_out, eps=_NORM_EPS)

    def pairs(self) -> list[tuple[nn.Conv3d, nn.BatchNorm3d]]:
        """Return the convolutions with their norms in order of use."""
        return [
            (self.s_1, self.s_norm_1),
            (self.s_2, self.s_norm_2),
            (self.t_1, self.t_norm_1),
            (self.t_2, self.t_norm_2),
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in, T, H, W] to [B, width_out, T, H / stride, W / stride]."""
        for convolution, norm in self.pairs():
            x = functional.relu(norm(convolution(x)))
        return x


class VisualEncoder(nn.Module):
    """Grey crops to one vector a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = VisualBlock(_WIDTHS[0], _WIDTHS[1], stride=2)
        self.block2 = VisualBlock(_WIDTHS[1], _WIDTHS[2], stride=1)
        self.block3 = VisualBlock(_WIDTHS[2], _WIDTHS[3], stride=1)

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops [B, T, 112, 112] in 0..255 to features [B, T, 128]."""
        x = ((crops / 255 - PIXEL_MEAN) / PIXEL_STD).unsqueeze(1)
        x = functional.max_pool3d(self.block1(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = functional.max_pool3d(self.block2(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        features: Tensor = self.block3(x).amax(dim=(3, 4)).transpose(1, 2)
        return features


class AudioBlock(nn.Module):
    """Two convolutions over the coefficients and two over time."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        half = width_out // 2
        self.m_1 = nn.Conv2d(width_in, half, (5, 1), padding=(2, 0), bias=False)
        self.m_norm_1 = nn.BatchNorm2d(half, eps=_NORM_EPS)
        self.m_2 = nn.Conv2d(half, width_out, (3, 1), padding=(1, 0), bias=False)
        self.m_norm_2 = nn.BatchNorm2d(width_out, eps=_NORM_EPS)
        self.t_1 = nn.Conv2d(width_out, width_out, (1, 5), padding=(0, 2), bias=False)
        self.t_norm_1 = nn.BatchNorm2d(width_out, eps=_NORM_EPS)
        self.t_2 = nn.Conv2d(width_out, width_out, (1, 3), padding=(0, 1), bias=False)
        self.t_norm_2 = nn.BatchNorm2d(width_out, eps=_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in, 13, F] to [B, width_out, 13, F]."""
        x = functional.relu(self.m_norm_1(self.m_1(x)))
        x = functional.relu(self.m_norm_2(self.m_2(x)))
        x = functional.relu(self.t_norm_1(self.t_1(x)))
        return functional.relu(self.t_norm_2(self.t_2(x)))


class AudioEncoder(nn.Module):
    """MFCC to one vector a video frame."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = AudioBlock(_WIDTHS[0], _WIDTHS[1])
        self.block2 = AudioBlock(_WIDTHS[1], _WIDTHS[2])
        self.block3 = AudioBlock(_WIDTHS[2], _WIDTHS[3])

    def forward(self, mfcc: Tensor) -> Tensor:
        """Map MFCC [B, 4 * T, 13] to features [B, T, 128]."""
        x = mfcc.transpose(1, 2).unsqueeze(1)
        x = functional.max_pool2d(self.block1(x), (1, 3), (1, 2), (0, 1))
        x = functional.max_pool2d(self.block2(x), (1, 3), (1, 2), (0, 1))
        features: Tensor = self.block3(x).mean(dim=2).transpose(1, 2)
        return features


class Gate(nn.Module):
    """Channels weighed by a sigmoid of a 1x1 convolution of themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Conv1d(width, width, 1, bias=False)
        self.bn = nn.BatchNorm1d(width, eps=_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, T, width] to the same shape."""
        gate = torch.sigmoid(self.bn(self.attention(x.transpose(1, 2))))
        return x * gate.transpose(1, 2)


class Detector(nn.Module):
    """A forward and a backward GRU over the fused features."""

    def __init__(self) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(256, 64, batch_first=True)
        self.gru_backward = nn.GRU(256, 64, batch_first=True)
        self.attention = Gate(128)

    def forward(self, x: Tensor) -> Tensor:
        """Map fused features [B, T, 256] to [B, T, 128]."""
        ahead = self.gru_forward(x)[0]
        back = self.gru_backward(x.flip(1))[0].flip(1)
        gated: Tensor = self.attention(torch.cat((ahead, back), dim=2))
        return gated


class _Trunk(nn.Module):
    """The names below `model.` in the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.visualEncoder = VisualEncoder()
        self.audioEncoder = AudioEncoder()
        self.fusion = Gate(256)
        self.detector = Detector()


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.FC = nn.Linear(128, 2)


class LrAsd(nn.Module):
    """The whole network; `lossV` is the head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _Trunk()
        self.lossAV = _Head()
        self.lossV = _Head()

    def detect(self, audio_features: Tensor, visual_features: Tensor) -> Tensor:
        """Return scores [B, T] from the two encoders' features [B, T, 128] each; > 0 means speaking."""
        fused = self.model.fusion(torch.cat((audio_features, visual_features), dim=2))
        scores: Tensor = self.lossAV.FC(self.model.detector(fused))[..., 1]
        return scores

    def forward(self, crops: Tensor, mfcc: Tensor) -> Tensor:
        """Return scores [B, T] of crops [B, T, 112, 112] in 0..255 and MFCC [B, 4 * T, 13]."""
        return self.detect(self.model.audioEncoder(mfcc), self.model.visualEncoder(crops))
