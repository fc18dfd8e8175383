"""Decode a stream's latents: at once, or beside the network's work on the next block.

Beside it means a thread of its own, and on CUDA a stream of its own: the codec's many small kernels fill what the
network leaves idle. Blocks are decoded one after another in their order, each with the state that the one before left,
so pictures are the same to the bit.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lpm_train.encoders.codec import Codec, State

Decoded = tuple[float, float, Tensor]
"""When a block was begun, when its pictures were there (`time.perf_counter`), and they, [n, 3, H, W]."""


class Decoding:
    """The decoder of one stream."""

    def __init__(self, codec: Codec, device: torch.device, beside: bool, half: bool = False) -> None:
        """Set up.

        Args:
            codec: decodes latents piece by piece.
            device: where latents are.
            beside: decode in a thread.
            half: compute in bfloat16 where autocast does.
        """
        self.codec, self.device, self.beside, self.half = codec, device, beside, half
        self.state: State = None
        self._done: deque[Future[Decoded]] = deque()
        self._worker = ThreadPoolExecutor(1, "decode") if beside else None
        self._stream: Any = torch.cuda.Stream(device) if beside and device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def put(self, latents_BFCHW: Tensor, begun_s: float) -> None:
        """Decode the next latents [1, F, C, H, W]; `begun_s`: when work on them began, on `time.perf_counter`."""
        if self._worker is None:
            future: Future[Decoded] = Future()
            future.set_result(self._decode(latents_BFCHW, begun_s, None))
            self._done.append(future)
            return
        ready: Any = None
        if self._stream is not None:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.current_stream(self.device))
            latents_BFCHW.record_stream(self._stream)
        self._done.append(self._worker.submit(self._decode, latents_BFCHW, begun_s, ready))

    def take(self, leave: int) -> list[Decoded]:
        """Wait for what is being decoded, but for the latest `leave` blocks, and return it in order.

        Raises what decoding raised.
        """
        out = []
        while len(self._done) > leave:
            begun_s, done_s, pictures = self._done.popleft().result()
            if self._stream is not None:
                pictures.record_stream(torch.cuda.current_stream(self.device))
            out.append((begun_s, done_s, pictures))
        return out

    @torch.no_grad()
    def _decode(self, latents_BFCHW: Tensor, begun_s: float, ready: Any) -> Decoded:
        """Decode, and return when the pictures are there: the device's work on them is then done."""
        cuda = self.device.type == "cuda"
        with torch.cuda.stream(self._stream) if self._stream is not None else nullcontext():
            if ready is not None:
                self._stream.wait_event(ready)
            with torch.autocast(self.device.type, torch.bfloat16) if self.half else nullcontext():
                pictures, self.state = self.codec.decode(latents_BFCHW, self.state)
            pictures = pictures[0].float()
            if cuda:
                torch.cuda.current_stream(self.device).synchronize()
        return begun_s, time.perf_counter(), pictures
