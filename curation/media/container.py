"""Open a media file safely, choose its streams, and fix the zero of its clock.

Files are hostile input: only self-contained audio and video containers are opened (no playlists or scripts that name
other files), only through the `file` protocol. Zero on the source's clock is the presentation time of its first video
frame; in a file without video, of its first audible sample. Opening costs a few milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO, Any

import av
from av.stream import Disposition

from curation.media.errors import MediaError
from curation.media.structure import missing_bytes
from schemas.files.containers import SELF_CONTAINED
from schemas.files.sound import settle_layouts

_ORIGIN_PACKETS = 64
"""Packets looked at for the first presentation time when the header does not state it (more than any reorder depth)."""


@contextmanager
def open_media(path: Path, options: dict[str, str] | None = None) -> Iterator[Any]:
    """Open a file for reading and close it again; raise `MediaError` that says what is wrong with it.

    Args:
        path: a file on this machine; its name is never read as a protocol or a pattern.
        options: further demuxer options.
    """
    container = _open(path, options or {})
    try:
        settle_layouts(container)
        yield container
    finally:
        container.close()


@contextmanager
def open_data(data: IO[bytes]) -> Iterator[Any]:
    """Open what a file object holds, under the same limits as a file, and close it again.

    Raises:
        av.error.FFmpegError: it is no self-contained audio or video.
    """
    with av.open(data, options=dict(SELF_CONTAINED), metadata_errors="replace") as container:
        yield container


def _open(path: Path, options: dict[str, str]) -> Any:
    if not path.is_file():
        raise MediaError("missing_file", f"no file at {path}; check the path")
    if path.stat().st_size == 0:
        raise MediaError("empty_file", f"{path.name} has zero bytes; copy or download it again")
    try:
        return av.open("file:" + str(path.absolute()), options={**SELF_CONTAINED, **options}, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        reason = _WHY.get(type(error)) or getattr(error, "strerror", None) or error
        missing = missing_bytes(path)
        if missing:
            raise MediaError(
                "truncated", f"{path.name} ends before its index, {describe_missing(missing)}; copy it again"
            ) from error
        raise MediaError(
            "not_a_video",
            f"{path.name} is not a video that can be read ({reason}); give a video file, or re-encode it to MP4",
        ) from error


_WHY = {av.error.ArgumentError: "a still picture or another format that is not read here"}
"""What FFmpeg's errors mean here: a format that is not on the list is an invalid argument."""


def describe_missing(n_bytes: int) -> str:
    """Say how much of a file is missing, in words."""
    return f"at least {n_bytes} byte{'s' if n_bytes != 1 else ''} missing"


def find_video(container: Any) -> Any | None:
    """Return the main video stream, or None; cover art is not video."""
    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        return None
    best = container.streams.best("video")
    return best if best in videos else videos[0]


def require_video(container: Any, path: Path) -> Any:
    """Return the main video stream.

    Raises:
        MediaError: `no_video_stream`; `decode_failed` if no decoder knows its codec.
    """
    stream = find_video(container)
    if stream is None:
        raise MediaError("no_video_stream", f"{path.name} holds no video stream; give the file that has the picture")
    if stream.codec_context is None:
        raise MediaError(
            "decode_failed", f"{path.name} uses a video codec that is not known here; re-encode it to H.264"
        )
    return stream


def find_audio(container: Any) -> Any | None:
    """Return the main audio stream that has a decoder, or None."""
    best = container.streams.best("audio")
    known = [s for s in container.streams.audio if s.codec_context is not None]
    return best if best in known else next(iter(known), None)


def find_heard(container: Any) -> list[Any]:
    """Return the audio streams that are heard together: the main one, or every one of a recording in mono tracks.

    Cameras and recorders write a mono track for each microphone; of several tracks that are no such, each is the whole
    sound (another language, a comment, a mix for another purpose), and the main one is taken.
    """
    main = find_audio(container)
    tracks = [s for s in container.streams.audio if s.codec_context is not None]
    if main is None or not _are_microphones(tracks):
        return [] if main is None else [main]
    return tracks


_OTHER = (
    Disposition.dub | Disposition.comment | Disposition.lyrics | Disposition.karaoke | Disposition.hearing_impaired
    | Disposition.visual_impaired | Disposition.clean_effects | Disposition.descriptions
)  # fmt: skip
_OTHER_TITLE = re.compile("comment|descri|dub|translat", re.IGNORECASE)


def _are_microphones(tracks: list[Any]) -> bool:
    """Say whether mono tracks are parts of one sound, by what the file says of them (a heuristic)."""
    alike = {(s.codec_context.name, s.rate, s.channels, s.metadata.get("language", "")) for s in tracks}
    others = any(s.disposition & _OTHER or _OTHER_TITLE.search(s.metadata.get("title", "")) for s in tracks)
    return len(tracks) > 1 and len(alike) == 1 and tracks[0].channels == 1 and not others


def read_only(container: Any, *streams: Any) -> None:
    """Let the demuxer skip every stream that is not named, where its format can skip."""
    kept = {s.index for s in streams}
    for s in container.streams:
        s.discard = av.stream.Discard.default if s.index in kept else av.stream.Discard.all


def origin_s(container: Any, path: Path) -> Fraction:
    """Return the container's time of zero on the source's clock, in seconds, exact.

    The stream's start time is used where the demuxer knows it; otherwise the first packets are read from a second
    handle.
    """
    stream = find_video(container) or find_audio(container)
    if stream is None:
        return Fraction(0)
    if stream.start_time is not None:
        return Fraction(stream.start_time) * Fraction(stream.time_base)
    with open_media(path) as fresh:
        packets = fresh.demux(fresh.streams[stream.index])
        stamps = [t for t in map(timestamp, islice(packets, _ORIGIN_PACKETS)) if t is not None]
    return Fraction(min(stamps, default=0)) * Fraction(stream.time_base)


_REORDERED = ("h264", "hevc", "vvc", "mpeg4")
"""Codecs whose order of presentation FFmpeg's demuxers do not work out where a container has no presentation times."""


def has_no_presentation_times(container: Any, stream: Any) -> bool:
    """Say whether a video stream's presentation times are FFmpeg's guess from decoding times, made in decoding order.

    AVI stores none. FFmpeg's best-effort timestamp (`guess_correct_pts` in libavcodec) finds out by counting that
    decoding times are the less faulty; here it is known from the start, so it does not depend on where reading began.
    """
    return container.format.name == "avi" and stream.codec_context.name in _REORDERED


def video_stamp(item: Any, ordered: bool) -> int | None:
    """Return a packet's or frame's time in ticks, as `timestamp`; `ordered` where presentation times are no such.

    The times of packets in order of decoding are then those of the frames in order of presentation.
    """
    if ordered:
        return None if item.dts is None else int(item.dts)
    return timestamp(item)


def timestamp(item: Any) -> int | None:
    """Return a packet's or frame's presentation time in ticks; its decoding time where it has no other."""
    if item.pts is not None:
        return int(item.pts)
    return None if item.dts is None else int(item.dts)
