"""The colour of a person's clothes at the chest, by name, from portraits: a heuristic on what lies below the chin.

The patch below the chin holds clothes, but also neck, hair, hands and background; so pixels of the face's own colour
are left out, one colour must hold half of what remains, and most of the portraits must agree. Black, navy and dark
grey look alike on video, hence one name. Garments, hair, glasses and age are not measured by anything here. Pure; a
millisecond a portrait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from annotators.protocols import Image

MIN_SHARE, MIN_AGREE, MIN_PORTRAITS = 0.5, 0.6, 3
"""Share of the patch in one colour, share of the portraits that agree, and least number of these."""
_MIN_PATCH_PX = 400
_SKIN_DISTANCE = 14.0
_TOP, _BESIDE = 1.2, 0.35
_HUES = ((15, "orange"), (33, "yellow"), (85, "green"), (130, "blue"), (150, "purple"), (172, "pink"))
"""Upper limits of OpenCV's hue (0-180) from red on; beyond the last it is red again."""


def patch_colour(rgb: Image, face_xywh: Sequence[float]) -> str | None:
    """Return the colour name of the patch below a face in a portrait, None where none holds half of it."""
    x, y, w, h = face_xywh
    height, width = rgb.shape[:2]
    top, left, right = int(y + _TOP * h), int(x - _BESIDE * w), int(x + (1 + _BESIDE) * w)
    patch = rgb[max(0, top) :, max(0, left) : min(width, right)]
    face = rgb[max(0, int(y + 0.3 * h)) : int(y + 0.8 * h), max(0, int(x + 0.2 * w)) : int(x + 0.8 * w)]
    if patch.shape[0] * patch.shape[1] < _MIN_PATCH_PX or face.size == 0 or top >= height:
        return None
    lab = np.asarray(cv2.cvtColor(patch, cv2.COLOR_RGB2LAB), np.float32).reshape(-1, 3)
    skin = np.median(np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2LAB), np.float32).reshape(-1, 3), axis=0)
    bare = np.hypot(lab[:, 1] - skin[1], lab[:, 2] - skin[2]) < _SKIN_DISTANCE
    # A grey or black cloth has no hue of its own; only what is as bright as the face as well is skin.
    bare &= (np.abs(lab[:, 0] - skin[0]) < 60) & (np.hypot(skin[1] - 128, skin[2] - 128) > _SKIN_DISTANCE)
    if (~bare).sum() < _MIN_PATCH_PX // 2:
        return None
    names = colour_names(patch.reshape(-1, 3)[~bare])
    name, count = Counter(names.tolist()).most_common(1)[0]
    return str(name) if count >= MIN_SHARE * len(names) else None


def colour_names(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.str_]:
    """Return the colour name [n] (`schemas.samples.vocabulary.CLOTHING_COLOURS`) of RGB pixels [n, 3]."""
    hsv = np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels[None]), cv2.COLOR_RGB2HSV))[0].astype(np.int64)
    hue, saturation, value = hsv[:, 0], hsv[:, 1], hsv[:, 2]
    names = np.full(len(pixels), "red", "<U8")
    for limit, name in reversed(_HUES):
        names[hue < limit] = name
    names[(hue < 6)] = "red"
    names[(names == "pink") & (value < 170)] = "red"
    names[(names == "orange") & (value < 150)] = "brown"
    names[(names == "yellow") & (saturation < 110)] = "beige"
    names[(names == "orange") & (saturation < 110)] = "beige"
    plain = (saturation < 60) | ((value < 90) & (saturation < 80))
    names[plain] = "grey"
    names[plain & (value >= 150)] = "white"
    names[(plain & (value < 80)) | (value < 65)] = "dark"
    return names


def clothing_colour(colours: Sequence[str | None]) -> str | None:
    """Return the colour that most portraits of a person agree on, None where they do not or are too few."""
    if len(colours) < MIN_PORTRAITS:
        return None
    name, count = Counter(colours).most_common(1)[0]
    return name if name is not None and count >= MIN_AGREE * len(colours) else None
