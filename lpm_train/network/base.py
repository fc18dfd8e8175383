"""Public weights under our names, read tensor by tensor and written back: `wan:DIRECTORY` of safetensors.

Wan 2.1 and 2.2 in the layout of diffusers (`config.json` beside one file or several with an index; the directory of a
pipeline, or its `transformer`), or as first published (`WanModel`); `base_names` says what becomes of what.
Any float type is read, and of each weight only the rows that are asked for. What a file has and nobody asks for is an
error that names it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpm_train.config import Base, ConfigError
from lpm_train.network.base_hash import ALL, remembered
from lpm_train.network.base_names import Piece, first_name, pieces
from lpm_train.network.model import DiT

ADDED = "openlpm_added.safetensors"  # beside an exported base: what was added to it
WEIGHTS = "diffusion_pytorch_model"  # as diffusers calls its files
_UNUSED = re.compile(r"\.norm_added_q\.|\.norm_q_img\.")  # in some files, and used by nobody
_EXPERTS = (("transformer", "transformer_2"), ("high_noise_model", "low_noise_model"))

Rows = Callable[[int], slice]
"""Which of the n rows of a weight are wanted."""


def _all(n: int) -> slice:
    return slice(0, n)


class Files:
    """The tensors of a directory's safetensors files, by name, read when asked for."""

    def __init__(self, folder: Path) -> None:
        """Open them.

        Raises:
            ConfigError: there are none, one that the index names is missing, or safetensors is not installed.
        """
        try:
            from safetensors import SafetensorError
        except ImportError as e:
            raise ConfigError(f"reading a base needs safetensors (pip install 'openlpm[encoders]'): {e}") from e
        index = next(iter(sorted(folder.glob("*.safetensors.index.json"))), None)
        named = json.loads(index.read_text())["weight_map"].values() if index else ()
        files = sorted({folder / n for n in named} or set(folder.glob("*.safetensors")) - {folder / ADDED})
        if not files:
            raise ConfigError(f"no .safetensors in {folder}")
        self.folder, self._in = folder, dict[str, Path]()
        for file in files:
            try:
                self._in |= dict.fromkeys(_opened(file).keys(), file)
            except (OSError, SafetensorError) as e:
                raise ConfigError(f"{file} is missing or damaged: {e}") from e

    def __contains__(self, name: str) -> bool:
        return name in self._in

    def __iter__(self) -> Iterator[str]:
        return iter(self._in)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor that lies in its file until it is read; the file is mapped as long as the tensor lives."""
        tensor: Tensor = _opened(self._in[name]).get_tensor(name)
        return tensor

    @cached_property
    def sha256(self) -> str:
        """Hash all bytes of all tensors, however files split them (`base_hash`). Raises ConfigError."""
        return remembered(self._in, self.samples)

    @cached_property
    def samples(self) -> str:
        """Hash names, shapes and the first values of all tensors: what earlier runs know a base by."""
        digest, opened = hashlib.sha256(), {file: _opened(file) for file in set(self._in.values())}
        for name in sorted(self._in):
            part = opened[self._in[name]].get_slice(name)
            digest.update(f"{name} {part.get_dtype()} {part.get_shape()}\x1f".encode())
            digest.update(part[:1].flatten()[:64].float().numpy().tobytes())
        return digest.hexdigest()

    def match(self, sha256: str) -> bool:
        """Tell whether these are the tensors of a hash: of all bytes, or of samples where it has no prefix."""
        return sha256 == (self.sha256 if sha256.startswith(ALL) else self.samples)


def _opened(file: Path) -> Any:
    from safetensors import safe_open

    return safe_open(str(file), "pt")


@dataclass(frozen=True)
class Opened:
    """A base that was found."""

    weights: str  # its place, wan:DIRECTORY
    form: Mapping[str, Any]  # fields of our `Model` that it decides
    files: Files

    def read(self, expected: DiT, rows: Rows = _all) -> Iterator[tuple[str, Tensor]]:
        """Yield our weights one by one, or rows of them.

        Raises:
            ConfigError: the files lack a tensor, have one of another shape, or one that nobody asks for.
        """
        wanted, first = pieces(expected.config), "blocks.0.self_attn.q.weight" in self.files
        names = {p.ours: tuple(map(first_name, p.theirs)) if first else p.theirs for p in wanted}
        asked = {n for theirs in names.values() for n in theirs}
        lacking, over = sorted(asked - set(self.files)), sorted(n for n in set(self.files) - asked)
        if lacking or (unknown := [n for n in over if not _UNUSED.search(n)]):
            said = f"lacks {_some(lacking)}" if lacking else f"also holds {_some(unknown)}, which no part of it reads"
            raise ConfigError(f"{self.files.folder} is no Wan network of this form: it {said}")
        for piece in wanted:
            parts = [self.files[n] for n in names[piece.ours]]
            shape = expected.get_parameter(piece.ours).shape
            if sum(p.numel() for p in parts) != shape.numel():
                shapes = [list(p.shape) for p in parts]
                raise ConfigError(f"{self.files.folder}: {names[piece.ours][0]} has shape {shapes}, not {list(shape)}")
            yield piece.ours, _rows(piece, parts, expected, shape, rows(shape[0]))

    def added(self, rows: Rows = _all) -> Iterator[tuple[str, Tensor]]:
        """Yield what an earlier training added, or rows of it, where it was exported with the base."""
        file = self.files.folder / ADDED
        for name in _opened(file).keys() if file.is_file() else ():
            weight = _opened(file).get_tensor(name)
            yield name, weight[rows(len(weight))].to(torch.float32, copy=True)


def _rows(piece: Piece, parts: Sequence[Tensor], model: DiT, shape: torch.Size, wanted: slice) -> Tensor:
    """Make rows of one of our weights, float32; nothing else is read where ours are rows of theirs in some order."""
    if piece.by_pixel or sum(map(len, parts)) != shape[0]:
        return piece.join(parts, model.config, shape)[wanted].clone()
    first = torch.tensor([0, *map(len, parts)]).cumsum(0)
    numbers = [torch.arange(int(a), int(a) + len(p))[:, None] for a, p in zip(first, parts, strict=False)]
    of = piece.join(numbers, model.config, torch.Size([shape[0], 1]))[wanted, 0].long()  # exact below 2^24 rows
    out = torch.empty(len(of), *shape[1:])
    for a, part in zip(first, parts, strict=False):
        here = (of >= a) & (of < a + len(part))
        out[here] = part[of[here] - a].float().reshape(-1, *shape[1:])
    return out


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def open_base(weights: str) -> Opened:
    """Find a base and say what network it is.

    Raises:
        ConfigError: there is no such base, or it is of a form that this network does not have.
    """
    kind, _, place = weights.partition(":")
    folder = Path(place)
    if kind != "wan" or not place:
        raise ConfigError(f"base {weights!r}: write wan:DIRECTORY")
    for high, low in _EXPERTS:
        if (folder / low).is_dir():
            raise ConfigError(
                f"{folder} holds two experts: name {folder / high} (high noise) or {folder / low} (low noise)"
            )
        folder = folder / high if (folder / high).is_dir() else folder
    try:
        said = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as e:
        raise ConfigError(f"no config.json of a Wan network in {folder}: {e}") from e
    files = Files(folder)
    return Opened(f"wan:{folder.absolute()}", _form(folder, said, files), files)


def same_base(here: Base, there: Base) -> bool:
    """Tell whether two configurations name one base.

    A hash of all bytes and an earlier run's of samples cannot be compared: both are held against the files of `here`.

    Raises:
        ConfigError: those have to be read, and cannot be.
    """
    hashes = (here.sha256, there.sha256)
    if not all(hashes) or len({h.startswith(ALL) for h in hashes}) == 1:
        return here.sha256 == there.sha256
    return all(map(open_base(here.weights).files.match, hashes))


def _form(folder: Path, said: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """Translate a `config.json`."""
    cls, first = said.get("_class_name"), said.get("_class_name") == "WanModel"
    if cls not in ("WanModel", "WanTransformer3DModel"):
        raise ConfigError(f"{folder} holds a {cls}; a base is a WanTransformer3DModel (or WanModel)")
    heads = said["num_heads"] if first else said["num_attention_heads"]
    width = said["dim"] if first else heads * said["attention_head_dim"]
    patch = tuple(said.get("patch_size", (1, 2, 2)))
    wanted: dict[str, Any] = {
        "freq_dim": 256, "eps": 1e-6, "cross_attn_norm": True, "pos_embed_seq_len": None, "patch": (1, *patch[1:2] * 2),
    }  # fmt: skip
    wanted |= {} if first else {"qk_norm": "rms_norm_across_heads"}
    for name, value in wanted.items():
        if (has := {**wanted, **said, "patch": patch}[name]) != value:
            raise ConfigError(f"{folder}: {name} is {has}, and this network is built for {value} only")
    channels = (said["out_dim"] if first else said.get("out_channels")) or said.get("in_channels", 16)
    entries = said["in_dim"] if first else said["in_channels"]
    picture = files["img_emb.proj.0.weight"].shape[0] if "img_emb.proj.0.weight" in files else said.get("image_dim")
    return {
        "kind": "wan", "channels": channels, "image_channels": entries - channels, "picture_width": picture or 0,
        "width": width, "depth": said["num_layers"], "heads": heads, "patch": patch[1],
        "mlp_ratio": said["ffn_dim"] / width, "theta": 10_000.0,
        "text_width": files["text_embedding.0.weight"].shape[1] if first else said["text_dim"],
    }  # fmt: skip
