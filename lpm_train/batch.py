"""The narrow waist of the trainer: one batch of latents with all that drives them.

Loaders make a `Batch`, stages consume it, and nothing else passes between data and model; where a generator is judged
by models and not by data, a `Conditioned` does, which has no latents. All types are frozen; every operation returns a
new object. Shapes are checked when an object is made (microseconds; no tensor is read), so that a wrong axis is named
here and not ten modules later.

Shape letters, here and in every module of this package: B samples, F latent frames, C latent channels, H W latent
height and width, S tokens in a frame, D model width, N heads, E head width, r audio steps in a latent frame, T = F*r
audio steps, A audio feature width, L text tokens, Q prompts beside the first, K reference slots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

STATES = ("idle", "speak", "listen", "both")  # names of the values of `Batch.state_BF`; bit 0 speaks, bit 1 listens

KINDS = {"global": 0, "view": 1, "expression": 2}  # values of `Conditions.ref_kind_BK` by the kind's name in shards

_T = TypeVar("_T", bound="_Tensors")
Rows = TypeVar("Rows", bound="Conditioned")
_Given = TypeVar("_Given", bound="Conditioned", covariant=True)


def sample_seed(*parts: object) -> int:
    """Hash any parts to a seed in [0, 2**63): the one source of randomness in this package.

    Every draw is a function of such parts (run seed, step, sample id, purpose), hence of neither rank, worker nor
    history; a resumed run needs no generator state.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Tensors:
    """What the two frozen records share: shapes checked by the letters of each field's name, rows, device moves."""

    def _tensors(self) -> dict[str, Tensor]:
        return {n: v for n, v in vars(self).items() if isinstance(v, Tensor)}

    def _check(self, **sizes: int) -> dict[str, int]:
        """See that equal letters have equal sizes and that kinds fit; returns the size of every letter."""
        for name, x in self._tensors().items():
            letters = name.rsplit("_", 1)[1]
            want = [sizes.get(letter) for letter in letters]
            if x.dim() != len(want) or any(w not in (None, n) for w, n in zip(want, x.shape, strict=True)):
                shown = ", ".join("any" if n is None else str(n) for n in want)
                raise ValueError(f"{name} has shape {list(x.shape)}, expected [{shown}]")
            sizes |= dict(zip(letters, x.shape, strict=True))
            kind = "float" if x.is_floating_point() else "bool" if x.dtype == torch.bool else "integer"
            wanted = "bool" if "_on_" in name or "_mask_" in name else "integer" if name in _INTEGERS else "float"
            if kind != wanted:
                raise ValueError(f"{name} has dtype {x.dtype}, expected a {wanted} tensor")
        return sizes

    def _map(self: _T, function: Callable[[Tensor], Tensor], **others: object) -> _T:
        out: dict[str, Any] = {n: function(v) for n, v in self._tensors().items()}
        out |= {n: v._map(function) for n, v in vars(self).items() if isinstance(v, _Tensors)}
        return replace(self, **out, **others)  # type: ignore[type-var]

    def to(self: _T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> _T:
        """Move to a device and cast the floating tensors; masks, kinds and states keep their types."""
        return self._map(lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))


_INTEGERS = ("ref_kind_BK", "state_BF", "prompt_BF")


