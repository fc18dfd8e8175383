"""What a packed clip's media hold, by decoding them whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import soundfile
from av.error import FFmpegError

from curation.media.container import open_data
from curation.media.errors import MediaError


@dataclass(frozen=True, slots=True)
class Played:
    """Frames that were decoded, the first one's presentation timestamp in ticks, and of each sound what it lasts."""

    frames: int
    width: int
    height: int
    first_pts: int | None
    sound_tracks: int
    """inside the video file"""
    sounds: dict[str, tuple[int, int, int]]
    """by name: samples, samples a second, channels"""


def played(video: bytes, sounds: Mapping[str, bytes]) -> Played:
    """Decode a packed clip's picture (MP4), and open its sounds (FLAC).

    Raises:
        MediaError: one of them cannot be read.
    """
    try:
        heard = {name: soundfile.info(io.BytesIO(data)) for name, data in sounds.items()}
        with open_data(io.BytesIO(video)) as container:
            stream = container.streams.video[0]
            frames, first = 0, None
            for frame in container.decode(stream):
                first = frame.pts if first is None else first
                frames += 1
            size, tracks = (stream.width, stream.height), len(container.streams.audio)
    except (FFmpegError, soundfile.LibsndfileError, IndexError) as e:
        raise MediaError("decode_failed", str(e)) from e
    lasting = {name: (info.frames, info.samplerate, info.channels) for name, info in heard.items()}
    return Played(frames, *size, first, tracks, lasting)
