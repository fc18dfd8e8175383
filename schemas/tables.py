"""Every table of a dataset: its columns, their units and meaning, and its key.

This file is the data contract. A column that is not here does not exist; a stage that writes something else
is refused. Measurements only: nothing here says what is kept (that is `schemas/policy.py`).
"""

from __future__ import annotations

import pyarrow as pa

from schemas.columns import (
    ANNOTATOR,
    DURATION,
    END,
    SEGMENT,
    SHOT,
    SOURCE,
    START,
    TRACK,
    TRACKLET,
    K,
    T,
    blob,
    count,
    flag,
    index,
    real,
    reals,
    seconds,
    text,
    texts,
)
from schemas.table import Column, Table

# ------------------------------------------------------------ input registry

INPUTS = Table(
    "inputs",
    "one row a path that was given to `lpm run`; the same bytes under two names share a source_id",
    ("path",),
    (
        text("path", "absolute path or URI as registered"),
        SOURCE,
        text("name", "file name, for people"),
        count("bytes", "file size", "B"),
        count("modified_ns", "modification time when it was hashed; an unchanged file is not hashed again", "ns"),
        text("license", "licence identifier from the sidecar or list; null = unknown", null=True),
        text("rights_holder", "who holds the rights", null=True),
        text("consent", "consent record of the people shown, as given", null=True),
        text("rights_from", "where the rights record came from: sidecar, list, or null", null=True),
        text("session", "session key of files recorded together, from the list", null=True),
    ),
    grain="dataset",
)

# ------------------------------------------------------------ probe

SOURCES = Table(
    "sources",
    "container facts of one source file, as measured (not as the header claims, where they differ)",
    ("source_id",),
    (
        SOURCE,
        text("sha256", "SHA-256 of the bytes, hex"),
        count("bytes", "file size", "B"),
        text("container", "container format name"),
        seconds("duration_s", "span of the video's presentation times, last frame's duration included"),
        seconds("video_start_s", "container time of the first video frame; zero of the source's clock"),
        text("video_codec", "video codec name"),
        index("width", "displayed width in pixels, rotation and pixel aspect applied"),
        index("height", "displayed height in pixels"),
        index("short_side_px", "the smaller of width and height, in pixels"),
        index("rotation_deg", "rotation metadata, degrees clockwise: 0, 90, 180, 270"),
        real("fps", "average frame rate", "1/s"),
        flag("is_vfr", "frame durations vary by more than a tick of rounding"),
        count("n_frames", "video packets in the file"),
        real("video_bitrate_bps", "video payload bits a second", "bit/s"),
        real("bits_per_pixel", "bitrate / (width * height * fps); SpeakerVid's clarity measure"),
        text("pixel_format", "pixel format name"),
        flag("has_audio", "the file carries an audio stream with samples"),
        text("audio_codec", "audio codec name", null=True),
        index("audio_rate_hz", "audio sample rate; 0 without audio"),
        index("audio_channels", "audio channels; 0 without audio"),
        seconds("audio_start_s", "first audio sample on the source's clock", null=True),
        seconds("audio_duration_s", "span of the audio's presentation times", null=True),
        text(
            "perceptual_hash",
            "difference hash of key frames, hex; near duplicates are close in Hamming distance",
        ),
    ),
)

# ------------------------------------------------------------ scan

CUTS = Table(
    "cuts",
    "shot boundaries: the first frame of each new shot",
    ("source_id", "t_s"),
    (
        SOURCE,
        seconds("t_s", "presentation time of the first frame after the cut"),
        count("frame", "index of that frame within the file"),
        real("score", "detector score at the cut, in the detector's own unit"),
        ANNOTATOR,
    ),
    grain="window",
)

