"""Decode a stream packet by packet, so that a damaged packet costs itself and not the rest of the file.

Decoding through the container ends at the first error; here each error is reported and decoding goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import av


def decode_packets(
    container: Any,
    stream: Any,
    failed: Callable[[Any | None, av.error.FFmpegError], None],
    sent: Callable[[Any], None] = lambda _: None,
) -> Iterator[Any]:
    """Yield a stream's frames from where the container stands.

    `failed` is told of every error with the packet that the decoder refused, or None where the container could not be
    read: that ends the frames, for the next read would fail again. `sent` is told of every packet before it is decoded.
    """
    packets = container.demux(stream)
    while True:
        packet = None
        try:
            packet = next(packets, None)
            if packet is None:
                return
            sent(packet)
            yield from packet.decode()
        except av.error.FFmpegError as error:
            failed(packet, error)
            if packet is None:
                return
