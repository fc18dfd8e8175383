"""Who spoke when against the truth: both diarizers and the default's limits, on every directory of footage named.

    python benchmarks/diarization.py MEDIA_DIR... [--judge DIR...] [--json FILE]

Reads .rttm files and the voices of .truth.json (`voice_truth.py`). Voice activity and diarizers as stage `speech` runs
them; no collar, overlapped speech scored, what nobody could tell left out. Each directory's sound files count as a
set of their own, and those with .rttm as another. `left_out`: the limit below which pieces of speech are two people's,
chosen by least error on all other files, and the error on the files left out; directories of `--judge` have no say in
that. pyannote is left out where it is not installed (`make setup-full`).
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import record
from diarization_score import DiarizationErrors, diarization_errors, summed
from voice_truth import VoiceTruth, told_apart, voice_truths

from annotators.optional_parts import PartNotInstalledError
from annotators.protocols_speech import Diarizer, FloatArray, Segment
from annotators.speech.diarizer import ClusteringDiarizer, DiarizationRule
from annotators.speech.pyannote_diarizer import PyannoteDiarizer
from annotators.speech.speaker_segmentation import SpeakerSegmenter
from annotators.speech.vad import SileroVoiceActivity, speech_segments
from annotators.speech.voice_pieces import PieceRule
from annotators.speech.voices import CamPlusPlusEmbedder
from curation.media.audio import iter_audio_blocks
from schemas.time import AUDIO_HZ

LIMITS = (0.30, 0.34, 0.38, 0.42, 0.46)


@dataclass
class Sound:
    """One file: its sound, where speech was found, its truth, and the set that it counts in."""

    audio: FloatArray
    speech: list[Segment]
    truth: VoiceTruth
    group: str

    @property
    def duration_s(self) -> float:
        return len(self.audio) / AUDIO_HZ


@dataclass
class Remembered:
    """Networks whose answers are kept, so that only the first of several diarizers pays for them."""

    embedder: CamPlusPlusEmbedder = field(default_factory=CamPlusPlusEmbedder)
    segmenter: SpeakerSegmenter = field(default_factory=SpeakerSegmenter)
    _kept: dict[bytes, Any] = field(default_factory=dict)

    name, dimension = CamPlusPlusEmbedder.name, CamPlusPlusEmbedder.dimension
    weights: tuple[str, ...] = ()

    def embed(self, clips: Sequence[FloatArray]) -> FloatArray:
        return np.stack([self._once(b"voice", clip, lambda c: self.embedder.embed([c])[0]) for clip in clips])

    def activity(self, audio: FloatArray) -> np.ndarray:
        return self._once(b"who", audio, self.segmenter.activity)

    def _once(self, what: bytes, audio: FloatArray, ask: Callable[[FloatArray], np.ndarray]) -> np.ndarray:
        key = what + hashlib.blake2b(audio.tobytes()).digest()
        if key not in self._kept:
            self._kept[key] = ask(audio)
        return self._kept[key]


def sounds(folders: Sequence[Path]) -> dict[str, Sound]:
    """Return every file whose voices are known."""
    activity = SileroVoiceActivity()
    truths: dict[Path, VoiceTruth] = {}
    for folder in folders:
        truths |= voice_truths(folder)
    out = {}
    for path, truth in told_apart(truths).items():
        audio = np.concatenate([block for _, block in iter_audio_blocks(path, AUDIO_HZ)])
        group = "rttm" if path.with_suffix(".rttm").exists() else path.parent.name
        out[path.name] = Sound(audio, speech_segments(activity.probability(audio)), truth, group)
    return out


def errors_of(diarizer: Diarizer, found: Mapping[str, Sound]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return per file its errors and number of speakers found, and per set the CPU seconds a second of sound."""
    rows, spent, lasted = {}, defaultdict(float), defaultdict(float)
    for name, sound in found.items():
        started = time.process_time()
        turns = diarizer.diarize(sound.audio, sound.speech)
        spent[sound.group] += time.process_time() - started
        lasted[sound.group] += sound.duration_s
        labelled = [(t.start_s, t.end_s, t.speaker) for t in turns]
        errors = diarization_errors(sound.truth.turns, labelled, sound.duration_s, sound.truth.unknown)
        rows[name] = (errors, len({label for _, _, label in labelled}))
    return rows, {group: spent[group] / lasted[group] for group in spent}