FRAMES = Table(
    "frames",
    "picture measures on the 25 Hz grid",
    ("source_id", "k"),
    (
        SOURCE,
        K,
        T,
        real("luma_mean", "mean of the luma plane", "0-255"),
        real("luma_std", "standard deviation of the luma plane", "0-255"),
        real(
            "sharpness",
            "Laplacian variance of the sharpest face (whole picture without one), scaled to 128 px",
        ),
        real("motion", "mean absolute luma difference to the previous grid frame", "0-255"),
        real("camera_motion", "speed of the background; null = nothing to follow", "picture widths/s", null=True),
        flag("is_black", "nearly all pixels below 16 + 5 in limited range"),
        flag("is_frozen", "picture identical to the previous frame up to coding noise"),
        index("n_faces", "faces tracked in this frame"),
    ),
    grain="window",
)

LAYOUT = Table(
    "layout",
    "bars and overlays, measured about every two seconds",
    ("source_id", "k"),
    (
        SOURCE,
        K,
        T,
        real("bar_top", "flat bar at the top, share of height", "0-1"),
        real("bar_bottom", "flat bar at the bottom, share of height", "0-1"),
        real("bar_left", "flat bar at the left, share of width", "0-1"),
        real("bar_right", "flat bar at the right, share of width", "0-1"),
        real("text_area", "share of the picture covered by overlaid text", "0-1"),
        real("logo_area", "share of the picture covered by a static overlaid graphic", "0-1"),
        reals("text_boxes", "overlaid text boxes x0, y0, x1, y1, flattened, as shares of width and height"),
        reals("logo_boxes", "overlaid graphics' boxes, likewise"),
        reals("inset_boxes", "pictures within the picture, likewise"),
        reals("panel_boxes", "panels of a split screen, likewise; one whole panel without a split screen"),
        ANNOTATOR,
    ),
    grain="window",
)

FACE_FRAMES = Table(
    "face_frames",
    "one row a face and grid point: box, head pose, mouth and eyes, 52 blendshapes",
    ("source_id", "tracklet_id", "k"),
    (
        SOURCE,
        TRACKLET,
        K,
        T,
        real("x", "left edge of the face box", "px"),
        real("y", "top edge of the face box", "px"),
        real("w", "width of the face box", "px"),
        real("h", "height of the face box", "px"),
        real("score", "detector confidence, carried along between detections", "0-1"),
        flag("has_mesh", "the landmarker confirmed a face here"),
        real("yaw_deg", "head yaw, positive = turned to the picture's right", "deg", null=True),
        real("pitch_deg", "head pitch, positive = up", "deg", null=True),
        real("roll_deg", "head roll, positive = clockwise in the picture", "deg", null=True),
        real("mouth_open", "inner lip gap / face height", null=True),
        real("eye_open", "eye opening / eye width, mean of both eyes", null=True),
        real("sharpness", "Laplacian variance of the face scaled to 128 px", null=True),
        reals("blendshapes", "52 scores in MediaPipe's order, 0-1; empty without a mesh"),
    ),
    grain="window",
)

FACE_CROPS = Table(
    "face_crops",
    "112 x 112 grey crops for active speaker detection, with landmarks; the heavy table",
    ("source_id", "tracklet_id", "k"),
    (
        SOURCE,
        TRACKLET,
        K,
        blob("crop", "JPEG, 112 x 112, grey"),
        blob("landmarks", "478 x 2 int16 little endian, picture pixels * 8; null without a mesh", null=True),
    ),
    grain="window",
)

PORTRAITS = Table(
    "portraits",
    "about one colour portrait a second and face: for identity, references and contact sheets",
    ("source_id", "tracklet_id", "k"),
    (
        SOURCE,
        TRACKLET,
        K,
        T,
        blob("image", "JPEG of the head and shoulders, long side at most 384 px"),
        reals("face_xywh", "face box inside the portrait", "px"),
        reals(
            "points_xy",
            "five points (right eye, left eye, nose tip, mouth corners) inside the portrait, or empty",
            "px",
        ),
        real("face_px", "shorter side of the face box in the picture", "px"),
        real("sharpness", "Laplacian variance of the face scaled to 128 px"),
        real("luma_mean", "mean luma of the face", "0-255"),
    ),
    grain="window",
)

