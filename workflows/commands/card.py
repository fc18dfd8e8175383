"""`lpm card`: a dataset's card and its Croissant metadata, from what the dataset holds."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

from curation.dataset import Dataset


def card(out: Console, target: str, name: str | None, url: str | None) -> None:
    """Write README.md and croissant.json into the dataset, and say where they are."""
    from curation.publish import croissant
    from curation.publish.card import CARD, write_card
    from curation.publish.figures import figures

    dataset = Dataset(target)
    called = name or dataset.store.root.rstrip("/").rpartition("/")[2]
    found = figures(dataset)
    published = datetime.now(UTC).date().isoformat()
    place = url or "https://example.org/" + called.replace(" ", "-")
    dataset.store.write_json(croissant.FILE, croissant.metadata(dataset, found, called, place, published), sort=False)
    write_card(dataset, found, called)
    for file in (CARD, croissant.FILE):
        out.print(dataset.store.place(file), markup=False, highlight=False)
