"""Put the page together and write it into the dataset as report/index.html."""

from __future__ import annotations

from importlib import resources

import jinja2
from jinja2 import Environment

from curation.dataset import Dataset
from curation.report import cards, content, svg
from curation.report.clips import Clips
from curation.report.frames import Frames
from curation.report.pictures import Pictures
from curation.report.status import policy_in_force
from curation.report.timelines import timelines

PAGE = "report/index.html"
_MAX_PICTURED = 200
"""With more sources than that, only those with a timeline have pictures."""


def write_report(dataset: Dataset) -> str:
    """Write the report and return where it is."""
    clips = Clips(dataset.store)
    dataset.store.write(PAGE, render(dataset, clips).encode())
    clips.tidy()
    return dataset.store.place(PAGE)


def render(dataset: Dataset, clips: Clips | None = None) -> str:
    """Return the page as HTML: no script, no network, every picture inside; what it plays is beside it.

    Without `clips` nothing is written and nothing plays.
    """
    n_sources, shown = content.some_sources(dataset)
    pictures = Pictures(dataset, None if n_sources <= _MAX_PICTURED else shown)
    facts = content.facts(dataset)
    policy = policy_in_force(dataset)
    frames = Frames(dataset)
    n_out, groups = cards.left_out(dataset, policy, frames, clips, pictures)
    values: dict[str, object] = {
        "overview": content.overview(dataset),
        "distributions": content.distributions(dataset, policy) if policy else [],
        "kept": cards.kept(dataset, frames, clips, pictures),
        "plays": clips is not None,
        "groups": groups,
        "n_out": n_out,
        "kinds": svg.KINDS,
        "timelines": timelines(dataset, pictures, shown, policy),
        "n_sources": n_sources,
        "people": content.people(dataset, pictures),
        "facts": facts,
        "policy": policy,
    }
    folder = resources.files("curation.report")
    template = (folder / "page.html.j2").read_text(encoding="utf-8")
    style = (folder / "page.css").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(style=style, **values)
