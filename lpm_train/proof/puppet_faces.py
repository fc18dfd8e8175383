"""The puppet's own `FaceReader`: who it is and how far its mouth is open, in closed form, from any picture of it.

`lpm train eval RUN PUPPETS --set eval.faces=puppet`. The mouth of a puppet is the level of its voice, so lips belong to
a sound as far as the two correlate. About 1 ms a frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from lpm_train.proof.metrics import correlation
from lpm_train.proof.synthetic import SIZE, level_of, read_factors
from lpm_train.storage import DataError
from lpm_train.tools.judge.faces import F32, U8, Bools, Look, Sync
from schemas.time import PACKED_AUDIO_HZ

_AT_ONCE = 256  # frames that are read together


class PuppetFaces:
    """See the module's text."""

    same_person_distance = 0.15
    open_from = 0.2  # of a mouth that is 0 when shut and 1 when wide open

    def look(self, frames: Iterable[U8], every: int) -> Look:
        """Read every frame, uint8 RGB [32, 32, 3]. Raises DataError for another size: that is no puppet's picture."""
        left, openings, people = iter(frames), [np.zeros(0)], [np.zeros((0, 4))]
        while part := list(islice(left, _AT_ONCE)):
            if part[0].shape != (SIZE, SIZE, 3):
                raise DataError(f"pictures of {part[0].shape} show no puppet: choose another eval.faces")
            factors = read_factors(np.stack(part))
            openings.append(factors.mouth)
            people.append(factors.identity)
        opening, who = (np.concatenate(x).astype(np.float32) for x in (openings, people))
        who[np.arange(len(who)) % every != 0] = np.nan
        return Look(who, opening[:, None], opening)

    def sync(self, look: Look, wave_N: F32, rate_hz: int, use_T: Bools) -> Sync | None:
        """Correlate the mouth with the level of a sound at 48 kHz; its lag is not searched for."""
        if rate_hz != PACKED_AUDIO_HZ:
            raise DataError(f"a puppet's sound has {PACKED_AUDIO_HZ} Hz, not {rate_hz}")
        level_T = level_of(wave_N)
        return Sync(correlation(level_T[use_T], look.opening_T[use_T].astype(float)), 1.0, 0.0)

    def close(self) -> None:
        """Do nothing: there is no model."""
