"""A puppet with known factors: what it looks like, and what moves it, can be read back from any picture of it.

Identity is a colour and a head width; the mouth opens with the level of its own speech, the head dips with the level of
the user's voice, the hands follow the text, and the head sways sideways by an AR(1) process that nothing conditions.
Without that last factor a generator that has collapsed to the mean could not be told from a good one. Every metric has
a closed form here, so that all of training can be judged without a pretrained network. A frame costs about 0.1 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.samples.sample import SAMPLES_PER_FRAME, State
from schemas.time import PACKED_AUDIO_HZ

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
RefKind = Literal["global", "view", "expression"]

SIZE = 32  # width and height of a picture, pixels

# Frames a pose is held, as in stop motion: a codec that folds as many frames into a latent shows a pose in each.
_HOLD = 4

SWAY_STD_PX = 1.8  # spread of the sideways sway, pixels

SWAY_LIMIT_PX = 4.2  # where the sway is cut off; that takes 1 % of its spread

SWAY_LAG1 = 0.85  # its correlation from pose to pose

# Text by how far the hand at the picture's left and right is raised.
CAPTIONS = {
    (0.0, 0.0): "keeps both hands down",
    (1.0, 0.0): "raises the left hand",
    (0.0, 1.0): "raises the right hand",
    (1.0, 1.0): "raises both hands",
}

_FLOOR_DB, _RANGE_DB, _ROOM_DB = -42.0, 30.0, -60.0
_CENTRE_X, _REST_Y, _NOD_PX = 15.5, 12.5, 2.5
_HEAD_HEIGHT = 8.0
_HAND_X, _HAND_DOWN_Y, _HAND_UP_Y = 2.5, 27.0, 19.0
_BACKGROUND = 0.12
_EDGE_PX = 3.0  # soft, so that a small shift changes the picture nearly linearly: a tiny model can learn it
_MOUTH_SHUT_PX2, _MOUTH_GAIN_PX2 = 9.36, 21.51  # dark area at level 0, and what level 1 adds, soft edges included


@dataclass(frozen=True, slots=True)
class Identity:
    """Who it is."""

    colour: tuple[float, float, float]  # RGB, 0-1
    width: float  # half width of the head, pixels

    def vector(self) -> F64:
        """Return [4]: RGB and half width / 10, so that the entries have like spread."""
        return np.array([*self.colour, self.width / 10.0])


@dataclass(frozen=True, slots=True)
class Scene:
    """All factors of a clip, a value a frame [T]."""

    identity: Identity
    states: tuple[State, ...]
    speech: F64  # level of the character's speech, 0-1; 0 where it does not speak
    user: F64  # level of the user's voice, 0-1; 0 where it does not listen
    sway: F64  # sideways shift, pixels
    hands: tuple[float, float]  # how far the hand at the picture's left and right is raised, 0-1
    seed: int

    @property
    def n_frames(self) -> int:
        """Frames T at 25 fps."""
        return len(self.speech)

    @property
    def caption(self) -> str:
        """The text that tells what the hands do."""
        return CAPTIONS[self.hands]

    def cut(self, start: int, stop: int) -> Scene:
        """Return the frames [start, stop); its seed remains, so its sounds are others than those of the whole."""
        at = slice(start, stop)
        states, speech, user, sway = self.states[at], self.speech[at], self.user[at], self.sway[at]
        return replace(self, states=states, speech=speech, user=user, sway=sway)


def identity(seed: int) -> Identity:
    """Draw an identity: any hue, strong enough to be told from the grey around it, and a head width."""
    rng = np.random.default_rng([seed, 11])
    hue, strength, value = rng.uniform(0, 3), rng.uniform(0.55, 0.8), rng.uniform(0.75, 0.95)
    ramp = np.clip(1.0 - np.abs((hue - np.arange(3) + 1.5) % 3 - 1.5), 0, 1)
    ramp = ramp / ramp.max()
    r, g, b = (float(x) for x in value * (1 - strength * (1 - ramp)))
    return Identity((r, g, b), float(rng.uniform(5.4, 7.4)))


def ar1(rng: np.random.Generator, n: int, lag1: float) -> F64:
    """Return a stationary AR(1) curve of unit spread, [n]: x[i] = lag1 x[i-1] + sqrt(1 - lag1^2) e[i]."""
    noise = rng.standard_normal(n)
    out = np.empty(n)
    for i in range(n):
        out[i] = noise[0] if i == 0 else lag1 * out[i - 1] + np.sqrt(1 - lag1**2) * noise[i]
    return out


def _curve(rng: np.random.Generator, n_frames: int, lag1: float, hold: int) -> F64:
    return np.repeat(ar1(rng, -(-n_frames // hold), lag1), hold)[:n_frames]


def draw_scene(
    seed: int, n_frames: int, who: Identity, runs: Sequence[tuple[State, int]] | None = None,
    hands: tuple[float, float] | None = None, hold: int = _HOLD,
) -> Scene:  # fmt: skip
    """Draw the factors of a clip of T = `n_frames`.

    Args:
        seed: of everything that is random.
        n_frames: frames at 25 fps.
        who: the identity.
        runs: (state, frames) in order; None draws one or two runs.
        hands: how far each hand is raised; None draws one of `CAPTIONS`.
        hold: frames a pose is held.
    """
    rng = np.random.default_rng([seed, 13])
    names: list[State] = ["speak", "listen", "idle", "both"]
    if runs is None:
        first, second = (names[i] for i in rng.choice(4, 2, p=[0.4, 0.35, 0.15, 0.1]))
        cut = int(rng.integers(n_frames // 3, 2 * n_frames // 3)) // hold * hold if rng.random() < 0.5 else n_frames
        runs = [(first, cut), (second, n_frames - cut)]
    states = [s for s, n in runs for _ in range(n)]
    if len(states) != n_frames:
        raise ValueError(f"the runs cover {len(states)} frames, the clip has {n_frames}")
    if hands is None:
        hands = list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))]
    speech, user = (np.clip(0.5 + 0.42 * _curve(rng, n_frames, 0.4, hold), 0, 1) for _ in range(2))
    speaks = np.array([s in ("speak", "both") for s in states])
    hears = np.array([s in ("listen", "both") for s in states])
    sway = np.clip(SWAY_STD_PX * _curve(rng, n_frames, SWAY_LAG1, hold), -SWAY_LIMIT_PX, SWAY_LIMIT_PX)
    return Scene(who, tuple(states), speech * speaks, user * hears, sway, hands, seed)


# ------------------------------------------------------------------------------------------------ pictures


def _ellipse(x: F64, y: F64, cx: F64, cy: F64, rx: F64 | float, ry: F64 | float) -> F64:
    """Return the soft mask [T, H, W] of ellipses: 1 inside, 0 outside, an edge of 3 pixels."""
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    rx, ry = (np.broadcast_to(np.asarray(r, float), cx.shape)[:, None, None] for r in (rx, ry))
    radius = np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2) + 1e-9
    # First-order distance to the edge, in pixels.
    slope = np.sqrt((dx / rx**2) ** 2 + (dy / ry**2) ** 2) / radius + 1e-9
    return np.asarray(np.clip(0.5 + (1 - radius) / slope / _EDGE_PX, 0, 1))


def render(scene: Scene) -> U8:
    """Draw the frames, uint8 RGB [T, 32, 32, 3]."""
    y, x = np.meshgrid(np.arange(SIZE, dtype=float), np.arange(SIZE, dtype=float), indexing="ij")
    y, x = y[None], x[None]
    cx, cy = _CENTRE_X + scene.sway, _REST_Y + _NOD_PX * scene.user
    picture = np.full((scene.n_frames, SIZE, SIZE, 3), _BACKGROUND)

    def paint(mask: F64, colour: Sequence[float] | F64) -> None:
        picture[:] = picture * (1 - mask[..., None]) + mask[..., None] * np.asarray(colour)

    paint(_ellipse(x, y, np.full_like(cx, _CENTRE_X), np.full_like(cx, 33.0), 8.5, 6.0), (0.4, 0.4, 0.4))
    paint(_ellipse(x, y, cx, cy, scene.identity.width, _HEAD_HEIGHT), scene.identity.colour)
    for side in (-1, 1):
        paint(_ellipse(x, y, cx + 2.6 * side, cy - 2.4, 1.2, 1.2), 0.35 * np.asarray(scene.identity.colour))
    paint(_ellipse(x, y, cx, cy + 3.2, 3.4, 0.5 + 2.4 * scene.speech), (0.05, 0.05, 0.05))
    for hand, hand_x in zip(scene.hands, (_HAND_X, SIZE - 1 - _HAND_X), strict=True):
        hand_y = _HAND_DOWN_Y + (_HAND_UP_Y - _HAND_DOWN_Y) * hand
        paint(_ellipse(x, y, np.full_like(cx, hand_x), np.full_like(cx, hand_y), 2.2, 2.6), (0.85, 0.85, 0.85))
    return np.asarray(np.round(picture * 255), dtype=np.uint8)


def reference_pictures(who: Identity, seed: int) -> list[tuple[RefKind, str, U8]]:
    """Draw (kind, name, picture [32, 32, 3]) of an identity at other moments than any clip shows."""
    rng = np.random.default_rng([seed, 17])
    out: list[tuple[RefKind, str, U8]] = []
    shown: list[tuple[RefKind, str]] = [("global", "front"), ("view", "front"), ("expression", "open mouth")]
    for kind, name in shown:
        sway, user, speech = rng.uniform(-2, 2), rng.uniform(0, 1), rng.uniform(0.6, 1) if kind == "expression" else 0.0
        hands = list(CAPTIONS)[int(rng.integers(len(CAPTIONS)))]
        one = Scene(who, ("both",), np.array([speech]), np.array([user]), np.array([sway]), hands, seed)
        out.append((kind, name, render(one)[0]))
    return out


# ------------------------------------------------------------------------------------------------ sound


def tracks(scene: Scene) -> tuple[F32, F32]:
    """Make the two sounds, float32 [T * 1920] at 48 kHz: the character's speech and the user's voice.

    Level 0-1 maps to -42 .. -12 dBFS, hence linear in log-mel; where a track is off there is room tone at -60 dBFS.
    """
    rng = np.random.default_rng([scene.seed, 19])
    speaks = np.array([s in ("speak", "both") for s in scene.states])
    hears = np.array([s in ("listen", "both") for s in scene.states])
    return (
        _voice(rng, scene.speech, speaks, 110.0 + 12.0 * scene.identity.width),
        _voice(rng, scene.user, hears, 150.0),
    )


def _voice(rng: np.random.Generator, level: F64, on: NDArray[np.bool_], pitch_hz: float) -> F32:
    n = len(level) * SAMPLES_PER_FRAME
    t = np.arange(n) / PACKED_AUDIO_HZ
    tone = sum(np.sin(2 * np.pi * pitch_hz * k * t + rng.uniform(0, 6.28)) / k for k in range(1, 13))
    source = np.asarray(tone) + 0.3 * rng.standard_normal(n)
    source /= np.sqrt(np.mean(source**2))
    at = (np.arange(n) + 0.5) / SAMPLES_PER_FRAME - 0.5
    db = np.interp(at, np.arange(len(level)), _FLOOR_DB + _RANGE_DB * level)
    gain = 10 ** (db / 20) * np.repeat(on, SAMPLES_PER_FRAME)
    room = 10 ** (_ROOM_DB / 20) * rng.standard_normal(n)
    return np.asarray(gain * source + room, dtype=np.float32)


def level_of(samples: F32) -> F64:
    """Read the level 0-1 back from a sound, one value a frame [T]: the inverse of `tracks`."""
    power = np.mean(samples.reshape(-1, SAMPLES_PER_FRAME).astype(float) ** 2, axis=1)
    return np.asarray(np.clip((10 * np.log10(power + 1e-12) - _FLOOR_DB) / _RANGE_DB, 0, 1))


# ------------------------------------------------------------------------------------------------ read-out


@dataclass(frozen=True, slots=True)
class Factors:
    """What a picture shows, a value a frame [T]; the inverse of `render`, up to its soft edges."""

    mouth: F64  # opening, 0-1
    nod: F64  # dip of the head, 0-1
    sway: F64  # sideways shift, pixels
    hands: F64  # how far each hand is raised, [T, 2], 0-1
    identity: F64  # RGB and half width / 10, [T, 4]
    brightness: F64  # mean of all pixels, 0-1

    def cut(self, start: int, stop: int) -> Factors:
        """Return the frames [start, stop)."""
        return Factors(**{name: getattr(self, name)[start:stop] for name in self.__slots__})


def _fill(mask_THW: F64) -> F64:
    left = np.maximum.accumulate(mask_THW, axis=2)
    right = np.maximum.accumulate(mask_THW[:, :, ::-1], axis=2)[:, :, ::-1]
    return np.asarray(np.minimum(left, right))


def read_factors(frames: U8) -> Factors:
    """Read every factor from frames, uint8 RGB [T, 32, 32, 3]; any picture gives finite numbers.

    The head is where colour is (all else is grey). Its mask is filled between the outermost coloured pixels of each
    row, so that eyes and mouth, which are holes, do not move its centre; the mouth is the hole in the lower half.
    """
    rgb = frames.astype(float) / 255
    chroma = rgb.max(axis=3) - rgb.min(axis=3)
    full = np.percentile(chroma.reshape(len(rgb), -1), 92, axis=1)
    filled = _fill(np.clip((chroma / (full[:, None, None] + 1e-3) - 0.2) / 0.7, 0, 1))
    mass = filled.sum(axis=(1, 2)) + 1e-6
    y, x = np.meshgrid(np.arange(SIZE, dtype=float), np.arange(SIZE, dtype=float), indexing="ij")
    cx, cy = (filled * x).sum(axis=(1, 2)) / mass, (filled * y).sum(axis=(1, 2)) / mass

    def window(x_px: float, y_px: float, half_x: float, half_y: float) -> F64:
        """Weights [T, H, W] of a box that moves with the head."""
        dx = np.abs(x - (cx + x_px)[:, None, None])
        dy = np.abs(y - (cy + y_px)[:, None, None])
        return np.asarray(np.clip(half_x + 0.5 - dx, 0, 1) * np.clip(half_y + 0.5 - dy, 0, 1))

    light = rgb.max(axis=3)
    skin = window(0, -5.0, 2.0, 1.0)
    colour = (rgb * skin[..., None]).sum(axis=(1, 2)) / (skin.sum(axis=(1, 2))[:, None] + 1e-6)
    near_mouth = window(0, 3.2, 3.6, 3.4)
    hole = np.clip(
        (colour.max(axis=1)[:, None, None] - light) / (colour.max(axis=1)[:, None, None] - 0.05 + 1e-3), 0, 1
    )
    area = (hole * near_mouth).sum(axis=(1, 2))
    full = colour.max(axis=1) - colour.min(axis=1) + 1e-3
    area_px2 = _fill(np.clip(chroma / full[:, None, None], 0, 1)).sum(axis=(1, 2))
    half_width = (area_px2 / (np.pi * _HEAD_HEIGHT) + 1.85) / 1.23  # what the soft edge and the threshold take away
    hands = []
    for part in (rgb[:, :, :6].min(axis=3), rgb[:, :, SIZE - 6 :].min(axis=3)):
        weight = np.clip(part - 0.35, 0, None)
        total = weight.sum(axis=(1, 2)) + 1e-6
        at = (weight.sum(axis=2) * np.arange(SIZE)).sum(axis=1) / total
        hands.append((_HAND_DOWN_Y - at) / (_HAND_DOWN_Y - _HAND_UP_Y))
    return Factors(
        mouth=(area - _MOUTH_SHUT_PX2) / _MOUTH_GAIN_PX2,
        nod=(cy - _REST_Y) / _NOD_PX,
        sway=cx - _CENTRE_X,
        hands=np.stack(hands, axis=1),
        identity=np.concatenate([colour, half_width[:, None] / 10], axis=1),
        brightness=rgb.mean(axis=(1, 2, 3)),
    )
