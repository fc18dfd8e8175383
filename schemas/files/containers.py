"""Which files may be opened as sound or video at all: files are hostile input.

Only self-contained containers, through the `file` protocol: a playlist, a concat script or a description of streams
names other files, on disk or over the network, which FFmpeg would otherwise open.
"""

from __future__ import annotations

from types import MappingProxyType

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,mxf,nut,ogg,dv,ivf,"
    "h264,hevc,m4v,wav,flac,mp3,aac,w64,aiff,caf,amr"
)
SELF_CONTAINED = MappingProxyType({"format_whitelist": _FORMATS, "protocol_whitelist": "file"})
"""FFmpeg's options for opening any input."""
