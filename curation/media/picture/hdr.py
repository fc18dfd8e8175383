"""Bring HDR pictures (PQ and HLG, BT.2020) to SDR BT.709, as a display of SDR shows them.

Light in nits comes from the signal by SMPTE ST 2084 (PQ; constants as in ITU-R BT.2100-2 table 4), or by the inverse
OETF and OOTF of HLG at 1000 nits (BT.2100-2 table 5: system gamma 1.2). BT.2020's primaries become BT.709's by the
matrix of BT.2087-0 (its inverse), colours outside BT.709 are clipped. The tone curve is the EETF of BT.2390-8 section
5.4.1, from a display of 1000 nits to one of 203, which is where BT.2408-4 puts the white of SDR; below 95 nits it
changes nothing. SDR's signal is light to the power 1/2.4 (BT.1886). All are tables but the matrices: 4 to 6 ms a
640x360 picture on one core.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

PQ, HLG = 16, 18
"""AVCOL_TRC_*: SMPTE ST 2084 and ARIB STD-B67, whose signals are HDR."""

BT709 = 1
"""AVCOL_PRI_BT709: the one set of primaries that needs no matrix; HDR of unstated primaries is BT.2020."""

TRANSFER_NAMES = {PQ: "PQ", HLG: "HLG"}

_PEAK_NITS = 1000.0
_WHITE_NITS = 203.0
_HLG_GAMMA = 1.2
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32

_LUMA_2020: F32 = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
_LUMA_709: F32 = np.array([[0.2126, 0.7152, 0.0722]], np.float32)
_TO_709: F32 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_STEPS = 65535


def is_hdr(transfer: int) -> bool:
    """Say whether a transfer characteristic (AVCOL_TRC_*) is one of HDR."""
    return transfer in TRANSFER_NAMES


def sdr_rgb(rgb: U16, transfer: int, primaries: int) -> U8:
    """Return a full-range 16-bit HDR signal [H, W, 3] as SDR BT.709, uint8 [H, W, 3]."""
    light = _light_of(transfer)[rgb]  # parts of the peak
    if transfer == HLG:
        luma = np.maximum(cv2.transform(light, _LUMA_2020), 0)
        light = light * cv2.pow(luma, _HLG_GAMMA - 1)[..., None]
    if primaries != BT709:
        light = cv2.transform(light, _TO_709)
    # The root spreads the dark over more of the table's steps; what lies outside 0..1 saturates.
    index = cv2.sqrt(np.clip(light, 0, 1)) * _STEPS + 0.5
    return np.asarray(_signal_of_root()[index.astype(np.uint16)], dtype=np.uint8)


def luma_of(rgb: U8) -> U8:
    """Return the luma [H, W] of a BT.709 picture [H, W, 3], 0..255."""
    return np.asarray(cv2.transform(rgb, _LUMA_709), dtype=np.uint8).reshape(rgb.shape[:2])


@cache
def _light_of(transfer: int) -> F32:
    """Return light as a part of the peak for every 16-bit signal: of the display for PQ, of the scene for HLG."""
    signal = np.arange(_STEPS + 1) / _STEPS
    if transfer == PQ:
        return np.minimum(_pq_nits(signal) / _PEAK_NITS, 1).astype(np.float32)
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@cache
def _signal_of_root() -> U8:
    """Return the 8-bit SDR signal for the root of light as a part of the peak, in 65536 steps."""
    nits = (np.arange(_STEPS + 1) / _STEPS) ** 2 * _PEAK_NITS
    shown = np.clip(_toned(nits) / _WHITE_NITS, 0, 1)
    return np.rint(255 * shown ** (1 / 2.4)).astype(np.uint8)


def _toned(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a display of SDR's white shows for light up to the peak: EETF of BT.2390, black at 0."""
    peak = _pq_signal(np.array(_PEAK_NITS))
    e = _pq_signal(nits) / peak
    top = _pq_signal(np.array(_WHITE_NITS)) / peak
    knee = 1.5 * top - 0.5
    t = np.maximum(e - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * top
    )  # fmt: skip
    return _pq_nits(np.where(e < knee, e, spline) * peak)


def _pq_nits(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    root = signal ** (1 / _M2)
    return np.asarray(10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1))


def _pq_signal(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    power = (nits / 10_000) ** _M1
    return np.asarray(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)
