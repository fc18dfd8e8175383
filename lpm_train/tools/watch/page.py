"""The page of a run: curves, the held-out clips by step, their conditions, the configuration. No script, no network.

Everything is read from the run's own files, so the page of a continued run tells all of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import av
import cv2
import jinja2
from jinja2 import Environment
from markupsafe import Markup

from lpm_train.config import Config, to_json
from lpm_train.tools.judge.faces import U8
from lpm_train.tools.watch.curves import Curve, chart, lanes
from lpm_train.training.log import read_log

_TRAIN = {
    "Training loss": ("loss", "generator_loss"), "Learning rate": ("lr",),
    "Gradient norm": ("grad_norm", "critic_norm"), "Samples a second": ("samples_per_s",),
}  # fmt: skip
"""Charts of what is measured at each step."""

_LINEAR = ("Learning rate", "Samples a second")

_POSTER_PX, _POSTER_QUALITY = 200, 70  # height, and that of JPEG


def _curves(records: Sequence[Mapping[str, Any]], names: Sequence[str], dots: bool = False) -> list[Curve]:
    points = {n: [(float(r["step"]), float(r[n])) for r in records if n in r] for n in names}
    return [Curve(n.removeprefix("heldout_loss.").replace("_", " "), p, dots) for n, p in points.items() if p]


def _chart_of(figure: str) -> str:
    """Name the chart that a held-out figure belongs to."""
    if not figure.startswith("heldout_loss."):
        return "Held-out loss" if figure == "heldout_loss" else figure.replace("_", " ").capitalize()
    return f"Held-out loss by {'noise level' if figure.startswith('heldout_loss.t0.') else 'state'}"


def charts(records: Sequence[Mapping[str, Any]], last: int) -> list[Markup]:
    """Draw all curves: losses of training and of validation, rate, norm, speed, and the other held-out figures.

    Args:
        records: of the log.
        last: the step at which the axis ends.
    """
    steps = [r for r in records if "evaluation" not in r]
    looks: list[dict[str, float]] = [{"step": r["step"], **r["evaluation"]} for r in records if "evaluation" in r]
    loss, rate, norm, speed = (
        chart(title, _curves(steps, names), last, linear=title in _LINEAR) for title, names in _TRAIN.items()
    )
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(n for r in looks for n in r if n != "step"):
        groups.setdefault(_chart_of(name), []).append(name)
    held = [chart(title, _curves(looks, names, dots=True), last) for title, names in groups.items()]
    return [c for c in (loss, *held[:1], rate, norm, *held[1:], speed) if c]


def poster(video: Path) -> str:
    """Return a video's first picture as a data URI, small: what stands there before it is played; "" if damaged."""
    try:
        with av.open(str(video), format="mp4") as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    except (av.FFmpegError, StopIteration):
        return ""
    return thumbnail(picture)


def thumbnail(picture: U8) -> str:
    """Return a picture [H, W, 3], RGB, as a data URI, small."""
    height = min(_POSTER_PX, picture.shape[0])
    size = round(picture.shape[1] * height / picture.shape[0]), height
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _POSTER_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _numbered(told: Sequence[tuple[str, float, float]]) -> tuple[list[str], list[tuple[str, float, float]]]:
    """Return the distinct texts that a clip is told, and their numbers, from 1 on, in place of them."""
    texts = list(dict.fromkeys(text for text, *_ in told))
    return texts, [(str(1 + texts.index(text)), start, end) for text, start, end in told]


def page(
    config: Config, out: Path, clips: Mapping[str, Mapping[str, Any]], videos: Sequence[tuple[int, str, str]], step: int
) -> str:
    """Write the page as HTML.

    Args:
        config: of the run.
        out: its directory, whose log is read.
        clips: what drives each clip, by its name (`watching.Shown`).
        videos: (step, clip's name, relative address), by step.
        step: where the run stands.
    """
    records = read_log(out)
    looks = {int(r["step"]): r["evaluation"] for r in records if "evaluation" in r}
    select = config.run.select
    best = min((s for s in looks if select in looks[s]), key=lambda s: float(looks[s][select]), default=None)
    cards = []
    for name, said in clips.items():
        mine = [
            (s, address, poster(out / address), looks.get(s, {}).get(select))
            for s, n, address in reversed(videos)
            if n == name
        ]
        runs = [(str(state), float(a), float(b)) for state, a, b in said["runs"]]
        spent: dict[str, float] = {}
        for state, a, b in runs:
            spent[state] = spent.get(state, 0.0) + b - a
        texts, when = _numbered([(str(text), float(a), float(b)) for text, a, b in said["told"]])
        cards.append({
            **said, "lane": lanes(runs, said["seconds"], "states"), "spent": spent, "videos": mine, "texts": texts,
            "told_lane": lanes(when, said["seconds"], "texts") if len(texts) > 1 else "",
        })  # fmt: skip
    last = looks[max(looks)] if looks else {}
    values = {
        "name": out.name, "stage": config.run.stage.choice, "step": step, "steps": config.run.steps,
        "charts": charts(records, max(step, 1)), "cards": [c for c in cards if c["videos"]],
        "best": best, "select": select, "first": looks.get(min(looks, default=0), {}), "last": last,
        "config": to_json(config),
        "samples": config.data.batch * step, "root": config.data.root, "where": config.data.where,
    }  # fmt: skip
    template = (resources.files("lpm_train.tools.watch") / "page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(values)
