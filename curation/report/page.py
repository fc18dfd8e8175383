"""Put the page together and write it into the dataset as report/index.html."""

from __future__ import annotations

from importlib import resources

import jinja2
from jinja2 import Environment

from curation.dataset import Dataset
from curation.report import content
from curation.report.pictures import Pictures
from curation.report.status import policy_in_force
from curation.report.timelines import timelines

PAGE = "report/index.html"
_MAX_PICTURED = 200
"""With more sources than that, only those with a timeline have pictures."""


def write_report(dataset: Dataset) -> str:
    """Write the report and return where it is."""
    dataset.store.write(PAGE, render(dataset).encode())
    return dataset.store.path(PAGE)


def render(dataset: Dataset) -> str:
    """Return the page as HTML: no script, no network, every picture inside."""
    n_sources, shown = content.some_sources(dataset)
    pictures = Pictures(dataset, None if n_sources <= _MAX_PICTURED else shown)
    facts = content.facts(dataset)
    policy = policy_in_force(dataset)
    values: dict[str, object] = {
        "overview": content.overview(dataset),
        "distributions": content.distributions(dataset, policy) if policy else [],
        "sheets": content.contact_sheets(dataset, pictures),
        "timelines": timelines(dataset, pictures, shown),
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
