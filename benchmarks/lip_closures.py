"""Where the sound of closed lips lies against the picture of closed lips: a check of lip sync that learned nothing.

    python benchmarks/lip_closures.py MEDIA_DIR [--json FILE]

Closed lips let nothing above 2 kHz pass (p, b and m alike), so the level of 2-7 kHz, averaged around the moments at
which the lips are seen closed, dips where the sound of those moments is. The position of that dip is the sound's lag,
found from landmarks and a band filter alone. It needs some ten closures, so it serves to judge a clip and not to cut
one; here it is set beside the lag of the learned model (`lip_sync.json`, 7-second windows, people never seen), which
tells a model that errs from footage that is off. Positive: the sound is late. The range given beside a lag holds the
middle 60 % of 300 bootstrap draws over the closures; where it is wider than 60 ms the clip tells nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import record
from scipy.interpolate import CubicSpline
from scipy.signal import butter, find_peaks, sosfiltfilt

from curation.media.audio import read_audio
from curation.memory import run_chain
from schemas import tables as t
from schemas.time import AUDIO_HZ, GRID_HZ
from stages.scan.scan import Scan, ScanSettings
from stages.sources.probe import Probe, ProbeSettings

F64 = npt.NDArray[np.float64]

RATE_HZ = 100
SEARCH = 25  # lags to either side, in hundredths of a second
_SMOOTH, _TREND = 7, 51
_MOST_RANGE_MS = 60


def level(audio: npt.NDArray[np.float32], low_hz: float, high_hz: float) -> F64:
    """Return the level of a band in dB at 100 Hz, over 20 ms each; the filter moves nothing in time."""
    sos = butter(2, (low_hz, high_hz), "bandpass", fs=AUDIO_HZ, output="sos")
    window = np.hanning(AUDIO_HZ // 50)
    power = np.convolve(sosfiltfilt(sos, audio.astype(np.float64)) ** 2, window / window.sum(), "same")
    return np.asarray(10 * np.log10(power[:: AUDIO_HZ // RATE_HZ] + 1e-9))


def closures(k: npt.NDArray[np.int64], mouth_open: F64) -> tuple[npt.NDArray[np.int64], F64]:
    """Return when the lips close, in hundredths of a second, and how surely (0 to 1), from one face's opening."""
    at = np.arange(k[0] * 4, k[-1] * 4 + 1)
    opening = CubicSpline(k / GRID_HZ, mouth_open)(at / RATE_HZ)
    shut, wide = np.percentile(mouth_open, [5, 90])
    peaks, about = find_peaks(-opening, prominence=0.12 * (wide - shut), distance=6)
    closed = np.exp(-np.maximum(0.0, opening[peaks] - shut) / (0.15 * (wide - shut)))
    return at[peaks], closed * np.minimum(1.0, about["prominences"] / (wide - shut))


def lag_of_sound(audio: npt.NDArray[np.float32], faces: list[tuple[npt.NDArray[np.int64], F64]]) -> dict[str, Any]:
    """Return the dip's position in milliseconds, its depth in standard deviations, and the bootstrap's range."""
    high, speech = level(audio, 2000, 7000), level(audio, 100, 7000)
    voiced = speech > np.percentile(speech, 95) - 30
    high = np.clip((high - high[voiced].mean()) / high[voiced].std(), -3, 3)
    reach = SEARCH + _TREND // 2 + _SMOOTH // 2
    around, weights = [], []
    for k, mouth_open in faces:
        for n, weight in zip(*closures(k, mouth_open), strict=True):
            if reach <= n < len(high) - reach and voiced[n - 20 : n + 20].mean() > 0.5:
                around.append(high[n - reach : n + reach + 1])
                weights.append(weight)
    if len(around) < 4:
        return {"closures": len(around), "lag_ms": None}
    rows, w = np.array(around), np.array(weights)

    def dip(chosen: npt.NDArray[np.int64]) -> tuple[int, float]:
        mean = (rows[chosen] * w[chosen, None]).sum(axis=0) / w[chosen].sum()
        smooth = np.convolve(mean, np.ones(_SMOOTH) / _SMOOTH, "valid")
        flat = smooth[_TREND // 2 : -(_TREND // 2)] - np.convolve(smooth, np.ones(_TREND) / _TREND, "valid")
        return int(flat.argmin() - SEARCH) * 10, float(flat.min())

    rng = np.random.default_rng(0)
    drawn = [dip(rng.integers(0, len(rows), len(rows)))[0] for _ in range(300)]
    low, high_ms = (int(np.percentile(drawn, q)) for q in (20, 80))
    lag_ms, depth = dip(np.arange(len(rows)))
    out: dict[str, Any] = {
        "closures": len(rows),
        "lag_ms": lag_ms,
        "depth": round(depth, 2),
        "range_ms": [low, high_ms],
    }
    return out if high_ms - low <= _MOST_RANGE_MS else {**out, "lag_ms": None}


def measure(path: Path, scan: Scan) -> dict[str, Any]:
    """Scan one file and measure its sound's lag."""
    tables = run_chain(path, [Probe(ProbeSettings())])
    duration_s = tables[t.SOURCES][0].to_pylist()[0]["duration_s"]
    tables = run_chain(path, [scan], duration_s=duration_s, tables=tables)
    faces: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for part in tables[t.FACE_FRAMES]:
        for row in part.select(["tracklet_id", "k", "mouth_open"]).to_pylist():
            if row["mouth_open"] is not None:
                faces[row["tracklet_id"]].append((row["k"], row["mouth_open"]))
    audio = read_audio(path, 0.0, duration_s, AUDIO_HZ)
    if audio is None:
        sys.exit(f"{path.name} has no sound; leave it out")
    long = [np.array(rows) for rows in faces.values() if len(rows) >= 2 * GRID_HZ]
    return lag_of_sound(audio, [(rows[:, 0].astype(np.int64), rows[:, 1]) for rows in long])


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path, nargs="?", default=record.MEDIA)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    videos = sorted(p for p in (args.media / "talkers").glob("*") if p.suffix in {".mp4", ".avi"})
    videos += sorted(args.media.glob("talk_*.mp4"))
    if not videos:
        sys.exit(f"no talkers/*.mp4 and no talk_*.mp4 under {args.media}")
    learned = json.loads((Path(__file__).parent / "results" / "lip_sync.json").read_text(encoding="utf-8"))
    lags = learned["whisper-base"]["leave_one_person_out"][0]["median_lag_ms"]
    scan = Scan(ScanSettings())
    clips = {path.stem: {**measure(path, scan), "learned_ms": lags.get(path.stem)} for path in videos}
    scan.close()
    told = [c for c in clips.values() if c["lag_ms"] is not None and c["learned_ms"] is not None]
    apart = [abs(c["lag_ms"] - c["learned_ms"]) for c in told]
    result = {
        "command": "python benchmarks/lip_closures.py MEDIA_DIR",
        **record.today_here(),
        "told": len(told),
        "within_1_frame_of_the_learned_lag": sum(a <= 1000 // GRID_HZ for a in apart),
        "largest_difference_ms": max(apart, default=None),
        "clips": clips,
    }
    for name, clip in clips.items():
        lag = "     ?" if clip["lag_ms"] is None else f"{clip['lag_ms']:+6d}"
        sys.stdout.write(f"{name:<26}{lag} ms  {clip.get('range_ms')}  learned {clip['learned_ms']}\n")
    sys.stdout.write(f"{len(told)} tell; {result['within_1_frame_of_the_learned_lag']} within one frame of the model\n")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
