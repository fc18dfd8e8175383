"""Does `lpm perform` know who speaks when? What it hears in two-person recordings against the truth, frame by frame.

    python benchmarks/perform_voices.py MEDIA_DIR... [--json FILE]

Of all recordings whose voices are known (`voice_truth.py`) those of two people. A recording that the command refuses,
since more than two voices are found, says so, and is then given to it again with the best choice of `--speakers`, as by
a person who looks at voices.rttm; how alike the voices found are (cosine of their embeddings) is there to see whether
the choice could be made by itself. Figures: for each person, the share of frames of 1/25 s in which they are right to
speak or not to (speaking mode), under the better of the two assignments; what nobody could tell left out; short
silences filled in both, as in training. A plain guess beside it: never speaking, or always, whichever is better.
Stereo files are also put to the heuristic of channels, and so are two-channel files made of the same voices: each
person's own turns on one channel, and 30 dB fainter on the other; where both talk, both channels have the mixture.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import record
from voice_truth import VoiceTruth, told_apart, voice_truths

from annotators.protocols_speech import FloatArray, Turn
from annotators.speech.voices import CamPlusPlusEmbedder
from curation.media.audio import AudioReader
from schemas.samples.sample import FPS
from schemas.time import AUDIO_HZ
from workflows.performing.hearing import diarized, in_channels, load, speech_settings
from workflows.performing.states import heard_frames, states_of
from workflows.performing.voices import PEOPLE, SOMEBODY_S, spoken_s, the_two
from workflows.usage import UsageError

BLEED_DB = -30.0


def modes(turns: Sequence[Turn], person: str, frames: int, start_s: float) -> np.ndarray:
    """Return the frames in which "a" or "b" speaks, [frames]."""
    return (states_of(heard_frames(turns, frames, start_s), person) & 1) > 0


def true_modes(
    truth: Sequence[Turn], frames: int, start_s: float, unknown: Sequence[tuple[float, float]]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return by person the frames in which they speak, and the frames that are known; each [frames]."""
    known = np.ones(frames, bool)
    for a, b in unknown:
        known[max(0, round((a - start_s) * FPS)) : max(0, round((b - start_s) * FPS))] = False
    true = {}
    for person in spoken_s(truth):
        sides = [Turn(t.start_s, t.end_s, "a" if t.speaker == person else "b") for t in truth]
        true[person] = modes(sides, "a", frames, start_s)
    return true, known


def frames_right(
    truth: Sequence[Turn], found: Sequence[Turn], frames: int, start_s: float = 0.0,
    unknown: Sequence[tuple[float, float]] = (),
) -> dict[str, float]:  # fmt: skip
    """Return by true person the share of frames in which the mode found is right, under the better assignment."""
    true, known = true_modes(truth, frames, start_s, unknown)
    guess = [modes(found, person, frames, start_s) for person in PEOPLE]
    right = [
        {person: float((true[person] == g)[known].mean()) for person, g in zip(true, order, strict=True)}
        for order in itertools.permutations(guess)
    ]
    return max(right, key=lambda r: sum(r.values()))


def guessed(truth: Sequence[Turn], frames: int, unknown: Sequence[tuple[float, float]]) -> float:
    """Return the mean share of frames that always, or never, speaking would get right."""
    true, known = true_modes(truth, frames, 0.0, unknown)
    speaks = [float(m[known].mean()) for m in true.values()]
    return float(np.mean([max(x, 1 - x) for x in speaks]))


def best_of(turns: Sequence[Turn], truth: Sequence[Turn], frames: int, unknown: Any) -> tuple[str, dict[str, float]]:
    """Return the choice of `--speakers` that a person who knows the truth would make, and its figures."""
    voices, tried = list(spoken_s(turns)), []
    for owner in itertools.product(range(3), repeat=len(voices)):
        sides = ["+".join(v for v, o in zip(voices, owner, strict=True) if o == side) for side in (0, 1)]
        if all(sides):
            chosen = ",".join(sides)
            right = frames_right(truth, the_two(turns, chosen), frames, 0.0, unknown)
            tried.append((sum(right.values()), chosen, right))
    _, chosen, right = max(tried, key=lambda x: x[0])
    return chosen, right


def likeness(turns: Sequence[Turn], audio: FloatArray) -> dict[str, float]:
    """Return the cosine of each two voices' embeddings, each of what that voice says alone."""
    embedder, known = CamPlusPlusEmbedder(), {}
    for voice in spoken_s(turns):
        alone = np.zeros(len(audio), bool)
        for t in sorted(turns, key=lambda t: t.speaker != voice):  # its own first, then what others take away
            alone[round(t.start_s * AUDIO_HZ) : round(t.end_s * AUDIO_HZ)] = t.speaker == voice
        if alone.sum() >= AUDIO_HZ // 4:
            known[voice] = embedder.embed([audio[alone]])[0]
    return {f"{a}+{b}": round(float(known[a] @ known[b]), 2) for a, b in itertools.combinations(known, 2)}


