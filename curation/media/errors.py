"""The one error of the media layer: a stable code for tables and rules, a sentence for people.

A code is a reason a source can be quarantined for, so it never changes its spelling. Costs nothing.
"""

from __future__ import annotations

from typing import Literal

MediaCode = Literal[
    "missing_file",
    "empty_file",
    "not_a_video",
    "truncated",
    "no_video_stream",
    "no_audio_stream",
    "no_frames",
    "wrong_times",
    "decode_failed",
    "too_large",
    "encode_failed",
]


class MediaError(Exception):
    """A media file that cannot be used; `code` is stable, the message says what is wrong and what to do."""

    def __init__(self, code: MediaCode, message: str) -> None:
        super().__init__(message)
        self.code: MediaCode = code

    def __str__(self) -> str:
        return f"{self.code}: {self.args[0]}"

    def __reduce__(self) -> tuple[type[MediaError], tuple[MediaCode, str]]:
        return MediaError, (self.code, str(self.args[0]))
