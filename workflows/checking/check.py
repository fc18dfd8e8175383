"""`lpm check`: a dataset that others published, held against what is measured of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from curation.check import result
from curation.check.declared import Fields
from curation.check.errors import CheckError
from curation.check.findings import Checked, Clip, check
from curation.check.foreign import samples
from curation.check.limits import limits_from
from curation.check.result import Summary
from curation.check.rules import FINDINGS
from curation.check.samples import Sample
from curation.dataset import Dataset
from curation.engine.register import Named
from curation.faults import fault_of
from schemas.files.places import written
from schemas.printable import printable
from workflows.checking.measure import measured

SAME = 0.8
"""Two clips show one person for sure below this share of the embedder's line between people of different sources."""
_SHOWN = 40
"""Findings that the terminal lists."""


def run(
    err: Console, out: Console, foreign: str, folder: str | None, ignore: list[str], limits: list[str],
    fields: list[str], engine: str, address: str | None, overrides: list[str], *, two_tracks: bool, as_json: bool,
) -> bool:  # fmt: skip
    """Check a dataset; return whether there is any finding.

    Raises CheckError, and what a run raises.
    """
    unknown = [name for name in ignore if name not in FINDINGS]
    if unknown:
        raise CheckError(f"--ignore {unknown[0]!r} is none; there are: {', '.join(FINDINGS)}")
    limits_from(limits)
    asked = Fields(fields)
    where = Path(foreign).absolute()
    target = Path(folder or f"check-{where.name.partition('.')[0]}").absolute()
    if target.exists() and not ((target / "dataset").is_dir() or (target.is_dir() and not any(target.iterdir()))):
        raise CheckError(f"{target} exists and holds no check; choose an empty or new --out")
    skipped: Counter[str] = Counter()
    clips = [_clip(s, asked, target, two_tracks) for s in samples(foreign, target / "media", skipped)]
    named = {c.path: Named(c.path) for c in clips if c.path is not None}
    err.print(f"{len(clips)} clips found in {foreign}", markup=False, highlight=False)
    if not named:
        raise CheckError(f"none of {len(clips)} clips can be opened; the first: {clips[0].reason}")
    dataset = measured(
        err, list(named.values()), str(target / "dataset"), engine=engine, address=address, overrides=overrides
    )
    chosen = limits_from(limits, **_faces(dataset))
    done = check(dataset, clips, chosen, ignore)
    told = result.summary(done, asked.found, skipped)
    from curation.check.page import PAGE, render  # here, since it needs pictures

    text = result.as_json(done, told, chosen)
    result.write(target, done, text)
    (target / PAGE).write_text(render(dataset, where.name, done, told, chosen), encoding="utf-8")
    if as_json:
        out.out(text, highlight=False)
    else:
        _show(out, done, told)
        out.print(f"{target / PAGE}, {result.FINDINGS}, {result.CLIPS}, {result.JSON}", markup=False, highlight=False)
    return bool(done.findings)


def _clip(sample: Sample, fields: Fields, target: Path, two_tracks: bool) -> Clip:
    """Return a clip, its sounds laid beside its picture where they are files of their own."""
    said = fields.read(sample.name, sample.facts)
    path, reason, tracks = None, sample.reason, two_tracks
    if sample.picture is not None:
        path = sample.picture.absolute()
        if sample.sounds:
            from curation.check.join import TRACKS, joined

            tracks = set(TRACKS) <= set(sample.sounds)
            try:
                path = joined(sample.picture, sample.sounds, target / "joined" / _file_name(sample.name)).absolute()
            except Exception as e:
                if fault_of(e) not in ("item", "bug"):
                    raise
                reason = str(e)
    return Clip(
        clip=printable(sample.name),
        path=None if path is None or reason else written(path),
        reason=reason,
        tracks=tracks,
        declared_fps=said.fps,
        declared_rate_hz=said.rate_hz,
        declared_duration_s=said.duration_s,
        declared_n_frames=said.n_frames,
        declared_state=said.state,
        identity=said.identity,
        facts_error=sample.facts_error,
    )


def _file_name(name: str) -> str:
    """Return a file name that only this clip has."""
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16] + ".mkv"


def _faces(dataset: Dataset) -> dict[str, float]:
    """Return the limits that go with the face embedder's numbers: stricter than its line between two people."""
    asked = dataset.query("SELECT DISTINCT annotator FROM face_embeddings ORDER BY 1").fetchall()
    if not asked:
        return {}
    from annotators.face.distances import distances_of  # here, since embedders come with it

    limits = distances_of(str(asked[0][0]))
    return {"same_face": SAME * limits.across_sources, "other_face": limits.within_source}


def _show(out: Console, done: Checked, told: Summary) -> None:
    """Print the account and the findings."""
    counts = RichTable("finding", "clips", title="what is wrong")
    for finding, n in told.clips_by_finding.items():
        counts.add_row(finding, str(n))
    rows = RichTable("clip", "finding", "what", "measured", "threshold")
    for f in done.findings[:_SHOWN]:
        value = "" if f.value is None else f"{f.value:.4g} {f.unit}".strip()
        rows.add_row(f.clip, f.finding, f.says, value, "" if f.threshold is None else f"{f.threshold:.4g}")
    if done.findings:
        out.print(rows)
        if len(done.findings) > _SHOWN:
            out.print(f"... and {len(done.findings) - _SHOWN} more in {result.FINDINGS}", markup=False)
        out.print(counts)
    out.print(
        f"{done.found} clips found = {done.checked} checked + {done.unreadable} not readable; "
        f"{told.without_finding} without a finding",
        highlight=False,
    )
    fields = ", ".join(f"{d.field} from {d.column!r} ({d.clips})" for d in told.declared)
    out.print(f"declared: {fields or 'nothing that could be held against measurements'}", markup=False, highlight=False)
