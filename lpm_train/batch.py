"""The narrow waist of the trainer: one batch of latents with all that drives them.

Loaders make a `Batch`, stages consume it, and nothing else passes between data and model. Both types are frozen;
every operation returns a new object. Shapes are checked when an object is made (microseconds; no tensor is read), so
that a wrong axis is named here and not ten modules later.

Shape letters, here and in every module of this package: B samples, F latent frames, C latent channels, H W latent
height and width, S tokens in a frame, D model width, N heads, E head width, r audio steps in a latent frame, T = F*r
audio steps, A audio feature width, L text tokens, K reference slots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

IDLE, SPEAK, LISTEN, BOTH = 0, 1, 2, 3  # values of `Batch.state_BF`

STATES = ("idle", "speak", "listen", "both")  # names of the states, by value

GLOBAL, BODY, EXPRESSION = 0, 1, 2  # values of `Conditions.ref_kind_BK`

REFERENCE_KINDS = ("global", "body", "expression")  # names of the reference kinds, by value

_T = TypeVar("_T", bound="_Tensors")


def sample_seed(*parts: object) -> int:
    """Hash any parts to a seed in [0, 2**63): the one source of randomness in this package.

    Every draw is a function of such parts (run seed, step, sample id, purpose), hence of neither rank, worker nor
    history; a resumed run needs no generator state.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class _Tensors:
    """Share row selection and device moves between the two frozen records."""

    def _map(self: _T, function: Any) -> _T:
        out = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                out[field.name] = function(value)
            elif isinstance(value, _Tensors):
                out[field.name] = value._map(function)
        return replace(self, **out)  # type: ignore[type-var]

    def to(self: _T, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> _T:
        """Move to a device and cast the floating tensors; masks, kinds and states keep their types."""
        return self._map(lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))


