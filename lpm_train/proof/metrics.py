"""Numbers that say whether a generator works: does it follow what drives it, stay who it is, and keep moving.

A loss cannot tell these: a student that has collapsed to the mean has a fine loss. Curves are read from pictures (in
closed form on the puppet, by a face model on people); the functions here only compare curves. The flow losses and
condition gaps need the model alone, so they hold for any data. Pure; microseconds, but for the two that run a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lpm_train.proof.synthetic import SWAY_STD_PX, Factors, Scene

F64 = NDArray[np.float64]


def correlation(x: F64, y: F64) -> float:
    """Return Pearson's correlation of two curves; 0 where one of them does not move."""
    if x.shape != y.shape:
        raise ValueError(f"curves of {x.shape} and {y.shape} values cannot be correlated")
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def lagged_correlation(x: F64, y: F64, max_lag: int) -> tuple[float, int]:
    """Return the best correlation of x[i + lag] with y[i] over lags of up to `max_lag`, and that lag.

    A positive lag says that x comes after y: lips behind the voice.
    """
    if not 0 <= max_lag < len(x):
        raise ValueError(f"a lag of up to {max_lag} needs more than the {len(x)} values there are")
    best, at = -2.0, 0
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        a, b = (x[lag:], y[: len(y) - lag]) if lag >= 0 else (x[:lag], y[-lag:])
        value = correlation(a, b)
        if value > best + 1e-12:
            best, at = value, lag
    return best, at


def pooled_correlation(pairs: Sequence[tuple[F64, F64]]) -> float:
    """Correlate all pairs of curves as one, so that a constant offset of a clip counts against it."""
    return correlation(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))


def slope_per_window(values: F64, window: int) -> float:
    """Return the least-squares slope of the means over consecutive windows: what drifts by how much a window."""
    n = len(values) // window
    if n < 2:
        raise ValueError(f"{len(values)} values hold fewer than two windows of {window}")
    means = values[: n * window].reshape(n, window).mean(axis=1)
    return float(np.polyfit(np.arange(n), means, 1)[0])


def motion_energy(frames: NDArray[np.uint8]) -> float:
    """Return the mean absolute change of a pixel from frame to frame, 0-255."""
    if len(frames) < 2:
        raise ValueError("motion needs at least two frames")
    return float(np.abs(np.diff(frames.astype(np.int16), axis=0)).mean())


def persistence(curve: F64, lag: int) -> float:
    """Return the autocorrelation of a curve at a lag."""
    return correlation(curve[lag:], curve[:-lag])


# ------------------------------------------------------------------------------------------------ the puppet


def puppet_metrics(
    shown: Sequence[Factors], scenes: Sequence[Scene], window: int, motion: tuple[float, float] | None = None
) -> dict[str, float]:
    """Compare what generated clips show with the scenes that drove them.

    Args:
        shown: factors read from each clip, all of one length [T].
        scenes: their scenes, at least as long.
        window: frames of a training clip; drift compares the last window with the first.
        motion: (energy of the generated clips, energy of the data).

    Returns:
        `mouth_speech_corr` and `mouth_speech_lag` (frames; over speech), `nod_user_corr` (over listening),
        `silent_mouth` (mean distance of the mouth from shut where the puppet does not speak, 0-1), `sway_std_ratio`
        (over the spread of the process, not of the few scenes at hand, whose own spread varies by 10 %) and
        `sway_persistence` (autocorrelation at 4 frames), `hands_error`, `identity.first`, `identity.last` (RMS of RGB
        and half width / 10), `drift.identity` (= identity.last), `drift.identity_slope` (a window), `drift.brightness`
        (last minus first window), and `motion_energy_ratio`.
    """
    if not shown or len(shown) != len(scenes):
        raise ValueError(f"{len(shown)} clips and {len(scenes)} scenes: give as many, and at least one")
    pairs = list(zip(shown, scenes, strict=True))
    sway = np.stack([f.sway for f in shown])
    out = {
        **_heard(pairs),
        "sway_std_ratio": float(np.sqrt(np.mean(sway**2))) / SWAY_STD_PX,
        "sway_persistence": float(np.mean([persistence(x, 4) for x in sway])),
        "hands_error": float(np.mean([np.abs(f.hands - np.array(s.hands)).mean() for f, s in pairs])),
        **_kept(pairs, window),
    }
    if motion is not None:
        out["motion_energy_ratio"] = motion[0] / motion[1]
    return out


def _heard(pairs: Sequence[tuple[Factors, Scene]]) -> dict[str, float]:
    """Compare mouth and nod with the two sounds."""
    T = len(pairs[0][0].mouth)
    speaks, listens = (
        [np.isin(np.array(s.states[:T]), (state, "both")) for _, s in pairs] for state in ("speak", "listen")
    )
    speech = [(f.mouth[on], s.speech[:T][on]) for (f, s), on in zip(pairs, speaks, strict=True)]
    user = [(f.nod[on], s.user[:T][on]) for (f, s), on in zip(pairs, listens, strict=True)]
    lags = [lagged_correlation(a, b, 8)[1] for a, b in speech if len(a) > 16]
    silent = np.concatenate([np.abs(f.mouth[~on]) for (f, _), on in zip(pairs, speaks, strict=True)])
    return {
        "mouth_speech_corr": pooled_correlation(speech),
        "mouth_speech_lag": float(np.median(lags)) if lags else 0.0,
        "nod_user_corr": pooled_correlation(user),
        "silent_mouth": float(silent.mean()) if len(silent) else 0.0,
    }


def _kept(pairs: Sequence[tuple[Factors, Scene]], window: int) -> dict[str, float]:
    """Say how well identity and brightness last, from the first window to the last."""
    identity = np.mean([np.sqrt(np.mean((f.identity - s.identity.vector()) ** 2, 1)) for f, s in pairs], axis=0)
    brightness = np.mean([f.brightness for f, _ in pairs], axis=0)
    w = min(window, len(identity))
    last = float(identity[-w:].mean())
    return {
        "identity.first": float(identity[:w].mean()),
        "identity.last": last,
        "drift.identity": last,
        "drift.identity_slope": slope_per_window(identity, w) if 2 * w <= len(identity) else 0.0,
        "drift.brightness": float(brightness[-w:].mean() - brightness[:w].mean()),
    }


def nested(flat: Mapping[str, float]) -> dict[str, object]:
    """Turn `a.b` keys into nested objects, for JSON."""
    out: dict[str, object] = {}
    for key, value in flat.items():
        *path, name = key.split(".")
        at: dict[str, object] = out
        for part in path:
            inner = at.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{key} would be inside the number {part}")
            at = inner
        at[name] = value
    return out
