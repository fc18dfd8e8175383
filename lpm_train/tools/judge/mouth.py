"""Does the mouth stay shut while the character listens or is silent? How much it moves then, against the data's own.

Frames are parted by the sound that drives them: `voiced` (it speaks and is heard), `silent` (nothing of it is heard,
whoever else speaks), and `listen`, the silent frames in which somebody else is heard. A still mouth is never quite
still to a face model, and people swallow and smile, so a figure is read beside the same figure of the clips that drove
the generator: those carry the same noise of the same reader. Pure arithmetic; microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lpm_train.batch import STATES
from lpm_train.tools.judge.faces import F32, I8, MIN_FRAMES, Bools, Figures
from schemas.samples.sample import SAMPLES_PER_FRAME

SITUATIONS = ("silent", "listen", "voiced")

KINDS = ("motion", "spread", "open")
"""Mean change of the opening from frame to frame; its standard deviation within a clip; share of frames with an open
mouth."""

_BELOW_DB = 30.0  # quieter than the loudest speech of the clip by this much is silence: pauses, room tone, breath

_FLOOR_DB = -50.0  # and so is this, dBFS, however quiet the speech is

# Lips open 100 to 300 ms before the voice and shut after it (Chandrasekaran et al. 2009, PLoS Comput Biol 5(7)): frames
# this near to voice belong to it, and are neither silent nor voiced.
_NEAR_VOICE = 7  # frames, 0.28 s


@dataclass(frozen=True)
class Seen:
    """The mouth of one clip, T frames, and what happens in each."""

    opening_T: F32  # of a face reader; nan where no face was found
    during: Mapping[str, Bools]  # situation -> frames [T]

    def part(self, start: int, stop: int) -> Seen:
        """Take frames [start, stop)."""
        return Seen(self.opening_T[start:stop], {n: m[start:stop] for n, m in self.during.items()})


def situations(speech_N: F32, state_T: I8) -> dict[str, Bools]:
    """Part frames by what is said and heard in them.

    Args:
        speech_N: what the character says, float in [-1, 1] at 48 kHz, [T * 1920] samples.
        state_T: values of `batch.STATES`; speech that is heard while it does not speak is somebody else's.

    Returns:
        Frames [T] of each of `SITUATIONS`.
    """
    power = np.mean(speech_N[: len(state_T) * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME) ** 2, axis=1)
    level_T, speaks_T = 10 * np.log10(power + 1e-12), (state_T & 1).astype(bool)
    loudest = float(np.percentile(level_T[speaks_T], 95)) if speaks_T.any() else 0.0
    voiced = speaks_T & (level_T > max(_FLOOR_DB, loudest - _BELOW_DB))
    near = np.convolve(voiced, np.ones(2 * _NEAR_VOICE + 1), mode="full")[_NEAR_VOICE : _NEAR_VOICE + len(voiced)] > 0.5
    silent = ~near
    return {"silent": silent, "listen": silent & (state_T == STATES.index("listen")), "voiced": voiced}


def mouth_figures(clips: Sequence[Seen], open_from: float) -> Figures:
    """Measure mouths in each situation, all clips as one.

    Args:
        clips: what was seen.
        open_from: an opening from which on a mouth is open.

    Returns:
        `SITUATION.KIND`, see `KINDS`, in the reader's unit of opening; None where fewer than a second of frames show a
        mouth, with the reason.
    """
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name in SITUATIONS:
        parts = [c.opening_T[c.during[name] & np.isfinite(c.opening_T)] for c in clips]
        changes = np.concatenate([_changes(c.opening_T, c.during[name]) for c in clips] or [np.zeros(0, np.float32)])
        n, all_frames = sum(map(len, parts)), sum(int(c.during[name].sum()) for c in clips)
        keys = [f"{name}.{kind}" for kind in KINDS]
        if min(n, len(changes)) < MIN_FRAMES:
            values |= dict.fromkeys(keys)
            reasons |= dict.fromkeys(keys, f"a mouth was seen in {n} of {all_frames} {_SAID[name]} frames: too few")
            continue
        variance = sum(len(p) * float(np.var(p, dtype=np.float64)) for p in parts if len(p)) / n
        opened = sum(int((p >= open_from).sum()) for p in parts) / n
        values |= dict(zip(keys, (float(changes.mean()), variance**0.5, opened), strict=True))
    return Figures(values, reasons)


_SAID = {"silent": "silent", "listen": "listening", "voiced": "voiced"}


def follow(made: Sequence[Seen], data: Sequence[Seen], lead: int = 0) -> Figures:
    """Ask whether generated lips open when those of the clips did whose sound drives them.

    Sound says when lips open, and less how far: a good generator of unseen clips stays below 1 too.

    Args:
        made: generated clips, each a whole number of times as long as the clip that drove it.
        data: the clips that drove them.
        lead: frames of sound before a clip that have no picture, played again with it (`picture_frames`).

    Returns:
        `lips.follow`, the correlation of the openings over voiced frames of all clips, each clip's mean taken off, in
        [-1, 1]; None where fewer than a second of frames show both mouths, or one of them never moves.
    """
    pairs = [(np.zeros(0), np.zeros(0))]
    for ours, theirs in zip(made, data, strict=True):
        once = np.concatenate([np.full(lead, np.nan, np.float32), theirs.opening_T])
        true_T = np.tile(once, -(-(len(ours.opening_T) + lead) // len(once)))[lead : lead + len(ours.opening_T)]
        both = ours.during["voiced"] & np.isfinite(ours.opening_T) & np.isfinite(true_T)
        if both.any():
            pairs.append((_centred(ours.opening_T[both]), _centred(true_T[both])))
    a, b = (np.concatenate(x) for x in zip(*pairs, strict=True))
    power = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if len(a) < MIN_FRAMES or not power:
        why = f"both mouths were seen to move in {len(a)} voiced frames"
        return Figures({"lips.follow": None}, {"lips.follow": why})
    return Figures({"lips.follow": float((a * b).sum()) / power}, {})


def _centred(x: F32) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    return np.asarray(wide - wide.mean(), np.float64)


def _changes(opening_T: F32, during_T: Bools) -> F32:
    """Return how much a mouth changes between neighbouring frames that both belong to a situation and show it."""
    change = np.abs(np.diff(opening_T))
    return change[during_T[1:] & during_T[:-1] & np.isfinite(change)]


def against_data(made: Mapping[int, Sequence[Seen]], data: Sequence[Seen], open_from: float) -> Figures:
    """Measure generated mouths at several lengths beside those of the data.

    Args:
        made: generated clips by length, in training clips.
        data: the clips that drove them.
        open_from: see `mouth_figures`.

    Returns:
        `data.mouth.SITUATION.KIND`, `mouth.xLENGTH.SITUATION.KIND`, and with `_ratio` the latter over the former.
    """
    real = mouth_figures(data, open_from)
    values = {f"data.mouth.{n}": v for n, v in real.values.items()}
    reasons = {f"data.mouth.{n}": why for n, why in real.reasons.items()}
    for length, clips in made.items():
        found = mouth_figures(clips, open_from)
        for name, value in found.values.items():
            key, of = f"mouth.x{length}.{name}", real.values[name]
            values |= {key: value, f"{key}_ratio": value / of if value is not None and of else None}
            if value is None:
                reasons |= dict.fromkeys((key, f"{key}_ratio"), found.reasons[name])
            elif not of:
                reasons[f"{key}_ratio"] = "in the data: " + real.reasons.get(name, "none at all")
    return Figures(values, reasons)


def unmeasured(length: int, why: str) -> Figures:
    """Return the figures of a length that could not be generated."""
    names = [f"mouth.x{length}.{s}.{k}{end}" for s in SITUATIONS for k in KINDS for end in ("", "_ratio")]
    return Figures(dict.fromkeys(names), dict.fromkeys(names, why))


def lines(figures: Figures) -> Iterator[str]:
    """Yield the figures of mouths for people: a row a situation and length, ratios to the data in brackets."""
    values, rows = figures.values, ["data.mouth"]
    rows += dict.fromkeys(n.rsplit(".", 2)[0] for n in values if n.startswith("mouth.x"))
    yield f"  {'mouth':8s} {'length':>6s}" + "".join(f"{kind:>20s}" for kind in KINDS)
    for situation in SITUATIONS:
        for row in rows:
            keys = [f"{row}.{situation}.{kind}" for kind in KINDS]
            head = f"  {situation:8s} {row.removeprefix('mouth.').removesuffix('.mouth'):>6s}"
            if (why := figures.reasons.get(keys[0])) is not None:
                yield f"{head}   not measured: {why}"
                continue
            cells = (f"{values[k]:.4g}" + _bracket(values.get(f"{k}_ratio")) for k in keys)
            yield head + "".join(f"{cell:>20s}" for cell in cells)


def _bracket(ratio: float | None) -> str:
    return "" if ratio is None else f" ({ratio:.2f})"
