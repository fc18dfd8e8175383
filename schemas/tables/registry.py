"""Tables of what came in: the input registry and container facts."""

from __future__ import annotations

from schemas.columns import SOURCE, count, flag, index, real, seconds, text
from schemas.table import Table

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


FORGOTTEN = Table(
    "forgotten",
    "one row a source that `lpm forget` took out; its bytes are refused from then on. The hash is kept to know them by",
    ("source_id",),
    (
        SOURCE,
        text("forgotten_on", "date, YYYY-MM-DD"),
        text("reason", "as given, for instance a request's number", null=True),
        count("samples", "packed samples that left the shards"),
        flag("proven", "the dataset was searched from end to end afterwards and held no trace"),
    ),
    grain="dataset",
)


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
