"""The network of speaker segmentation: learned band-pass filters, four LSTM layers, two linear ones, seven classes.

As pyannote's segmentation-3.0 has it (see `speaker_segmentation`); names follow the weight file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from annotators.speech.speaker_segmentation import POWERSET
from schemas.time import AUDIO_HZ

_FILTERS, _FILTER_SAMPLES, _STRIDE = 80, 251, 10
_MIN_LOW_HZ, _MIN_BAND_HZ = 50.0, 50.0


class _BandFilters(nn.Module):
    """The parameters of 40 band-pass filters: edges as learned, and the constants that the file keeps beside them."""

    low_hz_: Tensor
    band_hz_: Tensor
    window_: Tensor
    n_: Tensor

    def __init__(self) -> None:
        super().__init__()
        half = _FILTER_SAMPLES // 2
        self.low_hz_ = nn.Parameter(torch.zeros(_FILTERS // 2, 1))
        self.band_hz_ = nn.Parameter(torch.zeros(_FILTERS // 2, 1))
        self.register_buffer("window_", torch.zeros(half))
        self.register_buffer("n_", torch.zeros(1, half))

    def filters(self) -> Tensor:
        """Return cosine and sine filters [80, 1, 251]: windowed differences of two low-pass filters, gain one."""
        low = _MIN_LOW_HZ + self.low_hz_.abs()
        high = (low + _MIN_BAND_HZ + self.band_hz_.abs()).clamp(_MIN_LOW_HZ, AUDIO_HZ / 2)
        band = high - low
        at_low, at_high = low @ self.n_, high @ self.n_
        even = (at_high.sin() - at_low.sin()) / (self.n_ / 2) * self.window_
        odd = (at_low.cos() - at_high.cos()) / (self.n_ / 2) * self.window_
        cosine = torch.cat((even, 2 * band, even.flip(1)), dim=1)
        sine = torch.cat((odd, torch.zeros_like(band), -odd.flip(1)), dim=1)
        return (torch.cat((cosine, sine)) / (2 * band).repeat(2, 1)).unsqueeze(1)


class _FilterLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filterbank = _BandFilters()

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv1d(x, self.filterbank.filters(), stride=_STRIDE).abs()


class _SincNet(nn.Module):
    """Samples [B, 1, N] to features [B, 60, F]."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList([_FilterLayer(), nn.Conv1d(_FILTERS, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(width, affine=True) for width in (_FILTERS, 60, 60)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.wav_norm1d(x)
        for convolution, norm in zip(self.conv1d, self.norm1d, strict=True):
            x = functional.leaky_relu(norm(functional.max_pool1d(convolution(x), 3)))
        return x


class SegmentationNet(nn.Module):
    """Samples [B, N] to log probabilities [B, F, 7] of the speaker sets in `POWERSET`."""

    def __init__(self) -> None:
        super().__init__()
        self.sincnet = _SincNet()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, len(POWERSET))

    def forward(self, audio: Tensor) -> Tensor:
        """Return log probabilities [B, F, 7] of audio [B, N]."""
        x = self.lstm(self.sincnet(audio.unsqueeze(1)).transpose(1, 2))[0]
        for layer in self.linear:
            x = functional.leaky_relu(layer(x))
        return functional.log_softmax(self.classifier(x), dim=-1)
