"""Diarization error rate on every sound file that has an .rttm beside it.

    python benchmarks/diarization.py MEDIA_DIR [--json FILE]

Voice activity and the diarizer as stage `speech` runs them; no collar, overlapped speech scored.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import record

from annotators.diarization_score import diarization_error_rate, parse_rttm
from annotators.diarizer import ClusteringDiarizer
from annotators.vad import SileroVoiceActivity, speech_segments
from curation.media.audio import iter_audio_blocks
from schemas.time import AUDIO_HZ

SUFFIXES = (".wav", ".flac", ".mp3", ".mp4")


def whole(path: Path) -> np.ndarray:
    """Return a file's sound at 16 kHz."""
    return np.concatenate([block for _, block in iter_audio_blocks(path, AUDIO_HZ)])


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    activity, diarizer = SileroVoiceActivity(), ClusteringDiarizer()
    rows = {}
    for truth_file in sorted(args.media.glob("*.rttm")):
        sounds = [truth_file.with_suffix(s) for s in SUFFIXES if truth_file.with_suffix(s).exists()]
        audio = whole(sounds[0]) if sounds else None
        if audio is None:
            print(f"{truth_file.name}: no sound beside it", file=sys.stderr)
            continue
        truth = parse_rttm(truth_file.read_text())
        started = time.process_time()
        turns = diarizer.diarize(audio, speech_segments(activity.probability(audio)))
        cpu_s = time.process_time() - started
        found = [(t.start_s, t.end_s, t.speaker) for t in turns]
        duration_s = len(audio) / AUDIO_HZ
        rate = diarization_error_rate(truth, found, duration_s)
        rows[sounds[0].name] = {
            "error_rate": round(rate, 4),
            "speakers": len({label for _, _, label in found}),
            "true_speakers": len({label for _, _, label in truth}),
            "cpu_s_per_s": round(cpu_s / duration_s, 4),
        }
        print(f"{sounds[0].name}: error rate {rate:.3f}, {rows[sounds[0].name]['speakers']} speakers")
    record.write(args.json, {"files": rows, "run": record.today_here()})
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
