"""The network: its sizes and windows, the public weights that it begins with, and low-rank changes to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lpm_train.config.errors import ConfigError, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Model:
    """The diffusion transformer. Widths of inputs must be those of codec, audio features and text encoder."""

    kind: Literal["lpm", "wan"] = "lpm"  # the network: ours, or the form that Wan's weights fit (`network.wan`)
    channels: int  # latent channels C
    image_channels: int = 0  # wan: channels of a given first picture beside the latents, its mask first
    picture_width: int = 0  # wan: features of an image encoder's tokens of that picture; 0: it is not asked
    audio_width: int  # audio features A in a step
    audio_steps: int  # audio steps r in a latent frame
    text_width: int
    depth: int = 6
    width: int = 96
    heads: int = 4
    patch: int = 2  # latent pixels in a token, each way
    mlp_ratio: float = 4.0
    speak_before: int = 2  # audio steps before a frame's own that speech attention sees
    speak_after: int = 0  # audio steps after a frame's own; they delay a stream
    listen_before: int = 8  # each step of a window has a learned place; no clip trains those that reach before it
    listen_after: int = 0
    theta: float = 10_000.0
    ref_gap: int = 8  # frames between references and the first video frame, in position

    def __post_init__(self) -> None:
        positive(
            self, "channels", "audio_width", "audio_steps", "text_width", "depth", "width", "heads", "patch",
            "mlp_ratio", "theta",
        )  # fmt: skip
        not_negative(self, "image_channels", "picture_width", "ref_gap")
        if self.width % self.heads or (self.width // self.heads) % 2 or self.width // self.heads < 6:
            raise ConfigError(f"model.width {self.width} over {self.heads} heads: heads need an even width from 6 on")
        if self.kind == "lpm" and self.image_channels + self.picture_width:
            raise ConfigError("model.image_channels and model.picture_width are for model.kind=wan")
        if min(self.speak_before, self.speak_after, self.listen_before, self.listen_after) < 0:
            raise ConfigError("audio windows reach back and ahead by zero or more steps, not fewer")

    @property
    def frames_before(self) -> int:
        """Latent frames of past sound that the widest window needs."""
        return -(-max(self.speak_before, self.listen_before) // self.audio_steps)

    @property
    def frames_after(self) -> int:
        """Latent frames of sound to come that the widest window needs."""
        return -(-max(self.speak_after, self.listen_after) // self.audio_steps)


@dataclass(frozen=True, kw_only=True)
class Base:
    """Public weights that training begins with (`network.base`); read again for as long as they are frozen."""

    weights: str = ""  # wan:DIRECTORY; empty: none
    sha256: str = ""  # of all its tensors (`network.base_hash`): another base is refused


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank changes to a frozen base; what was added to the base is trained whole."""

    rank: int = 0  # 0: the base is trained whole
    alpha: float = 0.0  # a change counts alpha / rank; 0: as much as the rank
    targets: tuple[str, ...] = ("qkv", "out", "text.q", "text.kv", "text.out", "mlp.0", "mlp.2")  # layers of a block

    def __post_init__(self) -> None:
        not_negative(self, "rank", "alpha")
        if not self.targets:
            raise ConfigError("lora.targets must name layers")

    @property
    def scale(self) -> float:
        """What a change counts."""
        return (self.alpha or self.rank) / max(1, self.rank)