def by_likeness(
    turns: Sequence[Turn], audio: FloatArray, truth: Sequence[Turn], unknown: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Return the figures with the most alike voices taken for one until there are two: what is not done."""
    turns = list(turns)
    while len(spoken_s(turns)) > 2 and (alike := likeness(turns, audio)):
        first, second = max(alike, key=lambda pair: alike[pair]).split("+")
        turns = [Turn(t.start_s, t.end_s, first if t.speaker == second else t.speaker) for t in turns]
    return frames_right(truth, the_two(turns, None), len(audio) * FPS // AUDIO_HZ, 0.0, unknown)


def made_channels(audio: FloatArray, truth: Sequence[Turn]) -> FloatArray:
    """Return two channels of a mixture: on each one person's turns, the other's fainter, a faint room on both."""
    people, rng = list(spoken_s(truth)), np.random.default_rng(0)
    out = (1e-4 * rng.standard_normal((2, len(audio)))).astype(np.float32)
    for t in truth:
        a, b = round(t.start_s * AUDIO_HZ), round(t.end_s * AUDIO_HZ)
        own = people.index(t.speaker)
        out[own, a:b] += audio[a:b]
        out[1 - own, a:b] += audio[a:b] * 10 ** (BLEED_DB / 20)
    return out


def scored(file: Path, truth: VoiceTruth) -> dict[str, Any]:
    """Return the figures of one recording."""
    settings = speech_settings(None)
    turns = [Turn(a, b, who) for a, b, who in truth.turns]
    with AudioReader(file, AUDIO_HZ) as reader:
        audio = load(reader, 0.0, reader.end_index() / AUDIO_HZ)
    frames = len(audio) * FPS // AUDIO_HZ
    heard = diarized(audio, 0.0, settings)
    out: dict[str, Any] = {"frames": frames, "voices": len(spoken_s(heard.turns))}
    try:
        out["right"] = frames_right(turns, the_two(heard.turns, None, SOMEBODY_S), frames, 0.0, truth.unknown)
    except UsageError as e:
        out["refused"] = str(e).split(" (")[0]
        if out["voices"] > 2:
            out["speakers"], out["right"] = best_of(heard.turns, turns, frames, truth.unknown)
            out["most_alike_joined"] = by_likeness(heard.turns, audio, turns, truth.unknown)
    out["likeness"] = likeness(heard.turns, audio)
    out["guess"] = guessed(turns, frames, truth.unknown)
    made = in_channels(made_channels(audio, turns), 0.0, settings, asked=False)
    out["made_channels"] = {} if made is None else frames_right(turns, made.turns, frames, 0.0, truth.unknown)
    return out


def stereo_taken_for_people(files: Sequence[Path]) -> dict[str, int]:
    """Return how many stereo recordings there are, and how many of them the heuristic takes for a person a channel."""
    settings, n, wrong = speech_settings(None), 0, 0
    for file in files:
        with AudioReader(file, AUDIO_HZ, mono=False) as reader:
            audio = load(reader, 0.0, reader.end_index() / AUDIO_HZ) if reader.has_audio else np.zeros((1, 0))
        if audio.shape[0] == 2 and audio.shape[1] > AUDIO_HZ:
            n += 1
            wrong += in_channels(audio, 0.0, settings, asked=False) is not None
    return {"files": n, "taken_for_a_person_each": wrong}


def mean_right(rows: Mapping[str, Any], key: str) -> float | None:
    """Return the mean over frames of the persons' mean share."""
    some = [(r["frames"], float(np.mean(list(r[key].values())))) for r in rows.values() if r.get(key)]
    return round(sum(n * x for n, x in some) / sum(n for n, _ in some), 4) if some else None


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    truths: dict[Path, VoiceTruth] = {}
    for folder in args.media:
        truths |= voice_truths(folder)
    rows: dict[str, Any] = {}
    for file, truth in told_apart(truths).items():
        if len(truth.voices) != 2:
            continue
        rows[file.name] = row = scored(file, truth)
        said = ", ".join(f"{x:.3f}" for x in row.get("right", {}).values()) or "-"
        made = ", ".join(f"{x:.3f}" for x in row["made_channels"].values()) or "not found"
        print(f"{file.name}: {row['voices']} voices, right {said}, {row.get('refused', 'accepted')}; channels {made}")
    if not rows:
        print("no recording of two known voices there", file=sys.stderr)
        return 1
    accepted = {n: r for n, r in rows.items() if "refused" not in r}
    result = {
        "recordings": len(rows),
        "accepted": len(accepted),
        "right_of_accepted": mean_right(accepted, "right"),
        "right_with_speakers_named": mean_right(rows, "right"),
        "most_alike_joined": mean_right(rows, "most_alike_joined"),
        "guess": round(
            sum(r["frames"] * r["guess"] for r in rows.values()) / sum(r["frames"] for r in rows.values()), 4
        ),
        "made_channels_found": sum(bool(r["made_channels"]) for r in rows.values()),
        "right_in_made_channels": mean_right(rows, "made_channels"),
        "stereo": stereo_taken_for_people(list(truths)),
    }
    print(result)
    record.write(args.json, result | {"files": rows, "run": record.today_here()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