# ------------------------------------------------------------ tracks

SHOTS = Table(
    "shots",
    "stretches between cuts with their picture measures; they partition the source",
    ("shot_id",),
    (
        SHOT,
        SOURCE,
        START,
        END,
        DURATION,
        count("start_frame", "index of the first frame within the file"),
        real("luma_mean", "mean luma over the shot", "0-255"),
        real("luma_std", "mean spatial standard deviation of luma", "0-255"),
        real("sharpness", "median sharpness over the shot (Laplacian variance at 128 px)"),
        real("black_ratio", "share of black frames", "0-1"),
        real("frozen_ratio", "share of frozen frames", "0-1"),
        real("longest_freeze_s", "longest run of frozen frames", "s"),
        real("bar_area", "share of the picture under flat bars, median", "0-1"),
        real("text_area", "share under overlaid text, 75th percentile over the shot", "0-1"),
        real("logo_area", "share under a static graphic, median", "0-1"),
        real("motion", "mean of frame-to-frame motion", "0-255"),
        real("camera_motion", "median camera motion; null = nothing to follow", "picture widths/s", null=True),
        index("n_people_max", "most faces at once (frames with a confirmed face)"),
        real("n_people_mean", "mean number of faces"),
        real("people_ratio", "share of frames with at least one face", "0-1"),
    ),
)

TRACKS = Table(
    "tracks",
    "one person's face through one shot",
    ("track_id",),
    (
        TRACK,
        SOURCE,
        SHOT,
        START,
        END,
        DURATION,
        index("n_frames", "grid points with a box"),
        real("visible_ratio", "share of the track's grid points whose face the landmarker confirmed", "0-1"),
        real("shot_ratio", "track's length / shot's length", "0-1"),
        real("median_face_px", "median of the face box's shorter side", "px"),
        real("min_face_px", "10th percentile of the face box's shorter side", "px"),
        real("face_area", "median share of the picture inside the face box", "0-1"),
        real("center_x", "median horizontal centre", "0-1"),
        real("center_y", "median vertical centre", "0-1"),
        real("cropped_ratio", "share of frames whose face box leaves the picture", "0-1"),
        real("inset_ratio", "share of frames in which the face stands in a picture within the picture", "0-1"),
        real("sharpness", "median face sharpness (Laplacian variance at 128 px)"),
        real("yaw_abs_median_deg", "median of |yaw|", "deg", null=True),
        real("pitch_abs_median_deg", "median of |pitch|", "deg", null=True),
        real("text_overlap", "largest share of the face box under overlaid text or a graphic", "0-1"),
        real("face_motion", "mean speed of the face's centre", "face widths/s"),
        real("mouth_motion", "standard deviation of mouth opening", null=True),
        real("blendshape_variation", "mean standard deviation over the 52 blendshapes", null=True),
        real("score", "mean detector confidence", "0-1"),
    ),
)

TRACKLETS = Table(
    "tracklets",
    "which window pieces make up which track",
    ("tracklet_id",),
    (TRACKLET, SOURCE, TRACK),
)

# ------------------------------------------------------------ speech

SPEECH_FRAMES = Table(
    "speech_frames",
    "sound on the 25 Hz grid",
    ("source_id", "k"),
    (
        SOURCE,
        K,
        real("speech", "speech probability", "0-1"),
        real("level_db", "RMS level", "dBFS"),
    ),
)

SPEECH = Table(
    "speech",
    "stretches with speech",
    ("source_id", "start_s"),
    (SOURCE, START, END, real("probability", "mean speech probability", "0-1"), ANNOTATOR),
)

