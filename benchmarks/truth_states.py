"""True states of a made clip, from its construction and from where its sources' voices speak.

Nothing is claimed that is not known: frames in which a person's state cannot be told are left out of the truth.
- A person whose own voice is heard with its own picture speaks while that voice speaks; pauses up to 0.6 s belong to
  the speech, as in the given truth files. In longer ones a state is claimed only where the lips are known to be still.
- Lips that speak in the picture while their voice is not heard are discard, whatever else is heard.
- Still lips listen while a voice is heard (gaps up to 0.6 s included) and idle in silences over 1 s.
- 0.12 s on both sides of where a voice starts or stops, and gaps between 0.6 and 1 s, are left out.
Voices are found by voice activity detection in the clean sources, at their own level, not in the mix.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from truth_media import Clip, Panel, Sound, path_of, source_time, voice

from annotators.speech.vad import SileroVoiceActivity, speech_segments

FPS = 25
PAUSE_S, SILENCE_S, EDGE_S = 0.6, 1.0, 0.12

STILL: dict[str, list[tuple[float, float]]] = {
    "listen_woman_red": [(0.0, 22.0)],
    "expressive_woman_silent": [(1.65, 9.65)],
    "generated_makeup": [(2.0, 3.1), (6.25, 7.55), (9.2, 12.4)],
    "generated_film": [(6.85, 7.9)],
    "generated_l2": [(6.3, 7.02)],
    "real_newsreader_offset": [(1.9, 2.5), (4.8, 5.65)],
    "real_red_jacket": [(2.8, 3.2)],
}
"""Source seconds in which lips are still: the inner lip gap varies by less than 0.025 of the upper face's height, the
voice is silent."""


@functools.lru_cache(maxsize=1)
def _detector() -> SileroVoiceActivity:
    return SileroVoiceActivity()


@functools.lru_cache(maxsize=64)
def speech_spans(path: Path) -> list[tuple[float, float]]:
    """Return where a source's voice speaks, pauses up to 0.6 s bridged; nothing for a source without sound."""
    try:
        wave = voice(path, 16_000)
    except (IndexError, ValueError):  # no audio stream
        return []
    spans: list[tuple[float, float]] = []
    for s in speech_segments(_detector().probability(wave)):
        if spans and s.start_s - spans[-1][1] <= PAUSE_S:
            spans[-1] = (spans[-1][0], s.end_s)
        else:
            spans.append((s.start_s, s.end_s))
    return spans


def speaks(spans: list[tuple[float, float]], at_s: float) -> bool | None:
    """Return whether a voice speaks at a time of its source; None near a border of speech."""
    if any(abs(at_s - edge) < EDGE_S for span in spans for edge in span):
        return None
    return any(a <= at_s < b for a, b in spans)


def heard(clip: Clip, spans: dict[str, list[tuple[float, float]]]) -> npt.NDArray[np.int8]:
    """Return [T] at 25 Hz whether any voice is heard: 1 yes, 0 no, -1 not claimed."""
    out = np.zeros(round(clip.duration_s * FPS), np.int8)
    for k in range(len(out)):
        said = [_said(s, (k + 0.5) / FPS, spans[s.voice]) for s in clip.sounds]
        out[k] = 1 if True in said else -1 if None in said else 0
    edges = np.flatnonzero(np.diff(np.r_[1, np.where(out == 1, 1, 0), 1]))
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        if a > 0 and b < len(out) and b - a <= round((PAUSE_S + 2 * EDGE_S) * FPS):
            out[a:b] = 1 if b - a <= round(PAUSE_S * FPS) else -1
        elif b - a <= round(SILENCE_S * FPS):
            out[a:b] = -1
    return out


def _said(sound: Sound, t_s: float, spans: list[tuple[float, float]]) -> bool | None:
    return speaks(spans, t_s - sound.at_s + sound.from_s) if 0 <= t_s - sound.at_s < sound.length_s else False


def person_states(
    clip: Clip, panel: Panel, any_voice: npt.NDArray[np.int8], spans: dict[str, list[tuple[float, float]]]
) -> list[str | None]:
    """Return the state of one panel's person at 25 Hz; None where it is not claimed or not on screen."""
    out: list[str | None] = []
    for k, voices in enumerate(any_voice):
        t_s = (k + 0.5) / FPS
        at = source_time(panel.way, t_s)
        if at is None:
            out.append(None)
        elif any(a <= at < b for a, b in STILL.get(panel.person, [])):
            out.append({1: "listen", 0: "idle"}.get(int(voices)))
        elif speaks(spans[panel.person], at):
            own = any(
                s.voice == panel.person
                and 0 <= t_s - s.at_s < s.length_s
                and abs(t_s - s.at_s + s.from_s - at) < 0.5 / FPS
                for s in clip.sounds
            )
            out.append("speak" if own else "discard")
        else:
            out.append(None)
    return out


def truth_of(clip: Clip, media: Path, voices: Path | None) -> dict[str, Any]:
    """Return the truth of a clip in the form of the given truth files; cuts are where a full picture is replaced."""
    base: dict[str, Any] = {"fps": float(clip.fps), "duration": clip.duration_s}
    if clip.late_s:
        return base | {"audio_late_seconds": clip.late_s, "person": clip.panels[0].person}
    names = {p.person for p in clip.panels} | {s.voice for s in clip.sounds}
    spans = {n: speech_spans(path_of(media, voices, n)) for n in names}
    any_voice = heard(clip, spans)
    lanes = [(p, person_states(clip, p, any_voice, spans)) for p in clip.panels if p.scored]
    shots: list[dict[str, Any]] = []
    for k in range(len(any_voice)):
        people = [{"person": p.person, "place": p.place, "state": s[k]} for p, s in lanes if s[k] is not None]
        speaking = [s.voice for s in clip.sounds if _said(s, (k + 0.5) / FPS, spans[s.voice])]
        said = speaking[0] if speaking else None
        if shots and shots[-1]["people"] == people and shots[-1]["voice"] == said:
            shots[-1]["end"] = (k + 1) / FPS
        else:
            shots.append({"start": k / FPS, "end": (k + 1) / FPS, "voice": said, "people": people})
    full = sorted(p.way[0][0] for p in clip.panels if p.place == "full")
    return base | {"cuts": [round(c, 4) for c in full[1:]], "shots": shots}
