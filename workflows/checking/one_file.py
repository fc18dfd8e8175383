"""`lpm sync | states | people`: answers about one file, from a run of the workflow `check` over it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from curation.check import answers
from curation.dataset import Dataset
from curation.engine.register import expand
from workflows.checking.measure import measured
from workflows.usage import UsageError


@contextlib.contextmanager
def _measured(err: Console, file: str, kept: str | None, up_to: str | None) -> Iterator[Dataset]:
    """Measure one file up to a stage, in a dataset that goes afterwards unless it is to be kept."""
    named = expand([file])
    if len(named) != 1:
        raise UsageError(f"{file} is {len(named)} files; name one, or `lpm check` a folder of them")
    with tempfile.TemporaryDirectory(prefix="lpm-") as temporary:
        dataset = measured(err, named, kept or f"{temporary}/dataset", up_to=up_to)
        answers.refuse_unreadable(dataset)
        yield dataset


def _json(out: Console, answer: Any) -> None:
    """Print dataclasses as JSON."""
    out.out(json.dumps(answer, indent=1, default=asdict), highlight=False)


def sync(err: Console, out: Console, file: str, kept: str | None, as_json: bool) -> None:
    """Print offset and confidence. Raises UsageError, InputError, DatasetError, and what a run raises."""
    with _measured(err, file, kept, "active_speaker") as dataset:
        answer = answers.sync(dataset)
    if as_json:
        _json(out, answer)
        return
    table = RichTable("face", "from", "to", "offset ms", "confidence", "own voice", "speech s")
    for f in answer.faces:
        numbers = (_number(f.offset_ms, "+.0f"), _number(f.confidence), _number(f.own_voice), f"{f.evidence_s:.1f}")
        table.add_row(f.person, f"{f.start_s:.2f}", f"{f.end_s:.2f}", *numbers)
    out.print(table if answer.faces else "no face is seen long enough")
    best = answer.best
    if best is None or best.offset_ms is None:
        out.print("no offset: no face is seen while somebody speaks, or there is no sound")
    else:
        way = "late" if best.offset_ms >= 0 else "early"
        sure = f"confidence {_number(best.confidence)}, own voice {_number(best.own_voice)}"
        out.print(f"the sound is {abs(best.offset_ms):.0f} ms {way} ({sure})", highlight=False)


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def states(err: Console, out: Console, file: str, kept: str | None, as_json: bool) -> None:
    """Print each person's timeline. Raises as `sync` does."""
    with _measured(err, file, kept, "pairing") as dataset:
        answer = answers.states(dataset)
    if as_json:
        _json(out, {"people": answer})
        return
    table = RichTable("face", "from", "to", "state", "why", "confidence")
    for r in (r for person in answer for r in person.runs):
        table.add_row(r.person, f"{r.start_s:.2f}", f"{r.end_s:.2f}", r.state, r.reason, f"{r.confidence:.2f}")
    out.print(table if answer else "no face is seen")


def people(err: Console, out: Console, file: str, portraits: Path | None, kept: str | None, as_json: bool) -> None:
    """Print who is seen. Raises as `sync` does."""
    with _measured(err, file, kept, None) as dataset:
        answer = answers.people(dataset, portraits)
    if as_json:
        _json(out, {"people": answer})
        return
    table = RichTable("person", "seen s", "from", "to", "tracks", "where (x, y)", *(["portrait"] if portraits else []))
    for p in answer:
        where = " ".join(f"{w.center_x:.2f},{w.center_y:.2f}" for w in p.places[:4])
        times = (f"{p.seen_s:.1f}", f"{p.places[0].start_s:.2f}", f"{max(w.end_s for w in p.places):.2f}")
        row = (p.person, *times, str(len(p.places)), where)
        table.add_row(*row, *([p.portrait or "-"] if portraits else []))
    out.print(table if answer else "nobody is seen")
