"""Corrections as the page sends them, and what it needs to offer them: fields of captions, people, what waits."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curation.dataset import Dataset
from curation.engine.run import locked
from curation.labels import corrections, identities
from curation.labels.corrections import AGAIN, CAPTION_FIELDS, CorrectionError
from schemas import tables as t
from schemas.samples.caption import PerformanceCaption

MOST_PEOPLE = 200
Seconds = Annotated[float, Field(ge=0, lt=1e6, allow_inf_nan=False)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")

    author: str = Field(default="", max_length=200)


class States(_Said):
    """Stretches of a person's time with their states."""

    kind: Literal["states"]
    track: str
    runs: list[tuple[Seconds, Seconds, str]] = Field(min_length=1, max_length=500)


class Voice(_Said):
    """A voice, heard at a time, and the face that it belongs to."""

    kind: Literal["voice"]
    voice: str
    at: Seconds
    track: str | None


class Word(_Said):
    """What is said in a stretch of a source."""

    kind: Literal["word"]
    source: str
    start_s: Seconds
    end_s: Seconds
    word: str | None = Field(max_length=1000)


class Caption(_Said):
    """A field of a clip's caption."""

    kind: Literal["caption"]
    id: str
    field: str
    value: str | bool | list[str] | None


class Cut(_Said):
    """Where no cut is, where one is."""

    kind: Literal["cut"]
    source: str
    none: Seconds | None = None
    new: Seconds | None = None


class Merge(_Said):
    """Two names of one person."""

    kind: Literal["merge"]
    first: str
    second: str


class Split(_Said):
    """A face that is not the person it was taken for."""

    kind: Literal["split"]
    track: str


_ANY: TypeAdapter[States | Voice | Word | Caption | Cut | Merge | Split] = TypeAdapter(
    Annotated[States | Voice | Word | Caption | Cut | Merge | Split, Field(discriminator="kind")]
)


def correct(dataset: Dataset, asked: object, author: str) -> None:
    """Store what the page says; `author` is who says it where the page does not.

    Raises:
        CorrectionError, IdentityError: it makes no sense, or does not fit the dataset.
        RunStoppedError: another command is writing the dataset.
    """
    try:
        said = _ANY.validate_python(asked)
    except ValidationError as e:
        first = e.errors()[0]
        raise CorrectionError(f"{'.'.join(map(str, first['loc'])) or 'correction'}: {first['msg']}") from e
    who = said.author.strip() or author
    match said:
        case States():
            corrections.states(dataset, said.track, said.runs, who)
        case Voice():
            corrections.voice(dataset, said.voice, said.at, said.track, who)
        case Word():
            corrections.word(dataset, said.source, said.start_s, said.end_s, said.word, who)
        case Caption():
            corrections.caption(dataset, said.id, said.field, said.value, who)
        case Cut():
            corrections.cut(dataset, said.source, said.none, said.new, who)
        case Merge():
            with locked(dataset.store):
                least = identities.min_overlap_s(dataset)
                identities.merge(dataset, said.first, said.second, who, min_overlap_s=least)
        case Split():
            with locked(dataset.store):
                identities.split(dataset, _person(dataset, said.track), {said.track}, who)


def _person(dataset: Dataset, track_id: str) -> str:
    con = dataset.connect(tables=[t.TRACK_IDENTITIES])
    found = con.execute("SELECT identity_id FROM track_identities WHERE track_id = ?", [track_id]).fetchall()
    if not found:
        raise CorrectionError(f"the face {track_id!r} is nobody known, so it cannot be split off")
    return str(found[0][0])


def fields() -> dict[str, dict[str, object]]:
    """Return the fields of a caption that can be corrected: what they mean, whether they are lists, their terms."""
    schema = PerformanceCaption.model_json_schema()["properties"]
    out: dict[str, dict[str, object]] = {}
    for name in CAPTION_FIELDS:
        kinds = schema[name].get("anyOf", [schema[name]])
        shape = schema[name].get("items", {}) if schema[name].get("type") == "array" else kinds[0]
        out[name] = {
            "doc": PerformanceCaption.model_fields[name].description or "",
            "many": schema[name].get("type") == "array",
            "terms": ["true", "false"] if shape.get("type") == "boolean" else shape.get("enum", []),
            "none": any(k.get("type") == "null" for k in kinds),
        }
    return out


def waiting(dataset: Dataset) -> dict[str, object]:
    """Return how many corrections no run has used yet, and what it will compute again for them."""
    found = corrections.waiting(dataset)
    kinds = Counter(w.kind for w in found)
    return {"n": len(found), "again": [AGAIN[k] for k in kinds], "sources": len({w.source_id for w in found})}


def people(dataset: Dataset, near: str) -> list[dict[str, object]]:
    """Return people to merge with: first those that may be the same as `near`, then those seen longest."""
    con = dataset.connect(tables=[t.IDENTITIES, t.DOUBTFUL_MERGES])
    rows = con.execute(
        'SELECT i.identity_id, i.seen_s, min(d.distance / d."limit") AS like_it FROM identities i '
        "LEFT JOIN doubtful_merges d ON (d.identity_id = i.identity_id AND d.other_identity_id = ?) "
        "OR (d.other_identity_id = i.identity_id AND d.identity_id = ?) WHERE i.identity_id <> ? "
        "GROUP BY ALL ORDER BY like_it NULLS LAST, 2 DESC, 1 LIMIT ?",
        [near, near, near, MOST_PEOPLE],
    ).fetchall()
    return [{"name": name, "seen_s": seen_s, "doubtful": like is not None} for name, seen_s, like in rows]
