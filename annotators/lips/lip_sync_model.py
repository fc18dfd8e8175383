"""Lip-audio sync, learned: how much more likely are these lips under this sound than under somebody else's.

Two linear towers, fitted by canonical correlation analysis on talkers in sync (`lip_sync_training`): a few frames of
sound features, and the shape of the lips, each to a dozen numbers a frame whose pairs correlate in people never seen.
Under the Gaussian model of it (Bach & Jordan, "A probabilistic interpretation of canonical correlation analysis",
2005) the log likelihood ratio of "these belong together" is a sum over frames, which makes a score for a stretch of any
length, at any lag. Positive offset: the sound comes late, after the lips. Cost: `sync_audio`, and
0.1 ms a face frame; memory 15 MB an hour of face (the evidence over lags) beside one-minute blocks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
import scipy

from annotators.lips.lip_shape import LIP_NUMBERS
from annotators.lips.lip_signals import (
    MIN_FRAMES,
    SAMPLES_PER_FRAME,
    articulation_filter,
    check_sync_lengths,
    fill_gaps,
)
from annotators.lips.sync_audio import WHISPER_WEIGHT, MelSyncAudio, SyncAudio, WhisperSyncAudio
from annotators.models import weights
from annotators.parts import Made
from annotators.protocols_speech import BoolArray, ByteArray, FloatArray, SyncMeasure
from schemas.time import GRID_HZ

MODEL_FILE = "lip_sync.npz"
MAX_LAG_FRAMES = 15  # 0.6 s, as far as SyncNet's evaluation searches
BLOCK_FRAMES = 60 * GRID_HZ
LAGS = np.arange(-MAX_LAG_FRAMES, MAX_LAG_FRAMES + 1)
_SMALLEST_STD = 1e-6
_CLIP = 4.0  # standard deviations: a landmark that jumped must not decide a minute


@dataclass(frozen=True)
class SyncTowers:
    """One fitted model.

    Attributes:
        audio: [taps, D, k], over frames t - taps // 2 .. t + taps // 2.
        lips: [80, k].
        correlation: [k] canonical correlations, as found in people held out.
        per_frame: slope and offset that make one frame's log likelihood ratio calibrated log-odds.
        own_voice: weights of summed evidence at the best lag, of the number of frames and of one, for the log-odds
            that the voice is the face's own.
    """

    audio: FloatArray
    lips: FloatArray
    correlation: FloatArray
    per_frame: tuple[float, float]
    own_voice: tuple[float, float, float]


@dataclass(frozen=True)
class SyncTrace:
    """Evidence over time: `log_odds` [T, 31] over `LAGS`, 0 where unknown; `known` [T]; `product` [T, 31].

    `log_odds` are calibrated (natural logarithm, prior 1:1) and independent enough to be summed over frames.
    `product` is the correlation-weighted product of both towers: its mean is the correlation at that lag.
    """

    log_odds: FloatArray
    product: FloatArray
    known: BoolArray


class LearnedLipSync:
    """Canonical correlation of lip shapes with sound features."""

    def __init__(self, towers: SyncTowers, audio: SyncAudio) -> None:
        self._towers, self._audio = towers, audio
        made = self.made_of("mel" if audio.name == "mel" else "whisper-base")
        self.name, self.weights = f"lip-sync-cca-{audio.name}", made.weights

    @classmethod
    def made_of(cls, audio: Literal["whisper-base", "mel"]) -> Made:
        """Name the back-end and its files."""
        return Made(f"lip-sync-cca-{audio}", (*((WHISPER_WEIGHT,) if audio == "whisper-base" else ()), MODEL_FILE))

    @classmethod
    def in_use(cls, audio: Literal["whisper-base", "mel"]) -> Self:
        """Load the model in use for a kind of sound feature. Raises WeightsNotFound for Whisper's without its weights.

        Raises ValueError where the model was not fitted on such features.
        """
        towers = load_towers(model_path())
        if audio not in towers:
            raise ValueError(f"{model_path()} holds no {audio} model: train it again with `lpm models train-sync`")
        return cls(towers[audio], WhisperSyncAudio() if audio == "whisper-base" else MelSyncAudio())

    def trace(self, audio: FloatArray, lips: FloatArray, before: int = 0, after: int = 0) -> SyncTrace:
        """Return the evidence of lips [T, 80] (`lip_shape`, nan = unknown) against sound [(T + before + after) * 640].

        `before` and `after` are frames of sound beyond the lips on either side, so that a block's edge can be compared
        at every lag. Pairs without sound count as unknown at that lag. Give blocks of at most about a minute
        and at least a second: mean and scale of both sides are taken over the block.
        Raises ValueError where lengths do not agree or T is below 25.
        """
        frames = len(lips)
        if lips.ndim != 2 or lips.shape[1] != LIP_NUMBERS or frames < MIN_FRAMES:
            raise ValueError(f"lip sync needs lip shapes [T >= {MIN_FRAMES}, {LIP_NUMBERS}], got {lips.shape}")
        if abs(len(audio) - (frames + before + after) * SAMPLES_PER_FRAME) > SAMPLES_PER_FRAME:
            raise ValueError(f"{frames + before + after} frames of sound wanted, got {len(audio)} samples")
        known: BoolArray = np.asarray(np.isfinite(lips).all(axis=1), np.bool_)
        heard_frames = frames + before + after
        padded = np.pad(audio, (0, max(0, heard_frames * SAMPLES_PER_FRAME - len(audio))))
        empty = np.zeros((frames, len(LAGS)), np.float32)
        if known.sum() < MIN_FRAMES or not np.any(padded):
            return SyncTrace(empty, empty, np.zeros(frames, bool))
        heard = heard_features(self._audio(padded)[:heard_frames], self._towers.audio)
        seen = seen_features(lips, self._towers.lips)
        return self._compare(heard, seen, known, before)

    def _compare(self, heard: FloatArray, seen: FloatArray, known: BoolArray, before: int) -> SyncTrace:
        frames, r = len(seen), self._towers.correlation
        slope, offset = self._towers.per_frame
        odds, product = (np.zeros((frames, len(LAGS)), np.float32) for _ in range(2))
        for column, lag in enumerate(LAGS):
            at = np.arange(frames) + before + lag
            use = known & (at >= 0) & (at < len(heard))
            u, v = heard[at[use]], seen[use]
            odds[use, column] = slope * log_likelihood_ratio(u, v, r) + offset
            product[use, column] = (u * v) @ r / r.sum()
        return SyncTrace(odds, product, known)

    def measure(
        self,
        audio: FloatArray,
        mouth_opening: FloatArray,
        crops: ByteArray | None = None,
        lips: FloatArray | None = None,
    ) -> SyncMeasure:
        """Return the offset of audio [T * 640] against lips [T, 80]; frames whose mouth opening is nan do not count.

        Works in blocks of a minute. All nan without lips or usable signal. Raises ValueError where lengths do not agree
        or below 2.2 s.
        """
        frames = len(mouth_opening)
        if lips is None:
            raise ValueError("the learned lip sync reads lip shapes: give lips [T, 80] (annotators.lips.lip_shape)")
        if len(lips) != frames:
            raise ValueError(f"{frames} frames need as many lip shapes, got {len(lips)}")
        check_sync_lengths(audio, frames, MAX_LAG_FRAMES)
        parts = []
        for start, end in blocks(frames):
            before, after = min(start, MAX_LAG_FRAMES), min(frames - end, MAX_LAG_FRAMES)
            sound = audio[(start - before) * SAMPLES_PER_FRAME : (end + after) * SAMPLES_PER_FRAME]
            parts.append(self.trace(sound, lips[start:end], before, after))
        return self.summary(joined(parts), np.isfinite(mouth_opening))

    def summary(self, trace: SyncTrace, use: BoolArray | None = None) -> SyncMeasure:
        """Return offset, confidence and own-voice probability over the frames of `use` [T] (default: all known).

        Confidence is the maximum minus the median over lags of the mean log-odds a frame (nats).
        """
        counted = trace.known if use is None else trace.known & use
        # The ends of a track lack sound at some lags: a lag is judged on frames that have it at every lag.
        counted = counted & (trace.log_odds != 0).all(axis=1)
        lags_ms = (LAGS * 1000 / GRID_HZ).astype(np.float32)
        frames = int(counted.sum())
        if frames < MIN_FRAMES:
            return SyncMeasure(np.nan, np.nan, np.nan, lags_ms, np.full(len(LAGS), np.nan, np.float32))
        curve = trace.log_odds[counted].mean(axis=0, dtype=np.float64)
        best = int(np.argmax(curve))
        a, b, c = self._towers.own_voice
        odds = a * curve[best] * frames + b * frames + c
        return SyncMeasure(
            offset_ms=(float(LAGS[best]) + _parabola_offset(curve, best)) * 1000 / GRID_HZ,
            confidence=float(curve[best] - np.median(curve)),
            correlation=float(trace.product[counted, best].mean()),
            lags_ms=lags_ms,
            curve=curve.astype(np.float32),
            own_voice=float(1 / (1 + np.exp(-np.clip(odds, -50, 50)))),
        )


def lag_index(offset_ms: float) -> int:
    """Return the column of a trace that is nearest to an offset."""
    return int(np.clip(round(offset_ms * GRID_HZ / 1000), -MAX_LAG_FRAMES, MAX_LAG_FRAMES)) + MAX_LAG_FRAMES


def blocks(frames: int) -> list[tuple[int, int]]:
    """Return [start, end) of blocks of about a minute, none shorter than half of it unless it is the only one."""
    number = max(1, round(frames / BLOCK_FRAMES))
    edges = np.linspace(0, frames, number + 1).round().astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def joined(parts: list[SyncTrace]) -> SyncTrace:
    """Return the traces of adjacent blocks as one."""
    return SyncTrace(
        np.concatenate([p.log_odds for p in parts]),
        np.concatenate([p.product for p in parts]),
        np.concatenate([p.known for p in parts]),
    )


def standardised(x: FloatArray) -> FloatArray:
    """Return x [T, D] with mean 0 and deviation 1 in each column, clipped at 4; columns without change become 0."""
    std = x.std(axis=0)
    scaled = (x - x.mean(axis=0)) / np.where(std > _SMALLEST_STD, std, np.inf)
    out: FloatArray = np.clip(scaled, -_CLIP, _CLIP).astype(np.float32)
    return out


def with_context(x: FloatArray, taps: int) -> FloatArray:
    """Return [T, taps, D]: each frame with its neighbours, the ends repeated."""
    reach = taps // 2
    padded = np.pad(x, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([padded[i : i + len(x)] for i in range(taps)], axis=1)


def heard_features(features: FloatArray, tower: FloatArray) -> FloatArray:
    """Return the audio tower's output [T, k], standardised, of features [T, D]."""
    x, taps = standardised(features), len(tower)
    padded = np.pad(x, ((taps // 2, taps // 2), (0, 0)), mode="edge")
    out: FloatArray = sum(padded[i : i + len(x)] @ tower[i] for i in range(taps))  # type: ignore[assignment]
    return standardised(out)


def lip_movement(lips: FloatArray) -> FloatArray:
    """Return the articulation band (0.5-8 Hz) of lip shapes [T, 80], standardised, gaps bridged."""
    filled = np.stack([fill_gaps(column) for column in lips.T], axis=1).astype(np.float64)
    moved = scipy.signal.sosfiltfilt(articulation_filter(), filled, axis=0, padlen=MIN_FRAMES - 1)
    return standardised(moved.astype(np.float32))


def seen_features(lips: FloatArray, tower: FloatArray) -> FloatArray:
    """Return the lips tower's output [T, k], standardised, of lip shapes [T, 80]."""
    out: FloatArray = lip_movement(lips) @ tower
    return standardised(out)


def log_likelihood_ratio(u: FloatArray, v: FloatArray, r: FloatArray) -> FloatArray:
    """Return [T], in nats: standard Gaussian pairs (u, v) [T, k] of correlations r [k] against independent ones."""
    gain = 2 * r * u * v - r**2 * (u**2 + v**2)
    ratio: FloatArray = (gain / (2 * (1 - r**2)) - 0.5 * np.log1p(-(r**2))).sum(axis=1)
    return ratio


def _parabola_offset(curve: np.ndarray[tuple[int], np.dtype[np.float64]], best: int) -> float:
    """Return where between -0.5 and 0.5 steps from `best` a parabola through three points peaks; 0 at the ends."""
    if best in (0, len(curve) - 1):
        return 0.0
    left, peak, right = (float(curve[best + step]) for step in (-1, 0, 1))
    bend = left - 2 * peak + right
    return 0.0 if bend >= 0 else 0.5 * (left - right) / bend


def save_towers(path: Path, towers: dict[str, SyncTowers], about: dict[str, object]) -> None:
    """Write models by kind of audio feature, and what they were trained on, as one .npz (16-bit)."""
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {"about": np.array(json.dumps(about))}
    for name, tower in towers.items():
        arrays |= {
            f"{name}.audio": tower.audio.astype(np.float16),
            f"{name}.lips": tower.lips.astype(np.float16),
            f"{name}.correlation": tower.correlation.astype(np.float32),
            f"{name}.calibration": np.array([*tower.per_frame, *tower.own_voice], np.float64),
        }
    with path.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def load_towers(path: Path) -> dict[str, SyncTowers]:
    """Read what `save_towers` wrote. Raises ValueError for another file."""
    towers = {}
    with np.load(path, allow_pickle=False) as data:
        if "about" not in data:
            raise ValueError(f"{path} is no lip sync model: make one with `lpm models train-sync`")
        for name in sorted({key.split(".")[0] for key in data if key != "about"}):
            slope, offset, a, b, c = (float(x) for x in data[f"{name}.calibration"])
            towers[name] = SyncTowers(
                data[f"{name}.audio"].astype(np.float32),
                data[f"{name}.lips"].astype(np.float32),
                data[f"{name}.correlation"],
                (slope, offset),
                (a, b, c),
            )
    return towers


def model_path() -> Path:
    """Return the model in use: `lip_sync.npz` in OPENLPM_MODELS or the cache, else the one in the package."""
    return weights.locate(MODEL_FILE)
