"""Recognisers and aligners against known words: word error rate, errors of start and end, CPU, memory.

    python benchmarks/word_times.py FOLDER [--call WAV] [--network DIR] [--only base,base-30s] [--pieces S] [--json F]

FOLDER holds what `word_truth.py` wrote. `--call` is pyannote's sample call, whose package has what is said and, by
hand, when each utterance begins and ends; errors are then those of first and last words. `--network`: a directory for
the aligner whisperx. Speech is found as stage `speech` finds it. Words are compared without signs and case; an error
of time is that of words that are recognised rightly, in ms, found minus true. CPU seconds are a second of sound,
without loading. `base-30s` hears every piece in Whisper's whole window; `--pieces` cuts the sound every so many
seconds, for pieces as short as in conversations. Memory is the greatest of a process of its own for each recogniser,
packages and aligners included. `whisperx` and the aligners need `make setup-full`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import record

from annotators.protocols_speech import Aligner, FloatArray, Segment, Transcriber, Transcript
from annotators.speech.vad import SileroVoiceActivity, speech_segments
from annotators.words import transcriber
from annotators.words.pocketsphinx_aligner import PocketSphinxAligner
from annotators.words.transcriber import WhisperTranscriber
from annotators.words.whisperx_aligner import WhisperXAligner
from annotators.words.whisperx_transcriber import WhisperXTranscriber
from annotators.words.word_times import aligned
from curation.media.audio import iter_audio_blocks
from schemas.time import AUDIO_HZ

Timed = tuple[float, float, str]


def whole_windows() -> Transcriber:
    """Return Whisper base with 30 s for every piece; for a process of its own."""
    transcriber._WINDOWS = ()
    return WhisperTranscriber("base")


RECOGNISERS: dict[str, Callable[[], Transcriber]] = {
    "base": lambda: WhisperTranscriber("base"),
    "base-float32": lambda: WhisperTranscriber("base", compute_type="float32"),
    "base-30s": whole_windows,
    "whisperx": WhisperXTranscriber,
}


@dataclass
class Sound:
    """Sound with what is said in it: words with times, or utterances of which only the ends are known."""

    group: str
    audio: FloatArray
    speech: list[Segment]
    truth: list[list[Timed]]
    """utterances of words; in a synthesised sound every word is one"""


@dataclass
class Tally:
    """What was counted for one group of sounds."""

    words: int = 0
    wrong: int = 0
    timed: int = 0
    aligned: int = 0
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


def plain(word: str) -> str:
    """Return a word without signs and case."""
    return re.sub(r"[^a-z0-9']", "", word.lower().replace("\u2019", "'"))


def edits(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the least number of words put in, left out or exchanged between two texts."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def count(tally: Tally, sound: Sound, transcript: Transcript) -> None:
    """Add one sound to its group."""
    said = [
        (u, k == 0, k == len(words) - 1, w) for u, words in enumerate(sound.truth) for k, (*_, w) in enumerate(words)
    ]
    true, found = [plain(w) for *_, w in said], [plain(w.text) for w in transcript.words]
    tally.words += len(true)
    tally.wrong += edits(true, found)
    tally.timed += len(found)
    tally.aligned += sum(w.timed_by is not None for w in transcript.words)
    for block in difflib.SequenceMatcher(None, true, found, autojunk=False).get_matching_blocks():
        for k in range(block.size):
            u, first, last, _ = said[block.a + k]
            word = transcript.words[block.b + k]
            if first:
                tally.starts.append(1000 * (word.start_s - sound.truth[u][0][0]))
            if last:
                tally.ends.append(1000 * (word.end_s - sound.truth[u][-1][1]))


def spread(errors: list[float]) -> dict[str, float]:
    """Return median and 90th percentile of an error's size, and its median with its sign."""
    sizes = np.abs(errors)
    return {
        "median": round(float(np.median(sizes)), 1),
        "p90": round(float(np.percentile(sizes, 90)), 1),
        "bias": round(float(np.median(errors)), 1),
    }


