"""Every table of a dataset: its columns, their units and meaning, and its key.

This file is the data contract. A column that is not here does not exist; a stage that writes something else
is refused. Measurements only: nothing here says what is kept (that is `schemas/settings/policy.py`).
"""

from __future__ import annotations

from typing import Any

from schemas.table import Table
from schemas.tables.attribution import (
    ASD_FRAMES,
    BACKCHANNELS,
    BINDINGS,
    SYNC,
    SYNC_FRAMES,
    TURN_TAKING,
    VOICE_TURNS,
    VOICES,
)
from schemas.tables.audits import AUDITS
from schemas.tables.body import BODIES, BODY_FRAMES
from schemas.tables.labels import (
    CAPTION_LABELS,
    CUT_LABELS,
    IDENTITY_DECISIONS,
    LABEL_STATES,
    LABEL_TABLES,
    LABELS,
    VOICE_LABELS,
    WORD_LABELS,
)
from schemas.tables.output import CLIPS, DECISIONS, ERRORS, MANIFEST
from schemas.tables.pairing import SEGMENTS, TIMELINE, VERDICTS
from schemas.tables.people import (
    DOUBTFUL_MERGES,
    DUPLICATES,
    FACE_EMBEDDINGS,
    IDENTITIES,
    IDENTITY_ALIASES,
    IDENTITY_REGISTRY,
    REFERENCES,
    SPLIT_SHARES,
    SPLITS,
    TRACK_IDENTITIES,
)
from schemas.tables.performance import CAPTIONS, EVENTS
from schemas.tables.plans import CLIP_PLANS
from schemas.tables.registry import FORGOTTEN, INPUTS, SOURCES
from schemas.tables.scan import CUTS, FACE_CROPS, FACE_FRAMES, FRAMES, LAYOUT, PORTRAITS
from schemas.tables.sessions import SESSION_PAIRS, SESSIONS, SOUND_SIGNATURES
from schemas.tables.speech import AUDIO, AUDIO_EVENTS, CHANNEL_FRAMES, SPEAKERS, SPEECH, SPEECH_FRAMES, TURNS, WORDS
from schemas.tables.tracks import SHOTS, TRACKLETS, TRACKS
from schemas.tables.vectors import CLIP_SCORES, CLIP_VECTORS, NEAR_CLIPS, PORTRAIT_VECTORS

_EVERY: tuple[Table[Any], ...] = (
    INPUTS,
    FORGOTTEN,
    SOURCES,
    CUTS,
    FRAMES,
    LAYOUT,
    FACE_FRAMES,
    FACE_CROPS,
    PORTRAITS,
    SHOTS,
    TRACKS,
    TRACKLETS,
    SPEECH_FRAMES,
    CHANNEL_FRAMES,
    SPEECH,
    SPEAKERS,
    TURNS,
    WORDS,
    AUDIO,
    AUDIO_EVENTS,
    SOUND_SIGNATURES,
    ASD_FRAMES,
    SYNC,
    SYNC_FRAMES,
    VOICE_TURNS,
    BINDINGS,
    VOICES,
    BACKCHANNELS,
    TURN_TAKING,
    *LABEL_TABLES,
    AUDITS,
    TIMELINE,
    SEGMENTS,
    CLIP_PLANS,
    VERDICTS,
    BODY_FRAMES,
    BODIES,
    CAPTIONS,
    EVENTS,
    CLIP_VECTORS,
    CLIP_SCORES,
    FACE_EMBEDDINGS,
    PORTRAIT_VECTORS,
    NEAR_CLIPS,
    IDENTITIES,
    TRACK_IDENTITIES,
    IDENTITY_DECISIONS,
    IDENTITY_REGISTRY,
    IDENTITY_ALIASES,
    SPLITS,
    SPLIT_SHARES,
    DOUBTFUL_MERGES,
    REFERENCES,
    DUPLICATES,
    SESSIONS,
    SESSION_PAIRS,
    CLIPS,
    MANIFEST,
    DECISIONS,
    ERRORS,
)

TABLES: dict[str, Table[Any]] = {t.name: t for t in _EVERY}

GIVEN: tuple[Table[Any], ...] = (INPUTS, FORGOTTEN, *LABEL_TABLES, AUDITS, IDENTITY_DECISIONS)
"""Tables that people give and no stage writes."""

REMEMBERED = (IDENTITY_DECISIONS, IDENTITY_REGISTRY, IDENTITY_ALIASES, SPLITS)
"""Tables of the whole dataset that outlive the run that wrote them; rows go when their source does."""

__all__ = [
    "ASD_FRAMES",
    "AUDIO",
    "AUDIO_EVENTS",
    "AUDITS",
    "BACKCHANNELS",
    "BINDINGS",
    "BODIES",
    "BODY_FRAMES",
    "CAPTIONS",
    "CAPTION_LABELS",
    "CHANNEL_FRAMES",
    "CLIPS",
    "CLIP_PLANS",
    "CLIP_SCORES",
    "CLIP_VECTORS",
    "CUTS",
    "CUT_LABELS",
    "DECISIONS",
    "DOUBTFUL_MERGES",
    "DUPLICATES",
    "ERRORS",
    "EVENTS",
    "FACE_CROPS",
    "FACE_EMBEDDINGS",
    "FACE_FRAMES",
    "FORGOTTEN",
    "FRAMES",
    "GIVEN",
    "IDENTITIES",
    "IDENTITY_ALIASES",
    "IDENTITY_DECISIONS",
    "IDENTITY_REGISTRY",
    "INPUTS",
    "LABELS",
    "LABEL_STATES",
    "LABEL_TABLES",
    "LAYOUT",
    "MANIFEST",
    "NEAR_CLIPS",
    "PORTRAITS",
    "PORTRAIT_VECTORS",
    "REFERENCES",
    "REMEMBERED",
    "SEGMENTS",
    "SESSIONS",
    "SESSION_PAIRS",
    "SHOTS",
    "SOUND_SIGNATURES",
    "SOURCES",
    "SPEAKERS",
    "SPEECH",
    "SPEECH_FRAMES",
    "SPLITS",
    "SPLIT_SHARES",
    "SYNC",
    "SYNC_FRAMES",
    "TABLES",
    "TIMELINE",
    "TRACKLETS",
    "TRACKS",
    "TRACK_IDENTITIES",
    "TURNS",
    "TURN_TAKING",
    "VERDICTS",
    "VOICES",
    "VOICE_LABELS",
    "VOICE_TURNS",
    "WORDS",
    "WORD_LABELS",
]
