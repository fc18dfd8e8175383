"""Tables of people: embeddings, identities, references, near duplicates."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class FaceEmbeddingRow(Row):
    """Identity embeddings of a track's best portraits."""

    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    k: Column[int] = c.grid_index()
    t_s: Column[float] = c.frame_time()
    embedding: Column[list[float]] = c.reals("identity embedding")
    quality: Column[float] = c.real("portrait quality used for choosing and weighting", "0-1")
    yaw_deg: Column[float | None] = c.real("head yaw", "deg", null=True)
    pitch_deg: Column[float | None] = c.real("head pitch", "deg", null=True)
    body_yaw_deg: Column[float | None] = c.real(
        "where the chest faces, > 0 = image right; null = shoulders not in the portrait", "deg", null=True
    )
    view: Column[str] = c.text(
        "by the body's yaw, else by the head's: frontal, left_three_quarter and right_three_quarter (25 to 45"
        " degrees of yaw), left_profile and right_profile (beyond), rear, unknown"
    )
    expression: Column[str] = c.text("expression label, by rules on blendshapes; unknown where the face is too small")
    expression_score: Column[float] = c.real("its score, not calibrated", "0-1")
    text_area: Column[float | None] = c.real(
        "share of the portrait, or of its part, under burnt-in text; null = not measured", "0-1", null=True
    )
    part_xywh: Column[list[float]] = c.reals(
        "part of the portrait that burnt-in text leaves free and that shows the head; empty = all of it", "0-1"
    )
    annotator: Column[str] = c.annotator()


FACE_EMBEDDINGS = Table(FaceEmbeddingRow, "face_embeddings", (FaceEmbeddingRow.track_id, FaceEmbeddingRow.k))


class IdentityRow(Row):
    """People, across sources."""

    identity_id: Column[str] = c.text("`p-<hash>`, given once and kept: see docs/identities.md")
    n_tracks: Column[int] = c.count("tracks of this person")
    n_sources: Column[int] = c.count("sources this person appears in")
    seen_s: Column[float] = c.seconds("length of the tracks")
    split: Column[str | None] = c.text(
        "train, val or test; null while no clip of theirs is kept, or all are withheld", null=True
    )
    group_id: Column[str] = c.text("identities that share a source, session or copy; one group never spans two splits")


IDENTITIES = Table(IdentityRow, "identities", (IdentityRow.identity_id,), grain="dataset")


class TrackIdentityRow(Row):
    """Which track shows whom."""

    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    identity_id: Column[str] = c.text("person")
    distance: Column[float | None] = c.real("distance of the track's mean embedding to the identity's", null=True)
    annotator: Column[str] = c.annotator()


TRACK_IDENTITIES = Table(TrackIdentityRow, "track_identities", (TrackIdentityRow.track_id,), grain="dataset")


class IdentityRegistryRow(Row):
    """The names that tracks bear, remembered from run to run; tracks that the policy leaves out now are in it too."""

    track_id: Column[str] = c.track_id()
    source_id: Column[str] = c.source_id()
    identity_id: Column[str] = c.text("the name that clustering gave, before people decided anything")
    person_id: Column[str] = c.text("the name after people's decisions: `track_identities.identity_id`")
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    center_x: Column[float] = c.real("horizontal centre of the face, to find the track under another id", "0-1")
    center_y: Column[float] = c.real("vertical centre", "0-1")
    measure: Column[str] = c.text("hash of how it was clustered; under another one a name is inherited, not binding")


IDENTITY_REGISTRY = Table(IdentityRegistryRow, "identity_registry", (IdentityRegistryRow.track_id,), grain="dataset")


class IdentityAliasRow(Row):
    """Names that are no longer in use, and whose they are now."""

    alias: Column[str] = c.text("the name that somebody bore once")
    source_id: Column[str] = c.source_id()
    identity_id: Column[str | None] = c.text(
        "the person's present name; null where whom it led to is gone: the name is nobody's, and never given again",
        null=True,
    )


IDENTITY_ALIASES = Table(
    IdentityAliasRow, "identity_aliases", (IdentityAliasRow.alias, IdentityAliasRow.source_id), grain="dataset"
)