def _check(name: str, x: Tensor, shape: Sequence[int | None], kind: str) -> None:
    fits = x.dim() == len(shape) and all(want is None or want == got for want, got in zip(shape, x.shape, strict=True))
    if not fits:
        want_text = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has shape {list(x.shape)}, expected [{want_text}]")
    good = {"float": x.is_floating_point(), "bool": x.dtype == torch.bool}.get(
        kind, not x.is_floating_point() and x.dtype != torch.bool
    )
    if not good:
        raise ValueError(f"{name} has dtype {x.dtype}, expected a {kind} tensor")


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

    def __post_init__(self) -> None:
        B, F = self.speak_on_BF.shape if self.speak_on_BF.dim() == 2 else (None, None)
        T, A = self.speak_BTA.shape[1:] if self.speak_BTA.dim() == 3 else (None, None)
        _check("speak_on_BF", self.speak_on_BF, (None, None), "bool")
        _check("listen_on_BF", self.listen_on_BF, (B, F), "bool")
        _check("speak_BTA", self.speak_BTA, (B, None, None), "float")
        _check("listen_BTA", self.listen_BTA, (B, T, A), "float")
        assert F is not None and T is not None
        if F == 0 or T % F:
            raise ValueError(f"{T} audio steps over {F} latent frames: the steps must be a multiple of the frames")
        _check("text_BLD", self.text_BLD, (B, None, None), "float")
        _check("text_mask_BL", self.text_mask_BL, (B, self.text_BLD.shape[1]), "bool")
        _check("ref_BKCHW", self.ref_BKCHW, (B, None, None, None, None), "float")
        _check("ref_mask_BK", self.ref_mask_BK, (B, self.ref_BKCHW.shape[1]), "bool")
        _check("ref_kind_BK", self.ref_kind_BK, (B, self.ref_BKCHW.shape[1]), "integer")

    def __len__(self) -> int:
        return self.speak_on_BF.shape[0]

    @property
    def frames(self) -> int:
        """Latent frames F."""
        return self.speak_on_BF.shape[1]

    @property
    def steps_per_frame(self) -> int:
        """Audio steps r in a latent frame."""
        return self.speak_BTA.shape[1] // self.frames

    def select(self, rows: Sequence[int] | slice | Tensor) -> Self:
        """Take rows of the batch axis, in the order given."""
        index = rows if isinstance(rows, slice | Tensor) else torch.as_tensor(rows, dtype=torch.long)
        return self._map(lambda x: x[index])

    def window(self, start: int, stop: int) -> Self:
        """Take latent frames [start, stop) with their audio steps; text and references stay."""
        r = self.steps_per_frame
        if not 0 <= start < stop <= self.frames:
            raise ValueError(f"frames [{start}, {stop}) are outside of the clip's {self.frames}")
        return replace(
            self,
            speak_BTA=self.speak_BTA[:, start * r : stop * r],
            listen_BTA=self.listen_BTA[:, start * r : stop * r],
            speak_on_BF=self.speak_on_BF[:, start:stop],
            listen_on_BF=self.listen_on_BF[:, start:stop],
        )

    def without(
        self,
        *,
        speak: bool | Tensor = False,
        listen: bool | Tensor = False,
        text: bool | Tensor = False,
        refs: bool | Tensor = False,
    ) -> Self:
        """Switch conditions off, for all samples (True) or for those where a bool [B] is True."""

        def keep(mask: Tensor, drop: bool | Tensor) -> Tensor:
            return mask & ~torch.as_tensor(drop, device=mask.device).reshape(-1, 1)

        return replace(
            self,
            speak_on_BF=keep(self.speak_on_BF, speak),
            listen_on_BF=keep(self.listen_on_BF, listen),
            text_mask_BL=keep(self.text_mask_BL, text),
            ref_mask_BK=keep(self.ref_mask_BK, refs),
        )

    def null(self) -> Self:
        """Switch every condition off: the unconditional side of guidance."""
        return self.without(speak=True, listen=True, text=True, refs=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch(_Tensors):
    """Latents of B clips of one shape, their conditions, and who they are."""

    x_BFCHW: Tensor  # latents, float32, of about unit spread
    cond: Conditions
    state_BF: Tensor  # int8 [B, F]: 0 idle, 1 speak, 2 listen, 3 both. For metrics and balance; the model never sees it
    sample_ids: tuple[str, ...]  # one identifier a row; randomness is seeded by it

    def __post_init__(self) -> None:
        B = len(self.sample_ids)
        _check("x_BFCHW", self.x_BFCHW, (B, self.cond.frames, None, None, None), "float")
        _check("state_BF", self.state_BF, (B, self.cond.frames), "integer")
        C, H, W = self.x_BFCHW.shape[2:]
        _check("ref_BKCHW", self.cond.ref_BKCHW, (B, None, C, H, W), "float")
        if len(self.cond) != B:
            raise ValueError(f"{B} sample ids, but conditions of {len(self.cond)} samples")

    def __len__(self) -> int:
        return len(self.sample_ids)

    def select(self, rows: Sequence[int] | slice) -> Self:
        """Take rows of the batch axis: micro-batches, or one state's samples."""
        index = rows if isinstance(rows, slice) else torch.as_tensor(rows, dtype=torch.long)
        picked = range(len(self))[rows] if isinstance(rows, slice) else rows
        return replace(
            self,
            x_BFCHW=self.x_BFCHW[index],
            cond=self.cond.select(index),
            state_BF=self.state_BF[index],
            sample_ids=tuple(self.sample_ids[i] for i in picked),
        )

    def micro_batches(self, size: int) -> list[Self]:
        """Cut into consecutive parts of equal size."""
        if size < 1 or len(self) % size:
            raise ValueError(f"a batch of {len(self)} cannot be cut into parts of {size}; set optim.micro_batch")
        return [self.select(slice(i, i + size)) for i in range(0, len(self), size)]

    @staticmethod
    def cat(parts: Sequence[Batch]) -> Batch:
        """Join batches of one shape along the batch axis."""
        if len(parts) == 1:
            return parts[0]
        names = [f.name for f in fields(Conditions)]
        cond = Conditions(**{n: torch.cat([getattr(p.cond, n) for p in parts]) for n in names})
        return Batch(
            x_BFCHW=torch.cat([p.x_BFCHW for p in parts]),
            cond=cond,
            state_BF=torch.cat([p.state_BF for p in parts]),
            sample_ids=tuple(i for p in parts for i in p.sample_ids),
        )


@dataclass(frozen=True, kw_only=True)
class DropRates:
    """How often a condition is hidden in training, so that guidance and missing inputs work later."""

    speak: float = 0.1
    listen: float = 0.1
    text: float = 0.1
    refs: float = 0.1
    everything: float = 0.05

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0.0 <= getattr(self, field.name) <= 1.0:
                raise ValueError(f"drop.{field.name} = {getattr(self, field.name)} is not a probability")


def drop_conditions(batch: Batch, rates: DropRates, *seed: object) -> Batch:
    """Hide conditions of each sample independently; the choice depends on the seed parts and the sample's id alone."""
    columns: dict[str, list[bool]] = {"speak": [], "listen": [], "text": [], "refs": []}
    for sample_id in batch.sample_ids:
        generator = torch.Generator().manual_seed(sample_seed("drop", *seed, sample_id))
        draws = torch.rand(5, generator=generator).tolist()
        everything = draws[4] < rates.everything
        for draw, (name, column) in zip(draws, columns.items(), strict=False):
            column.append(everything or draw < getattr(rates, name))
    device = batch.x_BFCHW.device
    masks = {name: torch.tensor(column, device=device) for name, column in columns.items()}
    return replace(batch, cond=batch.cond.without(**masks))


class BatchSource(Protocol):
    """What the training loop asks of a loader: an endless stream of one rank's batches, and its place in it.

    With W ranks, rank n yields rows [n*G/W, (n+1)*G/W) of each global batch of G rows: consecutive rows, not every
    W-th, so that sums over rows have the same order at any world size. The state is the same on every rank.
    """

    def __iter__(self) -> Iterator[Batch]:
        """Return itself."""
        ...

    def __next__(self) -> Batch:
        """Give this rank's rows of the next global batch."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Say where the stream stands, as JSON values: what the next batch will be."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; refuse that of other data."""
        ...
