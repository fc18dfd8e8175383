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

from lpm_train.config import Config, to_json
from lpm_train.log import read_log
from lpm_train.tools.watch.curves import Curve, chart, lanes

_TRAIN = {
    "Training loss": ("loss", "generator_loss"), "Learning rate": ("lr",),
    "Gradient norm": ("grad_norm", "critic_norm"), "Samples a second": ("samples_per_s",),
}  # fmt: skip
"""Charts of what is measured at each step."""

_LINEAR = ("Learning rate", "Samples a second")

_POSTER_PX = 200  # height


def _curves(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Curve]:
    points = {n: [(float(r["step"]), float(r[n])) for r in records if n in r] for n in names}
    return [Curve(n.replace("_", " "), p) for n, p in points.items() if p]


def charts(records: Sequence[Mapping[str, Any]], last: int) -> list[str]:
    """Draw all curves: losses of training and of validation, rate, norm, speed, and the other held-out figures."""
    steps = [r for r in records if "evaluation" not in r]
    looks: list[dict[str, float]] = [{"step": r["step"], **r["evaluation"]} for r in records if "evaluation" in r]
    drawn = [
        chart(title if title != "Loss" else "Training loss", _curves(steps, n), last) for title, n in _TRAIN.items()
    ]
    names = list(dict.fromkeys(n for r in looks for n in r if n != "step"))
    groups: dict[str, list[str]] = {}
    for name in names:
        kind = "by noise level" if ".t0." in name else "by state" if name.startswith("heldout_loss.") else name
        groups.setdefault(f"Held-out loss {kind}" if kind.startswith("by ") else kind, []).append(name)
    held = []
    for title, members in groups.items():
        curves = [
            Curve(m.removeprefix("heldout_loss.") or m, [(float(r["step"]), r[m]) for r in looks if m in r], dots=True)
            for m in members
        ]
        held.append(chart("Held-out loss" if title == "heldout_loss" else title, curves, last))
    return [c for c in (drawn[0], *held[:1], *drawn[1:3], *held[1:], *drawn[3:]) if c]


def poster(video: Path) -> str:
    """Return a video's first picture as a data URI, small: what stands there before it is played; "" if damaged."""
    try:
        with av.open(str(video)) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="bgr24")
    except (av.FFmpegError, StopIteration):
        return ""
    height = min(_POSTER_PX, picture.shape[0])
    size = round(picture.shape[1] * height / picture.shape[0]), height
    jpeg = cv2.imencode(".jpg", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


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
        cards.append({**said, "lane": lanes(runs, said["seconds"]), "spent": spent, "videos": mine})
    last = looks[max(looks)] if looks else {}
    values = {
        "name": out.name, "stage": config.run.stage.choice, "step": step, "steps": config.run.steps,
        "charts": charts(records, max(step, 1)), "cards": [c for c in cards if c["videos"]],
        "best": best, "select": select, "first": looks.get(min(looks, default=0), {}), "last": last,
        "config": to_json(config), "n_steps": len({s for s, _, _ in videos}),
        "samples": config.data.batch * step, "root": config.data.root, "where": config.data.where,
    }  # fmt: skip
    template = (resources.files("lpm_train.tools.watch") / "page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(values)