def by_set(rows: Mapping[str, Any], found: Mapping[str, Sound], cpu: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures of each set."""
    out = {}
    for group in sorted({sound.group for sound in found.values()}):
        names = [n for n, sound in found.items() if sound.group == group]
        total = summed(rows[n][0] for n in names)
        right = sum(rows[n][1] == len(found[n].truth.voices) for n in names)
        figures = {"files": len(names), "right_number_of_speakers": right, **figures_of(total)}
        out[group] = figures | {"cpu_s_per_s": round(cpu[group], 4)}
    return out


def figures_of(e: DiarizationErrors) -> dict[str, float | None]:
    """Return seconds, and their shares of the true speaker time."""
    shares = {"missed": e.missed_s, "false": e.false_s, "confused": e.confused_s}
    rate = {"error_rate": round(e.rate, 4) if e.true_s else None}
    seconds = {k: round(v, 2) for k, v in asdict(e).items()}
    return rate | {k: round(v / e.true_s, 4) if e.true_s else None for k, v in shares.items()} | seconds


def left_out(
    limits: Mapping[float, Mapping[str, Any]], found: Mapping[str, Sound], judges: Collection[str]
) -> dict[str, Any]:
    """Return, by set, the error on each file with the limit that is best on all others; and the limits chosen.

    Sets named in `judges` have no say.
    """
    chosen: dict[str, float] = {}
    for name in found:
        say = [n for n, sound in found.items() if n != name and sound.group not in judges]
        rates = {x: summed(rows[n][0] for n in say).rate for x, rows in limits.items()}
        chosen[name] = min(rates, key=lambda x: (rates[x], x))
    groups = sorted({sound.group for sound in found.values()})
    return {
        "limits": {str(x): sum(v == x for v in chosen.values()) for x in limits},
        "error_rate": {
            g: round(summed(limits[chosen[n]][n][0] for n, s in found.items() if s.group == g).rate, 4) for g in groups
        },
    }


def limit_left_out(found: Mapping[str, Sound], judges: Collection[str]) -> dict[str, Any]:
    """Run the default diarizer with every limit; return `left_out` and each limit's error, by set."""
    kept, limits, said = Remembered(), {}, {}
    for x in LIMITS:
        rule = DiarizationRule(pieces=PieceRule(min_similarity=x))
        limits[x] = rows = errors_of(ClusteringDiarizer(kept, kept, rule), found)[0]
        said[str(x)] = {
            g: round(summed(rows[n][0] for n, s in found.items() if s.group == g).rate, 4)
            for g in sorted({s.group for s in found.values()})
        }
        print(f"pieces less alike than {x:.2f} are two people's: {said[str(x)]}", flush=True)
    result = left_out(limits, found, judges) | {"by_limit": said}
    print(f"with the limit of the other files: {result['error_rate']}")
    return result


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = sounds([*args.media, *args.judge])
    if not found:
        print("no voices are known of any sound there", file=sys.stderr)
        return 1
    whole = {"clustering": DiarizationRule(), "clustering, speakers not divided": DiarizationRule(pieces=None)}
    whole["clustering, voices from all of a window"] = DiarizationRule(voice_s=10.0)
    whole["clustering, voices from 3 s of a window"] = DiarizationRule(voice_s=3.0)
    whole["clustering, not divided, windows every 2.5 s"] = DiarizationRule(pieces=None, step_s=2.5)
    makers: dict[str, Callable[[], Diarizer]] = {
        name: lambda rule=rule: ClusteringDiarizer(rule=rule) for name, rule in whole.items()
    }
    for name, rule in {
        "pyannote": DiarizationRule(),
        "pyannote, speakers not divided": DiarizationRule(pieces=None),
        "pyannote, not divided, windows every 2.5 s": DiarizationRule(pieces=None, step_s=2.5),
        "pyannote, not divided, windows every 5 s": DiarizationRule(pieces=None, step_s=5.0),
    }.items():
        makers[name] = lambda rule=rule: PyannoteDiarizer(rule=rule)
    result: dict[str, Any] = {"sets": {}, "files": {}}
    for name, make in makers.items():
        try:
            rows, cpu = errors_of(make(), found)
        except PartNotInstalledError as e:
            print(f"{name} is left out: {e}", file=sys.stderr)
            continue
        result["sets"][name] = by_set(rows, found, cpu)
        said = ", ".join(f"{g} {f['error_rate']:.3f}" for g, f in result["sets"][name].items())
        print(f"{name}: {said}", flush=True)
        if name in ("clustering", "pyannote"):
            for file, (errors, speakers) in rows.items():
                facts = {"speakers": speakers, "true_speakers": len(found[file].truth.voices)}
                result["files"].setdefault(file, {})[name] = facts | figures_of(errors)
    result["left_out"] = limit_left_out(found, {folder.name for folder in args.judge})
    record.write(args.json, result | {"run": record.today_here()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