SPEAKERS = Table(
    "speakers",
    "voices of one source",
    ("speaker_id",),
    (
        text("speaker_id", "`<source_id>-v<n>` in order of first appearance"),
        SOURCE,
        seconds("speech_s", "speech attributed to this voice"),
        reals("embedding", "mean voice embedding, unit length"),
        ANNOTATOR,
    ),
)

TURNS = Table(
    "turns",
    "who speaks when, by voice alone",
    ("source_id", "start_s", "speaker_id"),
    (
        text("speaker_id", "voice"),
        SOURCE,
        START,
        END,
        real("confidence", "cosine of the turn's voice to its speaker, minus that to the next best speaker"),
        flag("overlapped", "another voice speaks in part of the turn"),
        ANNOTATOR,
    ),
)

WORDS = Table(
    "words",
    "recognised words",
    ("source_id", "n"),
    (
        SOURCE,
        index("n", "position in the source"),
        START,
        END,
        text("word", "the word with its punctuation"),
        real("probability", "recogniser confidence", "0-1"),
        text("speaker_id", "voice of the turn that holds the word's middle", null=True),
        real("avg_logprob", "mean log probability of the recogniser's segment"),
        real("no_speech_prob", "recogniser's probability that its segment is not speech", "0-1"),
        real("compression_ratio", "text repetitiveness of the recogniser's segment (gzip ratio)"),
        ANNOTATOR,
    ),
)

AUDIO = Table(
    "audio",
    "sound of one source as a whole",
    ("source_id",),
    (
        SOURCE,
        flag("has_audio", "there is an audio stream with samples"),
        real("level_db", "RMS level", "dBFS", null=True),
        real("peak_db", "peak level", "dBFS", null=True),
        real("clipping_ratio", "share of samples at full scale", "0-1", null=True),
        real("silence_ratio", "share of 40 ms frames below -60 dBFS", "0-1", null=True),
        real("noise_floor_db", "level of the quietest tenth of the frames without speech", "dBFS", null=True),
        real("snr_db", "speech level minus noise floor", "dB", null=True),
        real("speech_ratio", "share of the source with speech", "0-1"),
        real(
            "music_ratio",
            "share of the sound that looks like music or noise, by a spectral heuristic",
            "0-1",
            null=True,
        ),
        text("language", "language of the speech, ISO 639-1; null without speech", null=True),
        real("language_probability", "recogniser's confidence in the language", "0-1", null=True),
        index("n_speakers", "voices told apart"),
        ANNOTATOR,
    ),
)

# ------------------------------------------------------------ attribution

ASD_FRAMES = Table(
    "asd_frames",
    "active speaker score per track and grid point",
    ("track_id", "k"),
    (TRACK, K, real("score", "active speaker score; > 0 = this face speaks"), ANNOTATOR),
)

SYNC = Table(
    "sync",
    "lip-audio offset per track, over stretches with speech",
    ("track_id",),
    (
        TRACK,
        real("offset_ms", "how late the sound is against the lips; negative = early", "ms", null=True),
        real("confidence", "maximum minus median of the correlation over lags", null=True),
        real("correlation", "correlation at the best lag", "-1-1", null=True),
        seconds("evidence_s", "speech on which this rests"),
        ANNOTATOR,
    ),
)

BINDINGS = Table(
    "bindings",
    "which face speaks with which voice, over the whole source",
    ("speaker_id", "track_id"),
    (
        text("speaker_id", "voice"),
        TRACK,
        SOURCE,
        seconds("heard_s", "seconds this voice is heard while the face is seen"),
        seconds("spoken_s", "of these, seconds in which the face's active speaker score is positive"),
        real("mean_asd", "mean active speaker score while the voice is heard"),
        real("strength", "spoken_s / heard_s, shrunk by half a second of doubt", "0-1"),
        flag("bound", "this face is taken for the voice's owner here"),
    ),
)

