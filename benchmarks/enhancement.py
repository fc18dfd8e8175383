"""Noise mixed into speech and taken away again: how near the sound comes to what was said, and at what cost.

    python benchmarks/enhancement.py FOLDER_OR_FILE... [--least-db 25] [--json FILE]

Files whose own noise is `--least-db` below their speech count as clean; one noise a file, white and pink, is added at
0, 10 and 20 dB, and none. Reported are medians over files of SI-SDR before and after, and of the signal to noise ratio
that is recorded with every clip, measured in the same way. CPU seconds are a second of sound, the loading of the
network included. Needs `.venv-full` (`make setup-full`).
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import record
from enhancement_score import F32, Colour, mixed, noise_of, si_sdr_db

from annotators.models import weights
from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import Segment, SpeechEnhancer
from annotators.sound.audio_quality import audio_quality
from annotators.sound.deepfilter import DeepFilterNet
from annotators.speech.vad import SileroVoiceActivity, speech_segments
from curation.media.audio import iter_audio_blocks
from curation.media.sound import resample
from schemas.time import AUDIO_HZ, PACKED_AUDIO_HZ
from stages.packing.enhancement import change

LEVELS_DB = (0.0, 10.0, 20.0)
COLOURS: tuple[Colour, ...] = ("white", "pink")
LONG_S = (60, 600)


def clean_speech(paths: list[Path], least_db: float) -> dict[str, tuple[F32, list[Segment]]]:
    """Return the sound at 48 kHz and the speech of every file that is clean enough."""
    activity, out = SileroVoiceActivity(), {}
    files = sorted(f for p in paths for f in (p.iterdir() if p.is_dir() else [p]) if f.suffix in {".mp4", ".wav"})
    for file in files:
        blocks = [block for _, block in iter_audio_blocks(file, PACKED_AUDIO_HZ)]
        if not blocks:
            continue
        sound = np.concatenate(blocks)
        heard = resample(sound[None], PACKED_AUDIO_HZ, AUDIO_HZ)[0]
        speech = speech_segments(activity.probability(heard))
        if speech and audio_quality(heard, speech).snr_db >= least_db:
            out[file.name] = (sound, speech)
    return out


def tried(sound: F32, speech: list[Segment], given: F32, enhancer: SpeechEnhancer) -> dict[str, float | None]:
    """Enhance what is given and compare both with the clean sound."""
    started = time.process_time()
    after = enhancer.enhance(given)
    cpu_s = time.process_time() - started
    spoken = [(round(s.start_s * PACKED_AUDIO_HZ), round(s.end_s * PACKED_AUDIO_HZ)) for s in speech]
    told = change(enhancer, given, after, spoken)
    return {
        "si_sdr_before_db": None if given is sound else si_sdr_db(given, sound),
        "si_sdr_after_db": si_sdr_db(after, sound),
        "snr_before_db": told.snr_before_db,
        "snr_after_db": told.snr_after_db,
        "removed_db": told.removed_db,
        "cpu_s_per_s": cpu_s / (len(sound) / PACKED_AUDIO_HZ),
    }


def medians(rows: list[dict[str, float | None]]) -> dict[str, Any]:
    """Return each figure's median over files, and the least gain."""
    out: dict[str, Any] = {}
    for key in rows[0]:
        known = [v for row in rows if (v := row[key]) is not None]
        out[key] = round(median(known), 3 if key == "cpu_s_per_s" else 1) if known else None
    gains = [r["si_sdr_after_db"] - r["si_sdr_before_db"] for r in rows if r["si_sdr_before_db"] is not None]  # type: ignore[operator]
    return out | {"least_gain_db": round(min(gains), 1) if gains else None}


def memory(enhancer: SpeechEnhancer) -> dict[str, float]:
    """Return by how much the process's peak grew over one and ten minutes, less the sound given back (MiB)."""
    out = {}
    for seconds in LONG_S:
        sound = np.random.default_rng(0).standard_normal(seconds * PACKED_AUDIO_HZ, np.float32)
        sound *= 0.1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        out_bytes = enhancer.enhance(sound).nbytes
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) - out_bytes
        out[f"{seconds} s"] = round(grown / 2**20, 1)
    return out


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path, nargs="+")
    parser.add_argument("--least-db", type=float, default=25.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        enhancer = DeepFilterNet()
    except PartNotInstalledError as e:
        print(e, file=sys.stderr)
        return 1
    grown_mib = memory(enhancer)  # first, while nothing else has been held
    print(f"memory: {grown_mib}", flush=True)
    found = clean_speech(args.media, args.least_db)
    if not found:
        print(f"no file there has speech that is {args.least_db:g} dB above its noise", file=sys.stderr)
        return 1
    result: dict[str, Any] = record.today_here() | {
        "enhancer": enhancer.name,
        "weights": {name: weights.sha256(name) for name in enhancer.weights},
        "files": {name: round(len(sound) / PACKED_AUDIO_HZ, 1) for name, (sound, _) in found.items()},
        "memory_mib": grown_mib,
        "noise": {},
    }
    cases: list[tuple[str, Colour | None, float]] = [("none", None, 0.0)]
    cases += [(f"{colour}, {db:g} dB", colour, db) for colour in COLOURS for db in LEVELS_DB]
    for label, colour, snr_db in cases:
        rows = []
        for seed, (sound, speech) in enumerate(found.values()):
            given = sound if colour is None else mixed(sound, noise_of(colour, len(sound), seed), snr_db)
            rows.append(tried(sound, speech, given, enhancer))
        result["noise"][label] = medians(rows)
        print(f"{label}: {result['noise'][label]}", flush=True)
    record.write(args.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
