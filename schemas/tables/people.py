"""Tables of people: embeddings, identities, references, near duplicates."""

from __future__ import annotations

from schemas.columns import (
    ANNOTATOR,
    END,
    SEGMENT,
    SOURCE,
    START,
    TRACK,
    K,
    T,
    count,
    flag,
    index,
    real,
    reals,
    seconds,
    text,
)
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
        real(
            "body_yaw_deg",
            "where the chest faces, > 0 = image right; null = shoulders not in the portrait",
            "deg",
            null=True,
        ),
        text(
            "view",
            "by the body's yaw, else by the head's: "
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
        text("identity_id", "`p-<hash>`, given once and kept: see docs/identities.md"),
        count("n_tracks", "tracks of this person"),
        count("n_sources", "sources this person appears in"),
        seconds("seen_s", "length of the tracks"),
        text("split", "train, val or test; null while no clip of theirs is kept, or all are withheld", null=True),
        text("group_id", "identities that share a source, session or copy; one group never spans two splits"),
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

IDENTITY_REGISTRY = Table(
    "identity_registry",
    "the names that tracks bear, remembered from run to run; tracks that the policy leaves out now are in it too",
    ("track_id",),
    (
        TRACK,
        SOURCE,
        text("identity_id", "the name that clustering gave, before people decided anything"),
        text("person_id", "the name after people's decisions: `track_identities.identity_id`"),
        START,
        END,
        real("center_x", "horizontal centre of the face, to find the track under another id", "0-1"),
        real("center_y", "vertical centre", "0-1"),
        text("measure", "hash of how it was clustered; under another one a name is inherited, not binding"),
    ),
    grain="dataset",
)

IDENTITY_ALIASES = Table(
    "identity_aliases",
    "names that are no longer in use, and whose they are now",
    ("alias", "source_id"),
    (
        text("alias", "the name that somebody bore once"),
        SOURCE,
        text("identity_id", "the person's present name"),
    ),
    grain="dataset",
)

SPLITS = Table(
    "splits",
    "the split of every source that had a kept clip; given once, it never changes",
    ("source_id",),
    (
        SOURCE,
        text("split", "train, val or test; null where none could be given without a leak", null=True),
        flag("withheld", "its clips are in no split for now: it shares somebody with sources of other splits"),
        text("why", "what it shares with which split, where withheld", null=True),
        text("group_id", "sources that share a person, session or copy"),
        seconds("kept_s", "length of the kept clips when the splits were looked at last"),
        text("seed", "`identity.split_seed` under which it was dealt"),
    ),
    grain="dataset",
)

SPLIT_SHARES = Table(
    "split_shares",
    "what each split holds beside what it should",
    ("split",),
    (
        text("split", "train, val, test, or withheld"),
        real("wanted", "share of the kept seconds asked for", "0-1"),
        real("share", "share of the kept seconds it has", "0-1"),
        seconds("kept_s", "length of its kept clips"),
        count("n_sources", "sources in it"),
        count("n_groups", "groups in it: a group is never divided"),
    ),
    grain="dataset",
)

DOUBTFUL_MERGES = Table(
    "doubtful_merges",
    "people that were kept apart and may be one: for a person to judge",
    ("identity_id", "other_identity_id"),
    (
        text("identity_id", "person"),
        text("other_identity_id", "the person that may be the same"),
        text("track_id", "of the first person's tracks the one nearest to the second person"),
        text("other_track_id", "of the second person's tracks the one nearest to it"),
        flag("across_sources", "they share no source"),
        real("distance", "root mean square L2 distance between their tracks' faces"),
        real("limit", "below it they would be one, voices taken into account"),
        text("voices", "one: a voice is bound to both; two: different voices; unknown"),
        text(
            "why",
            "kept apart for: distance (not near enough), two_voices, seen_at_once, poor_portraits (too dark, small or "
            "turned to tell), or named_before (two names that were given before are not joined but by hand)",
        ),
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
        real(
            "own_distance",
            "identity distance to the other portraits of the segment's own track (those inside it, where there are "
            "two); null = it is the only one",
            null=True,
        ),
        real("rival_distance", "identity distance to the nearest other person of the source; null = nobody", null=True),
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
