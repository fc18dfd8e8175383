"""Rows of labelled pictures, gathered into JPEG pages; part of benchmarks/contact_sheets.py.

Text is drawn with OpenCV's own strokes, which know ASCII alone: other letters become question marks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from curation.media.encode import encode_jpeg

Image = npt.NDArray[np.uint8]

TILE_PX, LINE_PX, GAP_PX, WIDTH_PX, PAGE_PX = 160, 16, 6, 1480, 1900
"""Side of a picture, height of a line of text, space between rows, width and greatest height of a page."""

INK, PAPER, PLAIN = (235, 235, 235), (24, 24, 24), (70, 70, 70)
GOOD, BAD = (70, 190, 80), (230, 60, 50)
"""Borders of pictures that the truth calls right and wrong."""


@dataclass(frozen=True)
class Tile:
    """A picture with a border and lines of text under it; without a picture the place stays empty."""

    picture: Image | None
    lines: tuple[str, ...] = ()
    border: tuple[int, int, int] = PLAIN


def write(canvas: Image, text: str, x: int, y: int) -> None:
    """Write one line with its upper left corner at x, y."""
    cv2.putText(canvas, text, (x, y + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, INK, 1, cv2.LINE_AA)


def fit(picture: Image, side: int = TILE_PX) -> Image:
    """Return a picture scaled into a square, in its middle."""
    scale = side / max(picture.shape[:2])
    width, height = (max(1, round(n * scale)) for n in (picture.shape[1], picture.shape[0]))
    out = np.full((side, side, 3), PAPER, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    small = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)
    out[top : top + height, left : left + width] = small
    return out


def row(title: str, tiles: Sequence[Tile], text: str = "") -> Image:
    """Return one row: its title, its pictures side by side (on several lines if need be), a text beside the last."""
    across = WIDTH_PX // (TILE_PX + GAP_PX)
    parts = [_title(title)]
    for first in range(0, max(1, len(tiles)), across):
        parts.append(_tiles(tiles[first : first + across], text if first + across >= len(tiles) else ""))
    return np.concatenate([*parts, np.full((GAP_PX, WIDTH_PX, 3), PAPER, np.uint8)])


def _title(text: str) -> Image:
    out = np.full((LINE_PX, WIDTH_PX, 3), 52, np.uint8)
    write(out, text, GAP_PX, 0)
    return out


def _tiles(tiles: Sequence[Tile], text: str) -> Image:
    height = TILE_PX + LINE_PX * max((len(x.lines) for x in tiles), default=0) + 4
    x = GAP_PX + len(tiles) * (TILE_PX + GAP_PX)
    lines = textwrap.wrap(text, max(20, (WIDTH_PX - x) // 7)) if text else []
    out = np.full((max(height, LINE_PX * len(lines)), WIDTH_PX, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        left = GAP_PX + i * (TILE_PX + GAP_PX)
        if tile.picture is not None:
            out[2 : 2 + TILE_PX, left : left + TILE_PX] = fit(tile.picture)
            cv2.rectangle(out, (left - 2, 0), (left + TILE_PX + 1, TILE_PX + 3), tile.border, 2)
        for n, line in enumerate(tile.lines):
            write(out, line[:26], left, TILE_PX + 4 + n * LINE_PX)
    for n, line in enumerate(lines):
        write(out, line, x, n * LINE_PX)
    return out


def write_pages(folder: Path, stem: str, rows: Iterable[Image]) -> list[Path]:
    """Write rows into `<stem>-001.jpg` and on, as many a page as fit; return the files."""
    pages: list[Path] = []
    page: list[Image] = []

    def close() -> None:
        if page:
            file = folder / f"{stem}-{len(pages) + 1:03d}.jpg"
            file.write_bytes(encode_jpeg(np.concatenate(page), 88))
            pages.append(file)
            page.clear()

    for one in rows:
        if page and sum(map(len, page)) + len(one) > PAGE_PX:
            close()
        page.append(one)
    close()
    return pages
