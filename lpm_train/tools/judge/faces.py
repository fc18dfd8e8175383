"""Who is seen and do the lips follow the sound: figures of a generated video that need face models.

The trainer has no face model. A `FaceReader` is a part, by default the pipeline's where its models are here; this is
the arithmetic on what it reads: distance of each picture's face to that of the reference pictures, over time, and
whether lips and speech belong together. What cannot be measured is None, with the reason beside it. Costs what the
reader costs, about 10 ms a picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray

from lpm_train.storage import DataError
from schemas.settings.parts import AUTO, Absent, Declared, Part
from schemas.settings.use import UseError

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
I8 = NDArray[np.int8]
Bools = NDArray[np.bool_]

EVERY = 12  # frames between two looks at who it is (0.48 s)

MIN_FRAMES = 25  # a second of lips is the least that says anything


class NoFaceModelsError(DataError):
    """Face models or their weights are not here."""


@dataclass(frozen=True)
class Look:
    """What a reader saw in T frames; nan where no face was found, and in `who_TE` where it was not asked."""

    who_TE: F32  # descriptor of the face
    lips_TL: F32  # shape of the lips, whatever the reader's `sync` compares with sound
    opening_T: F32  # gap between the lips over the height of the face

    @property
    def seen(self) -> Bools:
        """Frames in which a face was found."""
        return np.isfinite(self.opening_T)


@dataclass(frozen=True)
class Sync:
    """How lips and sound belong together."""

    own_voice: float  # probability that this voice moves these lips
    confidence: float  # by how much the best lag stands out, nats a frame
    offset_ms: float  # positive: the sound comes after the lips


class FaceReader(Protocol):
    """Face models behind plain arrays."""

    same_person_distance: float  # two descriptors of one person are nearer than this (L2)
    open_from: float  # `Look.opening_T` from which on a mouth is open

    def look(self, frames: Iterable[U8], every: int) -> Look:
        """Read the largest face of each frame, uint8 RGB [H, W, 3], and who it is on every `every`-th."""

    def sync(self, look: Look, wave_N: F32, rate_hz: int, use_T: Bools) -> Sync | None:
        """Compare lips with sound of the same length over the frames of `use_T`; None where that is too little."""

    def close(self) -> None:
        """Release the models."""


_READERS = Declared(
    {
        "pipeline": "workflows.trainer_faces:PipelineFaces", "puppet": "lpm_train.proof.puppet_faces:PuppetFaces",
        "none": Absent("none"),
    },
    auto=("pipeline",), default=AUTO,
)  # fmt: skip
FacesPart = Annotated[Part[FaceReader | None], _READERS]


def faces(use: str = AUTO) -> Part[FaceReader | None]:
    """Choose a face reader."""
    return _READERS.read(FaceReader, use)


def open_faces(chosen: Part[FaceReader | None]) -> tuple[FaceReader | None, str]:
    """Load the models of a face reader; -> (reader, ""), or (None, why there is none).

    Raises NoFaceModelsError, UseError where a reader was asked for by name and cannot be had.
    """
    try:
        return chosen.build(), "" if chosen.at_work else "eval.faces=none"
    except (NoFaceModelsError, UseError) as e:
        if chosen.choice != AUTO:
            raise
        return None, str(e)


@dataclass(frozen=True)
class Figures:
    """Numbers by name, and why those that are None are None."""

    values: dict[str, float | None]
    reasons: dict[str, str]


def mean_of(parts: Iterable[Figures], prefix: str = "") -> Figures:
    """Average each figure over the clips that have it; None where none has, for the first clip's reason."""
    parts = list(parts)
    names = {n: None for p in parts for n in p.values}
    known = {n: [v for p in parts if (v := p.values.get(n)) is not None] for n in names}
    values = {prefix + n: float(np.mean(v)) if v else None for n, v in known.items()}
    reasons = {prefix + n: next(p.reasons[n] for p in parts if n in p.reasons) for n, v in known.items() if not v}
    return Figures(values, reasons)


def reference_of(reader: FaceReader, pictures: Iterable[U8]) -> F32 | None:
    """Return the mean descriptor [E] of the faces in reference pictures; None where none shows a face."""
    who = reader.look(pictures, 1).who_TE
    found = who[np.isfinite(who).all(axis=1)]
    return np.asarray(found.mean(axis=0), np.float32) if len(found) else None


def identity_figures(look: Look, reference_E: F32 | None, window: int, same: float) -> Figures:
    """Compare the face over time with the reference.

    Args:
        look: what was seen.
        reference_E: descriptor of the references, see `reference_of`.
        window: frames of a training clip; the first and the last so many are compared.
        same: distance below which two descriptors are one person's.

    Returns:
        `faces.seen`, the share of frames with a face; `identity.first`, `identity.last`: mean L2 distance to the
        reference over the first and the last window; `identity.slope`: least squares, a window; `identity.same`:
        share of looks nearer than `same`.
    """
    names = ("identity.first", "identity.last", "identity.slope", "identity.same")
    seen = {"faces.seen": float(look.seen.mean()) if len(look.seen) else 0.0}
    at = np.flatnonzero(np.isfinite(look.who_TE).all(axis=1))
    why = "no reference picture shows a face"
    if reference_E is not None:
        why = f"no face where it was looked for ({look.seen.sum()} of {len(look.seen)} frames show one)"
    if reference_E is None or not len(at):
        return Figures({**seen, **dict.fromkeys(names)}, dict.fromkeys(names, why))
    far = np.linalg.norm(look.who_TE[at] - reference_E, axis=1)
    first, last = far[at < window], far[at >= len(look.seen) - window]
    values: dict[str, float | None] = {
        **seen,
        "identity.first": float(first.mean()) if len(first) else None,
        "identity.last": float(last.mean()) if len(last) else None,
        "identity.slope": float(np.polyfit(at / window, far, 1)[0]) if len(at) > 1 else None,
        "identity.same": float((far < same).mean()),
    }
    reasons = {"identity.first": "no face in the first window", "identity.last": "no face in the last window",
               "identity.slope": "a face in one look only"}  # fmt: skip
    return Figures(values, {n: why for n, why in reasons.items() if values[n] is None})


def lip_figures(reader: FaceReader, look: Look, wave_N: F32, rate_hz: int, speaks_T: Bools) -> Figures:
    """Compare the lips with the sound that drove them.

    Args:
        reader: made `look`.
        look: what was seen, T frames.
        wave_N: what the character says, of the length of the frames.
        rate_hz: of the sound.
        speaks_T: frames in which it speaks.

    Returns:
        `sync.own_voice`, `sync.confidence`, `sync.offset_ms` over frames with speech, see `Sync`.
    """
    names, speech = ("sync.own_voice", "sync.confidence", "sync.offset_ms"), look.seen & speaks_T
    found = reader.sync(look, wave_N, rate_hz, speaks_T) if speech.sum() >= MIN_FRAMES else None
    if found is None:
        why = f"{speech.sum()} frames with both a face and speech are too few"
        return Figures(dict.fromkeys(names), dict.fromkeys(names, why))
    return Figures(dict(zip(names, (found.own_voice, found.confidence, found.offset_ms), strict=True)), {})