@dataclass(frozen=True, eq=False, kw_only=True)
class Conditions(_Tensors):
    """What drives the frames. A stream that is off at a frame is replaced there by a learned null token."""

    speak_BTA: Tensor  # features of what the character says, [B, F*r, A]; frame f owns steps [f*r, (f+1)*r)
    listen_BTA: Tensor  # features of what the character hears, [B, F*r, A]
    speak_on_BF: Tensor  # bool [B, F]; False: the character is not in speaking mode (not the same as silence)
    listen_on_BF: Tensor  # bool [B, F]; False: nobody is heard
    text_BLD: Tensor  # text embeddings [B, L, Dt]
    text_mask_BL: Tensor  # bool [B, L]; True at real tokens. A row without any is 'no text'
    ref_BKCHW: Tensor  # reference images as single latent frames [B, K, C, H, W]; K may be 0
    ref_mask_BK: Tensor  # bool [B, K]; False: an empty slot, whatever its latent holds
    ref_kind_BK: Tensor  # int [B, K]: 0 global appearance, 1 body view, 2 facial expression
    # Texts that change inside the clip: more of them, [B, Q, L, Dt], bool [B, Q, L], and which one each frame is told,
    # int [B, F]: 0 is that of `text_BLD`, q the q-th of these.
    prompts_BQLD: Tensor | None = None
    prompts_mask_BQL: Tensor | None = None
    prompt_BF: Tensor | None = None
    # Latents of pictures that are given, [B, F, C, H, W], and where, bool [B, F]. Image-to-video networks have channels
    # for them, and see the code of a grey picture elsewhere; others see them clean in place of the noise
    # (`network.begun`). And what an image encoder saw in the first one: tokens [B, I, P].
    given_BFCHW: Tensor | None = None
    given_on_BF: Tensor | None = None
    picture_BIP: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = self._check()
        if len({x is None for x in (self.prompts_BQLD, self.prompts_mask_BQL, self.prompt_BF)}) > 1:
            raise ValueError("prompts_BQLD, prompts_mask_BQL and prompt_BF belong together")
        if sizes["F"] == 0 or sizes["T"] % sizes["F"]:
            raise ValueError(
                f"{sizes['T']} audio steps over {sizes['F']} latent frames: the steps must be a multiple of the frames"
            )

    def __len__(self) -> int:
        return self.speak_on_BF.shape[0]

    @property
    def frames(self) -> int:
        """Latent frames F."""
        return self.speak_on_BF.shape[1]

    def select(self, rows: Sequence[int]) -> Self:
        """Take rows of the batch axis, in the order given."""
        return self._map(lambda x: x[list(rows)])

    def window(self, start: int, stop: int) -> Self:
        """Take latent frames [start, stop) with their audio steps; texts and references stay."""
        if not 0 <= start < stop <= self.frames:
            raise ValueError(f"frames [{start}, {stop}) are outside of the clip's {self.frames}")
        r = self.speak_BTA.shape[1] // self.frames
        part = {n: getattr(self, n)[:, start * r : stop * r] for n in ("speak_BTA", "listen_BTA")}
        frames = ("speak_on_BF", "listen_on_BF", "prompt_BF", "given_BFCHW", "given_on_BF")
        part |= {n: getattr(self, n)[:, start:stop] for n in frames if getattr(self, n) is not None}
        return replace(self, **part)

    def told(self, start: int, stop: int) -> Self:
        """Keep only the texts that frames [start, stop) are told; other frames are told the first of those.

        A rollout of minutes has many texts and a block of it one: what a pass costs must not grow with the others.
        """
        if self.prompt_BF is None or self.prompts_BQLD is None or self.prompts_mask_BQL is None:
            return self
        rows = [list(dict.fromkeys(row)) for row in self.prompt_BF[:, start:stop].tolist()]
        most, device = max(map(len, rows)), self.prompt_BF.device
        kept = torch.tensor([row + row[:1] * (most - len(row)) for row in rows], device=device)
        texts = torch.cat([self.text_BLD[:, None], self.prompts_BQLD], dim=1)
        masks = torch.cat([self.text_mask_BL[:, None], self.prompts_mask_BQL], dim=1)
        at = torch.arange(len(rows), device=device)[:, None]
        texts, masks = texts[at, kept], masks[at, kept]
        alone = most == 1
        number = (self.prompt_BF[..., None] == kept[:, None]).int().argmax(-1)
        return replace(
            self, text_BLD=texts[:, 0], text_mask_BL=masks[:, 0], prompts_BQLD=None if alone else texts[:, 1:],
            prompts_mask_BQL=None if alone else masks[:, 1:], prompt_BF=None if alone else number,
        )  # fmt: skip

    def repeated(self, times: int) -> Self:
        """Let the same sounds and prompts come again and again; references stay, no picture is given but the first."""
        names = ("speak_BTA", "listen_BTA", "speak_on_BF", "listen_on_BF", "prompt_BF")
        more = {n: torch.cat([x] * times, dim=1) for n in names if (x := getattr(self, n)) is not None}
        if (x := self.given_BFCHW) is not None and (on := self.given_on_BF) is not None:
            more["given_BFCHW"] = torch.cat([x, *[x[:, -1:].expand_as(x)] * (times - 1)], dim=1)
            more["given_on_BF"] = torch.cat([on, *[torch.zeros_like(on)] * (times - 1)], dim=1)
        return replace(self, **more)

    def without(self, **drop: bool | Tensor) -> Self:
        """Switch `speak`, `listen`, `text` or `refs` off: for all samples (True), or where a bool [B] is True."""
        masks = {"speak": "speak_on_BF", "listen": "listen_on_BF", "text": "text_mask_BL", "refs": "ref_mask_BK"}

        def keep(mask: Tensor, drop: bool | Tensor) -> Tensor:
            return mask & ~torch.as_tensor(drop, device=mask.device).reshape(-1, *[1] * (mask.dim() - 1))

        off = {masks[n]: keep(getattr(self, masks[n]), value) for n, value in drop.items()}
        if "text" in drop and self.prompts_mask_BQL is not None:
            off["prompts_mask_BQL"] = keep(self.prompts_mask_BQL, drop["text"])
        return replace(self, **off)

    def null(self) -> Self:
        """Switch every condition off: the unconditional side of guidance."""
        return self.without(speak=True, listen=True, text=True, refs=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conditioned(_Tensors):
    """Conditions of B samples, and who they are: all that a generator's own rollout needs."""

    cond: Conditions
    sample_ids: tuple[str, ...]  # one identifier a row; randomness is seeded by it

    def __post_init__(self) -> None:
        B, (_, _, C, H, W) = len(self.sample_ids), self.cond.ref_BKCHW.shape
        self._check(B=B, F=self.cond.frames, C=C, H=H, W=W)
        if len(self.cond) != B:
            raise ValueError(f"{B} sample ids, but conditions of {len(self.cond)} samples")

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W) of a latent."""
        C, H, W = self.cond.ref_BKCHW.shape[2:]
        return C, H, W

    def select(self, rows: Sequence[int] | slice) -> Self:
        """Take rows of the batch axis: micro-batches, or one state's samples."""
        picked = range(len(self))[rows] if isinstance(rows, slice) else rows
        index = rows if isinstance(rows, slice) else torch.as_tensor(rows, dtype=torch.long)
        return self._map(lambda x: x[index], sample_ids=tuple(self.sample_ids[i] for i in picked))

    def micro_batches(self, size: int) -> list[Self]:
        """Cut into consecutive parts of equal size."""
        if size < 1 or len(self) % size:
            raise ValueError(f"a batch of {len(self)} cannot be cut into parts of {size}; set optim.micro_batch")
        return [self.select(slice(i, i + size)) for i in range(0, len(self), size)]

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join batches of one shape along the batch axis."""
        if len(parts) == 1:
            return parts[0]
        conds = [p.cond for p in parts]
        cond = Conditions(**{n: torch.cat([getattr(c, n) for c in conds]) for n in conds[0]._tensors()})
        own = {n: torch.cat([getattr(p, n) for p in parts]) for n in parts[0]._tensors()}
        return cls(**own, cond=cond, sample_ids=tuple(i for p in parts for i in p.sample_ids))


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(Conditioned):
    """Latents of B clips of one shape, their conditions, and who they are."""

    x_BFCHW: Tensor  # latents, float32, of about unit spread
    state_BF: Tensor  # int8 [B, F]: 0 idle, 1 speak, 2 listen, 3 both; for metrics, the model never sees it


@dataclass(frozen=True, kw_only=True)
class DropRates:
    """How often a condition is hidden in training, so that guidance and missing inputs work later."""

    speak: float = 0.1
    listen: float = 0.1
    text: float = 0.1
    refs: float = 0.1
    everything: float = 0.05

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            if not 0.0 <= rate <= 1.0:
                raise ValueError(f"drop.{name} = {rate} is not a probability")


def drop_conditions(batch: Batch, rates: DropRates, *seed: object) -> Batch:
    """Hide conditions of each sample independently; the choice depends on the seed parts and the sample's id alone."""
    generators = (torch.Generator().manual_seed(sample_seed("drop", *seed, i)) for i in batch.sample_ids)
    draws = torch.stack([torch.rand(5, generator=g) for g in generators]).double()
    everything = draws[:, 4] < rates.everything
    names = ("speak", "listen", "text", "refs")
    masks = {n: (everything | (draws[:, k] < getattr(rates, n))).to(batch.x_BFCHW.device) for k, n in enumerate(names)}
    return replace(batch, cond=batch.cond.without(**masks))


class BatchSource(Protocol[_Given]):
    """What the training loop asks of a loader: an endless stream of one rank's batches, and its place in it.

    With W ranks, rank n yields rows [n*G/W, (n+1)*G/W) of each global batch of G rows: consecutive rows, not every
    W-th, so that sums over rows have the same order at any world size. The state (JSON values) is the same on every
    rank and says what the next batch will be; `restore` refuses that of other data.
    """

    def __next__(self) -> _Given: ...
    def state(self) -> Mapping[str, Any]: ...  # noqa: D102
    def restore(self, state: Mapping[str, Any]) -> None: ...  # noqa: D102
