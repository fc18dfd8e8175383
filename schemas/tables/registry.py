"""Tables of what came in: the input registry and container facts."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class InputRow(Row):
    """One row a path that was given to `lpm run`; the same bytes under two names share a source_id."""

    path: Column[str] = c.text("absolute path or URI as registered")
    source_id: Column[str] = c.source_id()
    name: Column[str] = c.text("file name, for people")
    bytes: Column[int] = c.count("file size", "B")
    modified_ns: Column[int] = c.count(
        "modification time when it was hashed; an unchanged file is not hashed again", "ns"
    )
    license: Column[str | None] = c.text("licence identifier from the sidecar or list; null = unknown", null=True)
    rights_holder: Column[str | None] = c.text("who holds the rights", null=True)
    consent: Column[str | None] = c.text("consent record of the people shown, as given", null=True)
    rights_from: Column[str | None] = c.text("where the rights record came from: sidecar, list, or null", null=True)
    session: Column[str | None] = c.text("session key of files recorded together, from the list", null=True)


INPUTS = Table(InputRow, "inputs", (InputRow.path,), grain="dataset")


class ForgottenRow(Row):
    """One row a source that `lpm forget` took out; its bytes are refused from then on. The hash is kept to know them
    by.
    """

    source_id: Column[str] = c.source_id()
    forgotten_on: Column[str] = c.text("date, YYYY-MM-DD")
    reason: Column[str | None] = c.text("as given, for instance a request's number", null=True)
    samples: Column[int] = c.count("packed samples that left the shards")
    proven: Column[bool] = c.flag("the dataset was searched from end to end afterwards and held no trace")


FORGOTTEN = Table(ForgottenRow, "forgotten", (ForgottenRow.source_id,), grain="dataset")


class SourceRow(Row):
    """Container facts of one source file, as measured (not as the header claims, where they differ)."""

    source_id: Column[str] = c.source_id()
    sha256: Column[str] = c.text("SHA-256 of the bytes, hex")
    bytes: Column[int] = c.count("file size", "B")
    container: Column[str] = c.text("container format name")
    duration_s: Column[float] = c.seconds("span of the video's presentation times, last frame's duration included")
    video_start_s: Column[float] = c.seconds("container time of the first video frame; zero of the source's clock")
    video_codec: Column[str] = c.text("video codec name")
    width: Column[int] = c.index("displayed width in pixels, rotation and pixel aspect applied")
    height: Column[int] = c.index("displayed height in pixels")
    short_side_px: Column[int] = c.index("the smaller of width and height, in pixels")
    rotation_deg: Column[int] = c.index("rotation metadata, degrees clockwise: 0, 90, 180, 270")
    fps: Column[float] = c.real("average frame rate", "1/s")
    is_vfr: Column[bool] = c.flag("frame durations vary by more than a tick of rounding")
    n_frames: Column[int] = c.count("video packets in the file")
    video_bitrate_bps: Column[float] = c.real("video payload bits a second", "bit/s")
    bits_per_pixel: Column[float] = c.real("bitrate / (width * height * fps); SpeakerVid's clarity measure")
    pixel_format: Column[str] = c.text(
        "pixel format name; `interlaced`, `PQ` or `HLG` after it where the first frame is so"
    )
    has_audio: Column[bool] = c.flag("the file carries an audio stream with samples")
    audio_codec: Column[str | None] = c.text("audio codec name", null=True)
    audio_rate_hz: Column[int] = c.index("audio sample rate; 0 without audio")
    audio_channels: Column[int] = c.index("audio channels, of all mono tracks that are mixed; 0 without audio")
    audio_start_s: Column[float | None] = c.seconds("first audio sample on the source's clock", null=True)
    audio_duration_s: Column[float | None] = c.seconds("span of the audio's presentation times", null=True)
    perceptual_hash: Column[str] = c.text(
        "difference hash of key frames, hex; near duplicates are close in Hamming distance"
    )


SOURCES = Table(SourceRow, "sources", (SourceRow.source_id,))