class SplitRow(Row):
    """The split of every source that had a kept clip; given once, it never changes."""

    source_id: Column[str] = c.source_id()
    split: Column[str | None] = c.text("train, val or test; null where none could be given without a leak", null=True)
    withheld: Column[bool] = c.flag(
        "its clips are in no split for now: it shares somebody with sources of other splits"
    )
    why: Column[str | None] = c.text("what it shares with which split, where withheld", null=True)
    group_id: Column[str] = c.text("sources that share a person, session or copy")
    kept_s: Column[float] = c.seconds("length of the kept clips when the splits were looked at last")
    seed: Column[str] = c.text("`identity.split_seed` under which it was dealt")


SPLITS = Table(SplitRow, "splits", (SplitRow.source_id,), grain="dataset")


class SplitShareRow(Row):
    """What each split holds beside what it should."""

    split: Column[str] = c.text("train, val, test, or withheld")
    wanted: Column[float] = c.real("share of the kept seconds asked for", "0-1")
    share: Column[float] = c.real("share of the kept seconds it has", "0-1")
    kept_s: Column[float] = c.seconds("length of its kept clips")
    n_sources: Column[int] = c.count("sources in it")
    n_groups: Column[int] = c.count("groups in it: a group is never divided")


SPLIT_SHARES = Table(SplitShareRow, "split_shares", (SplitShareRow.split,), grain="dataset")


class DoubtfulMergeRow(Row):
    """People that were kept apart and may be one: for a person to judge."""

    identity_id: Column[str] = c.text("person")
    other_identity_id: Column[str] = c.text("the person that may be the same")
    track_id: Column[str] = c.text("of the first person's tracks the one nearest to the second person")
    other_track_id: Column[str] = c.text("of the second person's tracks the one nearest to it")
    across_sources: Column[bool] = c.flag("they share no source")
    distance: Column[float] = c.real("root mean square L2 distance between their tracks' faces")
    limit: Column[float] = c.real("below it they would be one, voices taken into account")
    voices: Column[str] = c.text("one: a voice is bound to both; two: different voices; unknown")
    why: Column[str] = c.text(
        "kept apart for: distance (not near enough), two_voices, seen_at_once, poor_portraits (too dark, "
        "small or turned to tell), or named_before (two names that were given before are not joined but by "
        "hand)"
    )
    annotator: Column[str] = c.annotator()


DOUBTFUL_MERGES = Table(
    DoubtfulMergeRow,
    "doubtful_merges",
    (DoubtfulMergeRow.identity_id, DoubtfulMergeRow.other_identity_id),
    grain="dataset",
)


class ReferenceRow(Row):
    """Reference images chosen for a segment."""

    segment_id: Column[str] = c.segment_id()
    kind: Column[str] = c.text("global, view, or expression")
    n: Column[int] = c.index("position within its kind")
    identity_id: Column[str] = c.text("person")
    ref_source_id: Column[str] = c.text("source of the image")
    ref_track_id: Column[str] = c.text("track of the image")
    ref_k: Column[int] = c.index("grid index of the image")
    ref_t_s: Column[float] = c.seconds("time of the image in its source")
    distance: Column[float] = c.real("identity distance to the person's mean embedding")
    own_distance: Column[float | None] = c.real(
        "identity distance to the other portraits of the segment's own track (those inside it, where there "
        "are two); null = it is the only one",
        null=True,
    )
    rival_distance: Column[float | None] = c.real(
        "identity distance to the nearest other person of the source; null = nobody", null=True
    )
    yaw_deg: Column[float | None] = c.real("head yaw", "deg", null=True)
    view: Column[str] = c.text("view label")
    expression: Column[str] = c.text("expression label")
    expression_score: Column[float] = c.real("its score", "0-1")
    quality: Column[float] = c.real("portrait quality", "0-1")
    text_area: Column[float | None] = c.real(
        "share of the image under burnt-in text; null = not measured", "0-1", null=True
    )
    part_xywh: Column[list[float]] = c.reals("part of the portrait that is the image; empty = all of it", "0-1")
    overlaps_clip: Column[bool] = c.flag("the image lies inside the segment's own time")


REFERENCES = Table(
    ReferenceRow, "references", (ReferenceRow.segment_id, ReferenceRow.kind, ReferenceRow.n), grain="dataset"
)


class DuplicateRow(Row):
    """Near duplicates among sources, by perceptual hash."""

    source_id: Column[str] = c.source_id()
    near_duplicate_of: Column[str | None] = c.text(
        "smallest source_id of the group, null for that one itself", null=True
    )
    distance: Column[float | None] = c.real("Hamming distance / bits to it", "0-1", null=True)


DUPLICATES = Table(DuplicateRow, "duplicates", (DuplicateRow.source_id,), grain="dataset")
