"""The manifest's row of one packed sample: what of it can be queried without opening a shard, and where it lies."""

from __future__ import annotations

import json
from collections.abc import Iterable

from schemas.samples.sample import Sample
from schemas.tables.output import ManifestRow, Member
from schemas.units import packed_columns


def manifest_row(
    x: Sample, uri: str, shard: str, members: Iterable[tuple[str, int, int]], digests: list[str] | None = None
) -> ManifestRow:
    """Return a sample's row of MANIFEST, without vectors and the shard's hash.

    `uri` is where its source lies, `members` are (name, offset, size in bytes) in the shard, `digests` their SHA-256.
    """
    own = ManifestRow(
        segment_id=x.sample_id, source_id=x.source.source_id, name=x.source.name, uri=uri,
        track_id=x.source.track_id, identity_id=x.identity_id,
        split=x.split, state=x.state, category=x.category, start_s=x.source.start_s, end_s=x.source.end_s,
        duration_s=x.source.end_s - x.source.start_s, width=x.video.width, height=x.video.height, fps=x.video.fps,
        n_frames=x.video.n_frames, n_audio_samples=x.audio.n_samples, language=x.language, text=x.text,
        confidence=x.scores.state_confidence, median_face_px=x.video.median_face_px,
        partner_track_id=x.partner_track_id, pair_id=x.pair_id, pair_status=x.pair_status,
        n_references=len(x.references), reference_names=[r.member for r in x.references], license=x.rights.license,
        rights_holder=x.rights.rights_holder, consent=x.rights.consent, shard=shard,
        members=[Member(name=n, offset=o, size=z) for n, o, z in members],
        member_sha256=digests, shard_sha256=None,
        annotators=json.dumps(x.annotators, sort_keys=True), policy_id=x.policy_id,
        vector=None, vector_model=None, reference_vectors=None,
    )  # fmt: skip
    marked = [c for _, _, c in packed_columns() if c.packed is not None and c.packed.manifest]
    return ManifestRow.of({**dict(own), **{c.name: x.part(c)[c] for c in marked}})
