"""Tables of people: embeddings, identities, references, near duplicates."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, SEGMENT, SOURCE, TRACK, K, T, count, flag, index, real, reals, seconds, text
from schemas.table import Table

FACE_EMBEDDINGS = Table(
    "face_embeddings",
    "identity embeddings of a track's best portraits",
    ("track_id", "k"),
    (
        TRACK,
        SOURCE,
        K,
        T,
        reals("embedding", "identity embedding"),
        real("quality", "portrait quality used for choosing and weighting", "0-1"),
        real("yaw_deg", "head yaw", "deg", null=True),
        real("pitch_deg", "head pitch", "deg", null=True),
        text(
            "view",
            "frontal, left_three_quarter and right_three_quarter (25 to 45 degrees of yaw), left_profile and "
            "right_profile (beyond), rear, unknown",
        ),
        text("expression", "expression label, by rules on blendshapes; unknown where the face is too small"),
        real("expression_score", "its score, not calibrated", "0-1"),
        real("text_area", "share of the portrait under burnt-in text; null = not measured", "0-1", null=True),
        ANNOTATOR,
    ),
)

IDENTITIES = Table(
    "identities",
    "people, across sources",
    ("identity_id",),
    (
        text("identity_id", "`p-<hash>`, from the smallest track_id of the cluster"),
        count("n_tracks", "tracks of this person"),
        count("n_sources", "sources this person appears in"),
        seconds("seen_s", "length of the tracks"),
        text("split", "train, val or test; a function of the identity group alone"),
        text("group_id", "identities that share a source or session; one group never spans two splits"),
    ),
    grain="dataset",
)

TRACK_IDENTITIES = Table(
    "track_identities",
    "which track shows whom",
    ("track_id",),
    (
        TRACK,
        SOURCE,
        text("identity_id", "person"),
        real("distance", "distance of the track's mean embedding to the identity's", null=True),
        ANNOTATOR,
    ),
    grain="dataset",
)

REFERENCES = Table(
    "references",
    "reference images chosen for a segment",
    ("segment_id", "kind", "n"),
    (
        SEGMENT,
        text("kind", "global, view, or expression"),
        index("n", "position within its kind"),
        text("identity_id", "person"),
        text("ref_source_id", "source of the image"),
        text("ref_track_id", "track of the image"),
        index("ref_k", "grid index of the image"),
        seconds("ref_t_s", "time of the image in its source"),
        real("distance", "identity distance to the person's mean embedding"),
        real("yaw_deg", "head yaw", "deg", null=True),
        text("view", "view label"),
        text("expression", "expression label"),
        real("expression_score", "its score", "0-1"),
        real("quality", "portrait quality", "0-1"),
        real("text_area", "share of the image under burnt-in text; null = not measured", "0-1", null=True),
        flag("overlaps_clip", "the image lies inside the segment's own time"),
    ),
    grain="dataset",
)

DUPLICATES = Table(
    "duplicates",
    "near duplicates among sources, by perceptual hash",
    ("source_id",),
    (
        SOURCE,
        text("near_duplicate_of", "smallest source_id of the group, null for that one itself", null=True),
        real("distance", "Hamming distance / bits to it", "0-1", null=True),
    ),
    grain="dataset",
)