VOICES = Table(
    "voices",
    "per voice: is its owner ever seen",
    ("speaker_id",),
    (
        text("speaker_id", "voice"),
        SOURCE,
        seconds("speech_s", "speech of this voice"),
        seconds("seen_s", "of it, seconds with a bound face in view"),
        flag("off_screen", "no visible face was bound to this voice"),
    ),
)

# ------------------------------------------------------------ pairing

TIMELINE = Table(
    "timeline",
    "each track's states over time; runs partition the track",
    ("track_id", "start_s"),
    (
        TRACK,
        SOURCE,
        START,
        END,
        text("state", "speak, listen, idle, both, or discard"),
        text(
            "reason",
            "what decided it: e.g. synced_voice, heard_voice, silence, lips_without_voice, foreign_voice",
        ),
        real("confidence", "mean confidence of the run", "0-1"),
        text("partner", "track or voice this person listens or speaks to", null=True),
    ),
)

SEGMENTS = Table(
    "segments",
    "candidate clips: they partition each track, discarded stretches included",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        SHOT,
        TRACK,
        START,
        END,
        DURATION,
        text("state", "speak, listen, idle, both, or discard"),
        text("reason", "why this state"),
        real("confidence", "mean state confidence", "0-1"),
        real("state_ratio", "share of the segment in its own state", "0-1"),
        text("speaker_id", "the voice heard most", null=True),
        text("partner_track_id", "face of the other person, where one is seen", null=True),
        text("partner", "off-screen voice or track of the other person", null=True),
        text("pair_id", "groups segments of one exchange: same source, overlapping time", null=True),
        text("text", "words spoken by this person (speak) or heard (listen)"),
        real("word_probability", "mean word confidence", "0-1", null=True),
        real("speech_ratio", "share of the segment with speech", "0-1"),
        real("overlap_ratio", "share of the segment with two voices at once", "0-1"),
        real("asd_mean", "mean active speaker score", null=True),
        real("sync_offset_ms", "lip-audio offset of the track", "ms", null=True),
        real("sync_confidence", "its confidence", null=True),
        real("level_db", "RMS level of the sound", "dBFS", null=True),
        real("visible_ratio", "share of grid points with a confirmed face", "0-1"),
        real("median_face_px", "median shorter side of the face box", "px"),
        real("crop_short_px", "shorter side of the person crop before scaling", "px"),
        real("frozen_ratio", "share of frozen frames", "0-1"),
        flag("cuts_word", "a border lies inside a recognised word"),
    ),
)

# ------------------------------------------------------------ performance

CAPTIONS = Table(
    "captions",
    "performance annotation of a segment",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("caption", "one prose caption; for listen only what does not change over time"),
        texts("emotions", "emotion terms, strongest first"),
        texts("expressions", "expression terms, strongest first"),
        texts("head_motion", "head motion terms"),
        text("gaze", "main gaze target"),
        text("stance", "listening stance", null=True),
        text("shot_type", "shot type term"),
        text("body_motion", "level of body motion"),
        text("tags", "JSON list of tags with name, kind, start_s, end_s (source clock), confidence, annotator"),
        texts("contradictions", "where the caption disagrees with the timeline; empty = none found"),
        ANNOTATOR,
    ),
)

# ------------------------------------------------------------ identity, references

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
        text("view", "view label: frontal, left_profile, right_profile, rear"),
        text("expression", "expression label"),
        real("expression_score", "its score", "0-1"),
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

# ------------------------------------------------------------ packing

_MEMBERS = pa.list_(pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]))

CLIPS = Table(
    "clips",
    "encoded clips, before they are gathered into shards",
    ("segment_id",),
    (
        SEGMENT,
        SOURCE,
        text("file", "path of the clip's tar under the dataset"),
        text("sha256", "of that tar"),
        index("width", "of the video, in pixels"),
        index("height", "of the video, in pixels"),
        index("n_frames", "video frames at 25 fps"),
        count("n_audio_samples", "samples of each audio at 48 kHz"),
        real("audio_shift_ms", "sound moved by this much to correct a constant lip-audio offset", "ms"),
        reals("crop_xywh", "the person crop in the picture", "px"),
        index("other_faces", "faces of other tracks that the crop could not leave out"),
        real("speak_level_db", "RMS of the speak audio", "dBFS", null=True),
        real("listen_level_db", "RMS of the listen audio", "dBFS", null=True),
    ),
)

