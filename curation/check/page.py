"""The page of a check: what was found, clip by clip, with a picture of each; no script, no network."""

from __future__ import annotations

from importlib import resources
from itertools import groupby
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment

from curation.check.findings import Checked
from curation.check.limits import Limits
from curation.check.result import Summary
from curation.dataset import Dataset
from curation.report.pictures import Pictures
from schemas.printable import printable

PAGE = "index.html"
_MOST = 300
"""Clips with findings that are shown; the tables hold all."""


def render(dataset: Dataset, name: str, checked: Checked, told: Summary, limits: Limits) -> str:
    """Return the page of a check of the dataset called `name`, which was measured in `dataset`."""
    grouped = [(clip, list(found)) for clip, found in groupby(checked.findings, key=lambda f: f.clip)]
    faces = _faces(dataset, {clip for clip, _ in grouped[:_MOST]}, checked)
    folder = resources.files("curation.check")
    style = (resources.files("curation.report") / "page.css").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    template = environment.from_string((folder / "page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=style, name=name, told=told, clips=grouped[:_MOST], left=max(0, len(grouped) - _MOST), faces=faces,
        limits=[(n, v, Limits.model_fields[n].description) for n, v in limits.model_dump().items()],
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """Return a value with what a terminal or a page would obey written out: names are others' text."""
    return printable(value) if type(value) is str else value


def _faces(dataset: Dataset, clips: set[str], checked: Checked) -> dict[str, list[str]]:
    """Return up to three small pictures of the person of each clip, as data URIs."""
    shown = checked.measured.filter(pc.is_in(checked.measured.column("clip"), pa.array(sorted(clips), pa.string())))
    columns = (shown.column(name) for name in ("clip", "track_id", "duration_s"))
    rows = [tuple(value.as_py() for value in row) for row in zip(*columns, strict=True)]
    wanted = {clip: (track, length_s) for clip, track, length_s in rows if track}
    pictures = Pictures(dataset, {track[:16] for track, _ in wanted.values()})
    return {clip: [uri for _, uri in pictures.spread(track, 0.0, s, 3)] for clip, (track, s) in wanted.items()}
