"""`lpm search`: samples by words, by another sample, or those that show nearly the same.

Words are turned into a vector by the very model that made the samples' vectors; another one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console

from curation import search as finder
from curation import search_index
from curation.dataset import Dataset
from curation.search import Among, SearchError, Wanted
from schemas.tables import CLIP_VECTORS
from workflows.commands.query import check_format, show
from workflows.usage import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from annotators.imagetext.embedder import ImageTextEmbedder
    from annotators.parts import Part


@dataclass(frozen=True)
class Asked:
    """What a user asks for, as the command line's options say it."""

    text: str | None = None
    like: str | None = None
    duplicates: bool = False
    above: float = 0.97
    references: bool = False
    state: str | None = None
    where: str | None = None
    limit: int = 20
    model: str | None = None
    exact: bool = False
    trusted: bool = False
    """code that the dataset keeps may be executed, for its model"""


def build_index(out: Console, target: str) -> None:
    """Make the index of a dataset's samples. Raises SearchError."""
    made = search_index.build(Dataset(target))
    out.print(f"index of {made.samples:,} samples in {len(made.centres):,} cells: `lpm search` uses it")


def search(out: Console, err: Console, target: str, asked: Asked, format_: str, file: Path | None) -> None:
    """Find and print or write what is found. Raises UsageError, SearchError, and what the model raises."""
    check_format(format_, file)
    if [bool(asked.text and asked.text.strip()), asked.like is not None, asked.duplicates].count(True) != 1:
        raise UsageError("search by words, by --like SAMPLE_ID, or for --duplicates: one of the three")
    if asked.references and asked.duplicates:
        raise UsageError("--duplicates compares clips; --references goes with words or --like")
    dataset, among = Dataset(target), Among(asked.state, asked.where)
    if asked.duplicates:
        rows = finder.near_duplicates(dataset, asked.above, among, asked.limit)
    else:
        wanted = finder.like(dataset, asked.like) if asked.like is not None else _of_words(dataset, target, asked)
        rows = _nearest(err, dataset, wanted, among, asked)
    show(out, rows, format_, file)


def _nearest(err: Console, dataset: Dataset, wanted: Wanted, among: Among, asked: Asked) -> pa.Table:
    """Return what is nearest, by the index where there is one, and say where it looked."""
    if asked.references:
        return finder.nearest_references(dataset, wanted, among, asked.limit)
    index = None if asked.exact else search_index.opened(dataset)
    if index is not None and index.model == wanted.model:
        rows = search_index.nearest(dataset, index, wanted, among, asked.limit)
        if rows.num_rows == asked.limit:
            cells = len(index.centres)
            err.print(
                f"looked through {min(cells, search_index.PROBES)} of {cells} cells; --exact compares all samples"
            )
            return rows
    samples = search_index.rows(dataset.store)
    if samples >= search_index.PAYS_FROM and index is None and not asked.exact:
        err.print(
            f"{samples:,} samples were compared one by one; `lpm search {dataset.store.uri} --index` makes an index"
        )
    return finder.nearest(dataset, wanted, among, asked.limit)


def _of_words(dataset: Dataset, target: str, asked: Asked) -> Wanted:
    """Return the vector of the words. Raises SearchError where their model is not the samples'."""
    wanted = finder.vector_model(dataset)
    part = _part(target, asked)
    here = part.provenance("embedder")["embedder"]
    if here != wanted:
        raise SearchError(
            f"the samples' vectors are by {wanted}, and the model here is {here}: name that model with --model, or "
            "make the vectors anew by `lpm run`"
        )
    return Wanted(part.build().texts([asked.text or ""])[0], wanted)


def _part(target: str, asked: Asked) -> Part[ImageTextEmbedder]:
    """Return the embedder of the dataset's workflow, on the CPU; at another place where `model` says so."""
    from stages.image_text.clip_vectors import ClipVectorsSettings
    from workflows.commands.jobs import existing

    stage = existing(target, trusted=asked.trusted).pipeline.writer(CLIP_VECTORS)
    chosen: Any = stage.settings if stage is not None else ClipVectorsSettings.model_validate({})
    part: Part[Any] = chosen.embedder
    use = part.settled if part.at_work else "open_clip"
    given = {k: v for k, v in part.given.items() if use != "open_clip" or k not in ("device", "batch")}
    if asked.model is not None:
        given["model"] = asked.model
    try:
        settings = ClipVectorsSettings.model_validate({"embedder": {"use": use, **given}})
    except ValidationError as e:
        raise UsageError(f"--model: {e.errors()[0]['msg'].removeprefix('Value error, ')}") from e
    return settings.embedder  # type: ignore[return-value]  # an embedder is at work
