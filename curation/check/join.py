"""A picture and the sounds that lie beside it as one file, without decoding the picture.

Packets of the picture are copied as they are; `speak` and `listen` become the left and the right channel of one FLAC
track, so that what is heard in the scene is their mix. Costs about the reading of the sounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np

from curation.media.audio import iter_audio_blocks
from curation.media.container import find_audio, find_video, open_media
from curation.media.errors import MediaError
from schemas.files.sound import F32

TRACKS = ("speak", "listen")
_BLOCK_S = 10.0
_SAME = {"fflags": "+bitexact"}
"""No random ids and no dates: the same files give the same bytes, so that nothing is measured twice."""


def joined(picture: Path, sounds: Mapping[str, Path], target: Path) -> Path:
    """Return a file with the picture and its sounds: `picture` itself where it has nothing beside it, else `target`.

    Speak and listen tracks take the place of a sound of the picture's own; any other sound only fills its absence.

    Raises:
        MediaError: a file cannot be read.
    """
    tracks = [sounds[role] for role in TRACKS if role in sounds]
    if len(tracks) < len(TRACKS):
        if not sounds or _has_sound(picture):
            return picture
        tracks = [sounds.get("sound") or tracks[0]]
    rate = _rate(tracks[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{target.name}")
    try:
        _write(picture, tracks, rate, temporary)
    except (av.error.FFmpegError, ValueError) as e:
        temporary.unlink(missing_ok=True)
        raise MediaError("encode_failed", f"{picture.name} and its sounds cannot be laid together: {e}") from e
    temporary.replace(target)
    return target


def _has_sound(picture: Path) -> bool:
    with open_media(picture) as container:
        return find_audio(container) is not None


def _rate(sound: Path) -> int:
    with open_media(sound) as container:
        stream = find_audio(container)
        if stream is None:
            raise MediaError("no_audio_stream", f"{sound.name} has no sound")
        return int(stream.codec_context.sample_rate)


def _write(picture: Path, tracks: list[Path], rate: int, target: Path) -> None:
    with open_media(picture) as source, av.open(str(target), "w", "matroska", _SAME) as out:
        video = find_video(source)
        if video is None:
            raise MediaError("no_video_stream", f"{picture.name} has no picture")
        copied = out.add_stream_from_template(video)
        layout = "stereo" if len(tracks) == len(TRACKS) else "mono"
        heard = out.add_stream("flac", rate=rate, layout=layout)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
        at = 0
        for block_CN in _blocks(tracks, rate):
            ints = np.round(np.clip(block_CN, -1, 1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(ints.T.reshape(1, -1).copy(), format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, at
            at += block_CN.shape[1]
            out.mux(heard.encode(frame))
        out.mux(heard.encode(None))


def _blocks(tracks: list[Path], rate: int) -> Iterator[F32]:
    """Yield the tracks side by side, [C, N]; the shorter one ends in silence."""
    for parts in zip_longest(*(iter_audio_blocks(t, rate, _BLOCK_S) for t in tracks)):
        sounds = [np.zeros(0, np.float32) if p is None else p[1] for p in parts]
        n = max(len(s) for s in sounds)
        yield np.stack([np.pad(s, (0, n - len(s))) for s in sounds])