def sounds(folder: Path, call: Path | None) -> Iterator[Sound]:
    """Yield all sounds with their truth."""
    activity = SileroVoiceActivity()
    for file in sorted(folder.glob("*.wav")):
        audio = decoded(file)
        words = [[tuple(w)] for w in json.loads(file.with_suffix(".words.json").read_text(encoding="utf-8"))]
        yield Sound(file.stem.rpartition("-")[2], audio, speech_segments(activity.probability(audio)), words)
    if call is not None:
        audio = decoded(call)
        yield Sound("call", audio, speech_segments(activity.probability(audio)), utterances())


def utterances() -> list[list[Timed]]:
    """Return what pyannote's sample is known to say: each utterance's words, of which only its ends have a time."""
    package = Path(importlib.util.find_spec("pyannote.audio").origin).parent  # type: ignore[union-attr,arg-type]
    lines = (package / "sample" / "sample.stm").read_text(encoding="utf-8").splitlines()
    parts = [line.split(maxsplit=5) for line in lines if line.strip()]
    return [[(float(p[3]), float(p[4]), w) for w in p[5].split()] for p in parts]


def decoded(file: Path) -> FloatArray:
    return np.concatenate([block for _, block in iter_audio_blocks(file, AUDIO_HZ)])


def measured(name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one recogniser, alone and with every aligner, over all sounds."""
    recogniser = RECOGNISERS[name]()
    aligners: dict[str, Aligner | None] = {"none": None}
    if importlib.util.find_spec("pocketsphinx") is not None:
        aligners["pocketsphinx"] = PocketSphinxAligner()
    if args.network is not None:
        aligners["whisperx"] = WhisperXAligner(str(args.network))
    tallies: dict[str, dict[str, Tally]] = {aligner: {} for aligner in aligners}
    cpu, align_cpu, heard_s = 0.0, dict.fromkeys(aligners, 0.0), 0.0
    for sound in sounds(args.folder, args.call):
        start = time.process_time()
        cuts = np.arange(args.pieces, len(sound.audio) / AUDIO_HZ, args.pieces) if args.pieces else ()
        transcript = recogniser.transcribe(sound.audio, sound.speech, [float(s) for s in cuts])
        cpu += time.process_time() - start
        heard_s += len(sound.audio) / AUDIO_HZ
        for short, aligner in aligners.items():
            start = time.process_time()
            final = transcript if aligner is None else aligned(transcript, sound.audio, aligner)
            align_cpu[short] += time.process_time() - start
            count(tallies[short].setdefault(sound.group, Tally()), sound, final)
    memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return [
        {
            "recogniser": name,
            "aligner": short,
            "names": [recogniser.name, *([aligner.name] if aligner else [])],
            "cpu_s_per_s": round(cpu / heard_s, 3),
            "aligner_cpu_s_per_s": round(align_cpu[short] / heard_s, 3),
            "memory_mib": memory,
            **{group: summary(tally) for group, tally in tallies[short].items()},
        }
        for short, aligner in aligners.items()
    ]


def summary(tally: Tally) -> dict[str, Any]:
    """Return a group's figures."""
    return {
        "words": tally.words,
        "word_error_rate": round(tally.wrong / tally.words, 3),
        "aligned": round(tally.aligned / max(1, tally.timed), 3),
        "start_ms": spread(tally.starts),
        "end_ms": spread(tally.ends),
    }


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--call", type=Path)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--only", default="base,whisperx", help="recognisers, by commas")
    parser.add_argument("--pieces", type=float, default=0.0, help="seconds; 0: pieces as they come")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one, args)))
        return
    rows: list[dict[str, Any]] = []
    for name in args.only.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows += json.loads(done.stdout.splitlines()[-1])
        record.write(args.json, {**record.today_here(), "results": rows})
    print(record.as_json(rows))


if __name__ == "__main__":
    main()
