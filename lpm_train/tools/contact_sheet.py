"""A picture of a batch as the model gets it: references, frames, sounds, modes and text of every sample.

Frames are decoded back from latents, so a wrong codec, a shifted window or swapped channels show at a glance. Under the
frames run the speak and listen features, with a bar that is bright where the stream is on. Costs a decode.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.batch import KINDS, STATES, Batch
from lpm_train.data.clip import to_pixels
from lpm_train.encoders.codec import Codec

U8 = NDArray[np.uint8]
_TILE, _FRAMES, _STRIP, _TEXT, _GAP = 128, 8, 36, 18, 8  # pixels, but for the number of frames
_ON, _OFF, _INK = (90, 200, 90), (60, 60, 60), (230, 230, 230)


def write_contact_sheet(path: str | Path, batch: Batch, codec: Codec, captions: list[str], rows: int = 6) -> None:
    """Draw the first rows of a batch into a PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    sheet = np.concatenate([_row(batch.select([i]), codec, captions[i]) for i in range(min(rows, len(batch)))])
    done, png = cv2.imencode(".png", sheet[..., ::-1])
    if not done:
        raise OSError(f"cannot encode {path}")
    Path(path).write_bytes(png.tobytes())


@torch.no_grad()
def _row(one: Batch, codec: Codec, caption: str) -> U8:
    c = one.cond
    frames = to_pixels(codec.decode(one.x_BFCHW)[0][0])
    picks = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
    K = c.ref_BKCHW.shape[1]
    kinds = [list(KINDS)[int(k)] if on else "-" for k, on in zip(c.ref_kind_BK[0], c.ref_mask_BK[0], strict=True)]
    refs = [to_pixels(codec.decode(c.ref_BKCHW[:, k : k + 1])[0][0, :1])[0] for k in range(K)]
    blank = np.full((_TILE, _TILE, 3), 30, np.uint8)
    tiles = [_label(_fit(r) if k != "-" else blank, k) for r, k in zip(refs, kinds, strict=True)]
    left = K * _TILE
    pictures = np.concatenate([*tiles, *(_fit(frames[i]) for i in picks)], 1)
    width = pictures.shape[1]
    strips = [
        _strip(x[0], on[0], width, left, name)
        for name, x, on in (("speak", c.speak_BTA, c.speak_on_BF), ("listen", c.listen_BTA, c.listen_on_BF))
    ]
    states = [STATES[int(s)] for s in one.state_BF[0]]
    runs = [s for i, s in enumerate(states) if i == 0 or s != states[i - 1]]
    text = caption if c.text_mask_BL.any() else "(text hidden)"
    head = _write(np.full((_TEXT, width, 3), 20, np.uint8), f"{one.sample_ids[0]}  {'>'.join(runs)}  {text}")
    return np.concatenate([head, pictures, *strips, np.zeros((_GAP, width, 3), np.uint8)])


def _fit(picture: U8) -> U8:
    scale = _TILE / max(picture.shape[:2])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    out = np.zeros((_TILE, _TILE, 3), np.uint8)
    out[: size[1], : size[0]] = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_NEAREST)
    return out


def _strip(x_TA: Tensor, on_F: Tensor, width: int, left: int, name: str) -> U8:
    x = x_TA.float().cpu().numpy().T[::-1]
    low, high = float(x.min()), float(x.max())
    grey = ((x - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    right = width - left
    grey = cv2.resize(np.ascontiguousarray(grey), (right, _STRIP - 6), interpolation=cv2.INTER_AREA)
    bar = np.array([_ON if o else _OFF for o in on_F.tolist()], np.uint8)
    bar = bar[np.arange(right) * len(bar) // right]
    out = np.full((_STRIP, width, 3), 20, np.uint8)
    out[: _STRIP - 6, left:] = grey[..., None]
    out[_STRIP - 6 : -1, left:] = bar
    return _write(out, f"{name} [{low:.2f}, {high:.2f}]")


def _label(picture: U8, text: str) -> U8:
    return _write(picture.copy(), text)


def _write(canvas: U8, text: str) -> U8:
    cv2.putText(canvas, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return canvas
