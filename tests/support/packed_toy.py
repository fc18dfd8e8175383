"""A toy workflow whose kept segments become whole samples, portraits among them: small datasets to damage."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from engine_case import GOOD, policy
from toy import WORKFLOW, ToyPacking, _Toy, filled, write_sources

from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Engine, Job, run
from curation.engine.workflow import resolve
from curation.pack.pack import pack
from curation.pack.shards import tar_bytes
from curation.stage import Outputs, WorkItem
from schemas import tables as t
from schemas.settings.workflow import StageSpec

FRAMES = 100


def noise(text: str, size: int) -> bytes:
    """Return bytes that depend on the text alone."""
    block = hashlib.sha512(text.encode()).digest()
    return (block * (size // len(block) + 1))[:size]


class ToyPortraits(_Toy):
    """A portrait of every track."""

    name = "toy_portraits"
    reads = (t.TRACKS,)
    writes = (t.TRACKLETS, t.PORTRAITS)
    gate = "tracks"
    gate_mode = "together"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        self.spec(inputs)
        tracks = [r["track_id"] for r in inputs.read(t.TRACKS).to_pylist()]
        facts = [{"tracklet_id": f"{i}-0", "track_id": i, "source_id": item.source_id} for i in tracks]
        pictures = [
            filled(t.PORTRAITS, tracklet_id=f["tracklet_id"], source_id=item.source_id, image=noise(f["track_id"], 700))
            for f in facts
        ]
        return Outputs(
            {
                t.TRACKLETS: t.TRACKLETS.from_rows(filled(t.TRACKLETS, **f) for f in facts),
                t.PORTRAITS: t.PORTRAITS.from_rows(pictures),
            }
        )


class ToyClips(ToyPacking):
    """A clip of every live segment: bytes that look like media."""

    name = "toy_clips"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        self.spec(inputs)
        rows = []
        for i in item.units:
            file = f"clips/bucket={i[:2]}/{i}.tar"
            parts = {"mp4": 3000, "speak.flac": 900, "listen.flac": 500}
            tar = tar_bytes((f"{i}.{suffix}", noise(i + suffix, size)) for suffix, size in parts.items())
            inputs.save(file, tar)
            rows.append(
                filled(
                    t.CLIPS, segment_id=i, source_id=item.source_id, file=file,
                    sha256=hashlib.sha256(tar).hexdigest(), width=64, height=64, n_frames=FRAMES,
                    n_audio_samples=FRAMES * 1920,
                )
            )  # fmt: skip
        return Outputs({t.CLIPS: t.CLIPS.from_rows(rows)})


class ToyReferences(_Toy):
    """One reference image a segment."""

    name = "toy_references"
    grain = "dataset"
    reads = (t.SEGMENTS,)
    writes = (t.REFERENCES,)
    gate = "segments"
    gate_mode = "together"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        rows = [
            filled(
                t.REFERENCES, segment_id=r["segment_id"], kind="global", ref_source_id=r["source_id"],
                ref_track_id=r["track_id"],
            )
            for r in inputs.read(t.SEGMENTS).to_pylist()
        ]  # fmt: skip
        return Outputs({t.REFERENCES: t.REFERENCES.from_rows(rows)})


_BEFORE = [n for n in WORKFLOW.stages if n not in ("toy_packing", "toy_identity")]
STAGES = {
    **{n: WORKFLOW.stages[n] for n in _BEFORE},
    "toy_portraits": StageSpec(use="packed_toy:ToyPortraits"),
    "toy_clips": StageSpec(use="packed_toy:ToyClips"),
    "toy_references": StageSpec(use="packed_toy:ToyReferences"),
}


def job(out: Path | str) -> Job:
    """Return the job of a dataset with two samples to a shard."""
    return Job(
        str(out), resolve(WORKFLOW.model_copy(update={"stages": STAGES, "pack": {"shard_samples": 2}})), policy()
    )


def made(folder: Path, out: Path, engine: Engine | None = None) -> Path:
    """Run the workflow over three sources, and pack what is kept."""
    if not folder.exists():
        write_sources(folder, **{n: {**GOOD, "duration_s": s} for n, s in (("a", 9.0), ("b", 10.0), ("c", 11.0))})
        (folder / "a.mp4.rights.json").write_text('{"license": "CC-BY-4.0"}')
    run(job(out), engine or LocalEngine(), expand([str(folder)], str(out)), packer=pack)
    return out
