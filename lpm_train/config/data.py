"""What is read, and how it becomes numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from lpm_train import parts
from lpm_train.batch import STATES
from lpm_train.config.errors import ConfigError, not_negative, positive, share
from schemas.settings.use import near


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is read, in what order, and how it becomes numbers. All but `workers` and `prefetch` decides batches."""

    root: str = ""  # a packed dataset: a directory or an s3:// prefix
    where: str = ""  # SQL condition over the manifest; empty: all
    codec: parts.CodecPart = field(default_factory=parts.codec)
    audio: parts.AudioPart = field(default_factory=parts.audio)
    text: parts.TextPart = field(default_factory=parts.text)
    picture: parts.PicturePart = field(default_factory=parts.picture)
    # clip: a clip is told its caption; timed: each block of latents what lasts of it, and what happens there.
    prompts: Literal["clip", "timed"] = "clip"
    prompt_words: bool = False  # timed prompts tell the words that the person says in a block as well
    max_prompts: int = 4  # texts of a clip at most, the one without events among them
    prompt_latents: int = 3  # latents that are told one text: whole blocks of a stream
    # The clip's first picture is given: as image-to-video bases are trained, or as a clean first latent (Wan 2.2's 5B).
    first_frame: bool = False
    frames: int = 64  # video frames of a clip
    height: int = 256
    width: int = 256
    # More (frames, height, width) that clips may be cut to: of those that fit, the longest that shows most is taken.
    more_sizes: tuple[tuple[int, int, int], ...] = ()
    # Height, width and more_sizes are taken from the clips when a run begins: so many sizes at most; 0: as given.
    auto_sizes: int = 0
    pixels: int = 0  # that a size so chosen may have at most; 0: height x width
    min_kept: float = 0.9  # share of a clip's area that its size must keep
    upscale: bool = False  # whether a clip may be enlarged to its size
    misfits: Literal["refuse", "leave"] = "refuse"  # clips that fit no size: there is no run, or one without them
    batch: int = 8  # samples in a step over all ranks
    # Share of each state in what is drawn; empty: as they come, every sample once an epoch.
    balance: dict[str, float] = field(default_factory=dict)
    max_refs: int = 2  # reference slots K; a sample uses a random number of them, at least one where it has any
    drop_ref: float = 0.15  # how often a single reference other than the first is left out
    silence: float = 0.1  # how often a stream that is off is given as true silence instead of 'not in this mode'
    precomputed: str = ""  # name of the precomputed set; empty: decode and encode on the fly
    hop_frames: int = 1  # windows start at multiples of this many frames (rounded up to whole latents)
    workers: int = 2  # threads that decode
    prefetch: int = 2  # steps that are prepared ahead

    def __post_init__(self) -> None:
        positive(self, "frames", "height", "width", "batch", "hop_frames", "max_prompts", "prompt_latents")
        not_negative(self, "auto_sizes", "pixels", "max_refs", "workers", "prefetch")
        share(self, "min_kept", "drop_ref", "silence")
        if any(n < 1 for size in self.more_sizes for n in size):
            raise ConfigError(f"data.more_sizes {self.more_sizes}: frames, heights and widths must be positive")
        if unknown := [state for state in self.balance if state not in STATES]:
            raise ConfigError(f"data.balance: no state {unknown[0]!r}; {near(unknown[0], STATES)}")
        if self.balance and not (min(shares := self.balance.values()) >= 0 and 0 < sum(shares) < math.inf):
            raise ConfigError(f"data.balance {self.balance}: shares must not be negative, and one must be positive")
        if self.prompt_words and (self.prompts != "timed" or self.precomputed):
            raise ConfigError(
                "data.prompt_words tells each block its words: it needs data.prompts=timed, and no data.precomputed, "
                "whose texts are those of events, as which words a block has depends on where a window begins"
            )

    @property
    def sizes(self) -> tuple[tuple[int, int, int], ...]:
        """All (frames, height, width) that clips are cut to."""
        return ((self.frames, self.height, self.width), *self.more_sizes)

    @property
    def most_pixels(self) -> int:
        """Pixels that a size chosen from the clips may have."""
        return self.pixels or self.height * self.width
