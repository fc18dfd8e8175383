"""Vectors of pictures and words by a CLIP model of your own, run by open_clip_torch: an optional part.

A model is a directory in open_clip's own form (`open_clip_config.json` beside the weights, as its hub repositories
are), or the name of an architecture with a checkpoint file. Nothing is ever downloaded: what would be is refused.
Loading costs the hash of the weights (3 ms a MB, once a process) and some seconds to import; a model is loaded once a
process, whoever asks for it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from annotators.models import torchvision_ops, weights
from annotators.models.batches import in_batches
from annotators.models.weights import WeightsMismatch, WeightsNotFound
from annotators.optional_parts import PartNotInstalledError, of_the_full_set
from annotators.parts import Made
from annotators.protocols import FloatArray, Image

if TYPE_CHECKING:
    import torch

CONFIG = "open_clip_config.json"
_PACKAGE = "open_clip_torch"
_LOCAL, _HUB = "local-dir:", "hf-hub:"
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model")
_ASKED = ("embedder=open_clip", _PACKAGE, "embedder=none")


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine: `spec` names it for open_clip, `checkpoint` are its weights."""

    spec: str
    checkpoint: Path
    files: tuple[Path, ...]

    @property
    def digest(self) -> str:
        """What tells its vectors from those of any other model: a hash over architecture, weights and words."""
        spec = "" if self.spec.startswith(_LOCAL) else self.spec
        parts = [spec, *(weights.sha256(str(file)) for file in self.files)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class OpenClip:
    """A CLIP model.

    `model` is a directory, by path or by name in OPENLPM_MODELS; or, with `checkpoint`, an architecture of open_clip
    such as ViT-B-32. `batch` pictures or texts are given to the network at once,
    fewer where memory does not suffice.
    """

    name: str
    weights: tuple[str, ...]

    def __init__(
        self,
        model: str,
        checkpoint: str | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
        batch: Annotated[int, Field(ge=1)] = 32,
    ) -> None:
        """Load the model. Raises PartNotInstalledError, WeightsNotFound, WeightsMismatch."""
        files = model_files(model, checkpoint)
        made = self.made_of(model, checkpoint)
        self.name, self.weights = made.name, made.weights
        self._batch, self._device = batch, device
        self._network, self._prepare, self._tokens = _loaded(files.spec, str(files.checkpoint), files.digest, device)

    @classmethod
    def made_of(cls, model: str, checkpoint: str | None = None, **_: object) -> Made:
        """Name model, files and the library's version, without importing it.

        Raises PartNotInstalledError and WeightsNotFound.
        """
        try:
            library = {_PACKAGE: importlib.metadata.version(_PACKAGE)}
        except importlib.metadata.PackageNotFoundError as e:
            raise of_the_full_set(*_ASKED) from e
        files = model_files(model, checkpoint)
        named = tuple(str(file) for file in files.files)
        return Made(f"open_clip@{files.digest}", named, library, private=("model", "checkpoint"))

    @functools.cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return len(self._of_text([""])[0])

    def pictures(self, pictures: Sequence[Image]) -> FloatArray:
        """Return the vectors [N, E] of pictures, each fitted to the network's size as it was trained.

        Raises ValueError for what is no picture.
        """
        for picture in pictures:
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
                raise ValueError(f"a picture is RGB, uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
        return self._batches(pictures, self._of_pictures)

    def texts(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors [N, E] of texts."""
        return self._batches(texts, self._of_text)

    def _batches(self, items: Sequence[Any], embed: Callable[[Sequence[Any]], FloatArray]) -> FloatArray:
        out = in_batches(items, self._batch, lambda some: list(embed(some)))
        return np.stack(out) if out else np.zeros((0, self.dimension), np.float32)

    def _of_pictures(self, pictures: Sequence[Image]) -> FloatArray:
        import torch
        from PIL import Image as Pil

        ready = torch.stack([self._prepare(Pil.fromarray(picture)) for picture in pictures])
        with torch.inference_mode():
            return _numpy(self._network.encode_image(ready.to(self._device), normalize=True))

    def _of_text(self, texts: Sequence[str]) -> FloatArray:
        import torch

        with torch.inference_mode():
            return _numpy(self._network.encode_text(self._tokens(list(texts)).to(self._device), normalize=True))


def model_files(model: str, checkpoint: str | None) -> ModelFiles:
    """Return the files of a model, as `OpenClip` names them. Raises WeightsNotFound with what to do."""
    if model.startswith(_HUB):
        raise WeightsNotFound(
            f"{model} would be downloaded, and nothing is here: download the repository yourself and name its directory"
        )
    if checkpoint is not None:
        file = weights.locate(checkpoint)
        return ModelFiles(model, file, (file,))
    folder = weights.locate(model.removeprefix(_LOCAL), folders=True)
    config = folder / CONFIG
    if not config.is_file():
        raise WeightsNotFound(
            f"{folder} is no directory with {CONFIG}: name one in open_clip's form, or an architecture as `model` and "
            "this file as `checkpoint`"
        )
    _refuse_downloads(config)
    found = sorted(f for f in folder.iterdir() if f.suffix in _WEIGHTS)
    named = [f for f in found if f.stem in ("open_clip_model", "open_clip_pytorch_model")] or found
    if not named:
        raise WeightsNotFound(f"{folder} holds no weights ({', '.join(_WEIGHTS)}) beside {CONFIG}")
    chosen = min(named, key=lambda f: (_WEIGHTS.index(f.suffix), f.name))
    words = tuple(folder / name for name in _TOKENIZER if (folder / name).is_file())
    return ModelFiles(f"{_LOCAL}{folder}", chosen, (config, chosen, *words))


def _refuse_downloads(config: Path) -> None:
    """Raise where a part of a model is a name on a hub."""
    try:
        text = json.loads(config.read_text("utf-8"))["model_cfg"]["text_cfg"]
        tower = text.get("hf_model_name")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise WeightsNotFound(f"{config} is not open_clip's configuration of a model ({type(e).__name__}: {e})") from e
    if tower and not Path(tower).is_dir():
        raise WeightsNotFound(
            f"{config} takes its text tower's architecture, {tower!r}, from a hub: write the path of a directory with "
            "that model's config.json as hf_model_name"
        )
    if text.get("hf_tokenizer_name") and not any((config.parent / name).is_file() for name in _TOKENIZER):
        raise WeightsNotFound(f"{config.parent} lacks the files of its tokenizer, such as tokenizer.json: add them")


@functools.lru_cache(maxsize=1)
def _loaded(spec: str, checkpoint: str, digest: str, device: str) -> tuple[Any, Any, Any]:
    """Return network, preparation of pictures and tokenizer; the digest stands for the files' contents."""
    try:
        torchvision_ops.importable()
        import open_clip
        import torch
    except (ImportError, OSError, RuntimeError) as e:
        raise of_the_full_set(*_ASKED, e) from e
    if device == "cuda" and not torch.cuda.is_available():
        raise PartNotInstalledError("device=cuda, but torch finds no CUDA device here: choose device=cpu")
    if not spec.startswith(_LOCAL):
        _refuse_architecture(spec, open_clip.get_model_config(spec), open_clip.list_models())
    try:
        with _quiet():
            network, _, prepare = open_clip.create_model_and_transforms(
                spec, load_weights=False, pretrained_text=False, pretrained_image=False, device=device
            )
            open_clip.load_checkpoint(network, checkpoint, strict=True)
            tokens = open_clip.get_tokenizer(spec)
    except ImportError as e:  # timm, for architectures that are not open_clip's own
        raise of_the_full_set(*_ASKED, e) from e
    except Exception as e:  # a damaged file may raise anything, of three libraries' own classes
        why = next(iter(str(e).splitlines()), "") or type(e).__name__
        raise WeightsMismatch(f"{checkpoint} is not what {spec} needs ({why.rstrip(': ')}): name what fits it") from e
    return network.eval(), prepare, tokens


def _refuse_architecture(spec: str, config: dict[str, Any] | None, known: Sequence[str]) -> None:
    """Raise where open_clip has no such architecture, or would fetch a part of it from a hub."""
    if config is None:
        raise WeightsNotFound(
            f"open_clip has no architecture {spec!r}: write one of its {len(known)}, such as ViT-B-32, or a directory"
        )
    if any(config["text_cfg"].get(name) for name in ("hf_model_name", "hf_tokenizer_name")) or "siglip" in spec.lower():
        raise WeightsNotFound(
            f"the text side of {spec} lies on a hub: name a directory in open_clip's form that holds its files as well"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from saying that no weights were loaded yet."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _numpy(vectors: torch.Tensor) -> FloatArray:
    return np.asarray(vectors.float().cpu().numpy(), np.float32)
