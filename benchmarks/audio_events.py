"""How surely music, singing, laughter and noise are told from speech, on sounds whose nature is known.

    python benchmarks/audio_events.py MEDIA_DIR [--voices DIR] [--json FILE]

Speech: every window of MEDIA_DIR/talkers; what is found there beside speech is false, but for music, which some clips
have. Noise: pink noise added to that speech at several levels. `--voices` is a folder of short acted lines as
`PERSON/NAME.ogg`, of which those called `Laugh` are laughs and all others are not (the Debian package hedgewars-data
has one under usr/share/games/hedgewars/Data/Sounds/voices). A sound counts as found from a score of 0.3 in any window.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import record
import soundfile

from annotators.sound.audio_events import EVENTS, YamnetAudioEvents
from curation.media.audio import read_audio
from curation.media.sound import resample
from schemas.time import AUDIO_HZ

FOUND = 0.3
NOISE_DB = (20, 10, 0, -10)


def speech(media: Path) -> list[np.ndarray]:
    """Return the talkers' sound, one array a clip, without leading and trailing digital silence."""
    files = sorted(p for p in (media / "talkers").glob("*") if p.suffix in {".mp4", ".avi"})
    sounds = [read_audio(p, 0.0, 60.0, AUDIO_HZ) for p in files]
    return [np.trim_zeros(x) for x in sounds if x is not None]


def pink(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls by 3 dB an octave, of RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, samples)
    return np.asarray(noise / noise.std())


def share(model: YamnetAudioEvents, sounds: list[np.ndarray]) -> dict[str, float]:
    """Return the share of all windows in which each event is found."""
    scores = [model.events(x.astype(np.float32)).scores for x in sounds]
    return {e: round(float(np.mean(np.concatenate([s[e] for s in scores]) >= FOUND)), 4) for e in EVENTS}


def acted(model: YamnetAudioEvents, folder: Path) -> dict[str, Any]:
    """Return in how many laughs, and in how many other lines, laughter is found; equal files count once."""
    seen: set[bytes] = set()
    counts = {"laughs": [0, 0], "other_lines": [0, 0]}
    for path in sorted(folder.glob("*/*.ogg")):
        if (data := path.read_bytes()) in seen:
            continue
        seen.add(data)
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = resample(sound.mean(axis=1)[None], rate, AUDIO_HZ)[0]
        score = model.events(np.pad(mono, (AUDIO_HZ // 4, AUDIO_HZ))).scores["laughter"].max()
        count = counts["laughs" if path.stem == "Laugh" else "other_lines"]
        count[0] += int(score >= FOUND)
        count[1] += 1
    return {name: {"found": found, "of": of} for name, (found, of) in counts.items()}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path, nargs="?", default=record.MEDIA)
    parser.add_argument("--voices", type=Path, help="folder of acted lines, PERSON/NAME.ogg")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    model, sounds = YamnetAudioEvents(), speech(args.media)
    if not sounds:
        sys.exit(f"no talkers under {args.media}")
    seconds = sum(map(len, sounds)) / AUDIO_HZ
    began = time.process_time()
    result: dict[str, Any] = {
        "command": "python benchmarks/audio_events.py MEDIA_DIR --voices DIR",
        **record.today_here(),
    }
    result["speech_s"] = round(seconds, 1)
    result["share_of_windows"] = {"speech": share(model, sounds)}
    result["cpu_s_per_s"] = round((time.process_time() - began) / seconds, 5)
    rng = np.random.default_rng(0)
    for level in NOISE_DB:
        mixed = [x + pink(len(x), rng) * x.std() * 10 ** (-level / 20) for x in sounds]
        result["share_of_windows"][f"speech, pink noise {level} dB below it"] = share(model, mixed)
    result["share_of_windows"]["pink noise"] = share(model, [0.05 * pink(60 * AUDIO_HZ, rng)])
    if args.voices:
        result["laughter"] = acted(model, args.voices)
    sys.stdout.write(record.as_json(result))
    record.write(args.json, result)


if __name__ == "__main__":
    main()