MANIFEST = Table(
    "manifest",
    "one row a sample",
    ("sample_id",),
    (
        text("sample_id", "key in the shard; equals the segment_id"),
        SOURCE,
        TRACK,
        text("identity_id", "person"),
        text("split", "train, val, or test"),
        text("state", "speak, listen, idle, or both"),
        START,
        END,
        DURATION,
        index("width", "video width in pixels"),
        index("height", "video height in pixels"),
        real("fps", "video frame rate", "1/s"),
        index("n_frames", "video frames"),
        count("n_audio_samples", "samples of each audio at 48 kHz"),
        text("language", "language of the source's speech", null=True),
        text("text", "words spoken or heard"),
        text("caption", "prose caption"),
        texts("emotions", "emotion terms"),
        texts("expressions", "expression terms"),
        real("asd_mean", "mean active speaker score", null=True),
        real("sync_offset_ms", "lip-audio offset of the track", "ms", null=True),
        real("sync_confidence", "its confidence", null=True),
        real("confidence", "mean state confidence", "0-1"),
        real("median_face_px", "median shorter side of the face box in the source", "px"),
        text("partner_track_id", "face of the other person", null=True),
        text("pair_id", "exchange this sample belongs to", null=True),
        index("n_references", "reference images in the sample"),
        text("license", "licence of the source; null = unknown", null=True),
        text("shard", "tar file under shards/"),
        Column("members", _MEMBERS, "members with byte offset and size inside the shard"),
        text("annotators", "JSON object: what measured what, with weights' hashes"),
        text("policy_id", "hash of the policy that kept it"),
    ),
    grain="dataset",
)

# ------------------------------------------------------------ ledger

DECISIONS = Table(
    "decisions",
    "the outcome of every unit: kept, filtered, quarantined or pending, with the reason",
    ("unit", "unit_id"),
    (
        text("unit", "sources, shots, tracks, or segments"),
        text("unit_id", "its id"),
        SOURCE,
        seconds("duration_s", "its length"),
        text("outcome", "kept, filtered, quarantined, or pending"),
        text("step", "funnel step of the rule, or the stage that failed or is missing", null=True),
        text("rule", "rule id, or the error's class", null=True),
        text(
            "reason",
            "sentence for people: rule, measured values and threshold, or the error's message",
            null=True,
        ),
        text("measured", "JSON object of the measured values the rule looked at", null=True),
        text("decided_by", "the unit whose measurement decided: itself, a parent, or a child"),
    ),
    grain="dataset",
)

ERRORS = Table(
    "errors",
    "quarantine: what failed, where, and how",
    ("source_id", "stage", "unit_id"),
    (
        SOURCE,
        text("stage", "stage that failed"),
        text("unit_id", "the item that failed: the source, or a track or segment of it"),
        text("error", "exception class or media error code"),
        text("message", "what is wrong and what to do"),
        text("traceback", "last frames of the traceback"),
    ),
    grain="dataset",
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        INPUTS,
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
        SPEECH,
        SPEAKERS,
        TURNS,
        WORDS,
        AUDIO,
        ASD_FRAMES,
        SYNC,
        BINDINGS,
        VOICES,
        TIMELINE,
        SEGMENTS,
        CAPTIONS,
        FACE_EMBEDDINGS,
        IDENTITIES,
        TRACK_IDENTITIES,
        REFERENCES,
        DUPLICATES,
        CLIPS,
        MANIFEST,
        DECISIONS,
        ERRORS,
    )
}
