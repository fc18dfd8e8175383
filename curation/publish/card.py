"""A dataset's card: Markdown with the front matter that Hugging Face reads, all numbers counted from the dataset.

`load_dataset` takes splits and columns from the front matter, so that it need not guess types from a few samples.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

from curation.dataset import Dataset
from curation.publish import croissant
from curation.publish.errors import PublishError
from curation.publish.figures import Figures, figures
from curation.storage.store import Store, StoreError
from schemas.printable import printable

CARD = "README.md"
_OURS = {CARD: b"\n- openlpm\n", croissant.FILE: b"made with OpenLPM"}
"""By what a card and metadata that were written here are known from files of a user's own."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TYPES = {
    "mp4": "binary", "speak.flac": "binary", "listen.flac": "binary", "json": "json", "ref.jpg": "image",
    "refs.tar": "binary", "__key__": "string", "__url__": "string",
}  # fmt: skip
"""Sounds and pictures as bytes: typed as media, `datasets` asks for a decoder even to skip them."""


def front_matter(f: Figures, name: str) -> dict[str, Any]:
    """Return the YAML block of a card as values."""
    known = [x for x in f.licences if x != "unknown"]
    return {
        "pretty_name": name,
        "license": known[0].lower() if len(f.licences) == len(known) == 1 else "other" if known else "unknown",
        **({"language": f.languages} if f.languages else {}),
        "task_categories": ["image-to-video", "video-classification"],
        "tags": ["webdataset", "conversation", "talking-head", "listening-head", "openlpm"],
        "size_categories": [next((label for most, label in _SIZES if f.samples < most), "1M<n<10M")],
        "configs": [{
            "config_name": "default",
            "data_files": [{"split": row[0], "path": f"shards/{row[0]}-*.tar"} for row in f.splits],
        }],
        "dataset_info": {"features": [{"name": name, "dtype": kind} for name, kind in _TYPES.items()]},
    }  # fmt: skip


def render(f: Figures, name: str) -> str:
    """Return the card."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_cell)
    template = (resources.files("curation.publish") / "card.md.j2").read_text(encoding="utf-8")
    front = yaml.safe_dump(front_matter(f, name), sort_keys=False, allow_unicode=True)
    return environment.from_string(template).render(front=_Plain(front), f=f, name=name)


class _Plain(str):
    """Text that is Markdown or YAML already."""


def _cell(value: Any) -> Any:
    """Return a value so that it cannot leave its table cell: names, licences and reasons are others' text."""
    if not isinstance(value, str) or isinstance(value, _Plain):
        return value
    return printable(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def write_card(dataset: Dataset, f: Figures, name: str) -> None:
    """Write the card into the dataset."""
    dataset.store.write(CARD, render(f, name).encode())


def renew(dataset: Dataset, *, whole: bool) -> list[str]:
    """Write the card and the metadata that are there anew, of what is packed now; return those that went instead.

    They go where nothing is packed any more, or where the dataset is not `whole`, so that its numbers are not known.
    """
    store = dataset.store
    there = [name for name, mark in _OURS.items() if store.exists(name) and mark in store.read(name)]
    found = _known(dataset) if whole and there else None
    if found is None:
        for name in there:
            store.delete(name)
        return there
    told = _told(store)
    called = told.get("name") or store.root.rstrip("/").rpartition("/")[2]
    if croissant.FILE in there:
        made = croissant.metadata(dataset, found, called, told.get("url", ""), told.get("datePublished", ""))
        store.write_json(croissant.FILE, made, sort=False)
    if CARD in there:
        write_card(dataset, found, called)
    return []


def _known(dataset: Dataset) -> Figures | None:
    try:
        return figures(dataset)
    except PublishError:
        return None


def _told(store: Store) -> dict[str, str]:
    """Return what the metadata say of themselves: name, address, date; nothing where they cannot be read."""
    try:
        said = store.read_json(croissant.FILE)
    except StoreError:
        return {}
    return said if isinstance(said, dict) else {}
