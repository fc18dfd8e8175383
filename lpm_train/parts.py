"""What a run is made of by choice: codec, audio, text and image encoder, stage, declared with their short names.

A configuration chooses by `data.codec=tiny` and `data.codec.path=codec.pt`, or by module:Class, exactly as a workflow
does (`schemas.settings.parts`); settings are constructor's arguments. What a part is made of is read off the built
object (`provenance`), and is what precomputed sets and checkpoints are held against. Costs nothing until a part is
built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, Protocol

import torch
from torch import Tensor, nn

from lpm_train.batch import Batch
from lpm_train.encoders.audio import AudioEncoder
from lpm_train.encoders.codec import Codec
from lpm_train.encoders.deferred import Deferred
from lpm_train.encoders.perceptual import Perceptual
from lpm_train.encoders.picture import PictureEncoder
from lpm_train.encoders.text import TextEncoder
from schemas.settings.parts import Absent, Declared, Part
from schemas.settings.use import code_sha256


class TrainingStage(Protocol):
    """What the loop asks of a stage; all shipped ones are a `lpm_train.training.stage.Stage`, which does most of it."""

    name: str
    roles: Mapping[str, nn.Module]  # its models

    def step(self, batch: Batch, i: int) -> dict[str, float]:
        """Take optimizer step `i` (from 0) on this rank's rows; return figures of the global batch."""

    def evaluate(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Return held-out figures."""


_CODECS = Declared(
    {
        "patch": "lpm_train.encoders.codec:PatchCodec",
        "tiny": "lpm_train.extras.codec_tiny:TinyVideoAE.load",
        "principal": "lpm_train.proof.codec_principal:PrincipalCodec.load",
        "wan": "lpm_train.extras.codec_public:WanCodec.load",
        "ltx": "lpm_train.extras.codec_public:LTXCodec.load",
        "taew": "lpm_train.extras.codec_taew:TaewCodec.load",
    },
    default="patch",
)
_AUDIO = Declared(
    {
        "logmel": "lpm_train.encoders.audio:LogMel",
        "wav2vec2": "lpm_train.extras.audio_public:PublicAudio.wav2vec2",
        "whisper": "lpm_train.extras.audio_public:PublicAudio.whisper",
    },
    default="logmel",
)
_TEXT = Declared(
    {
        "hashed-words": "lpm_train.encoders.text:HashedWords",
        "minilm": "lpm_train.extras.text_minilm:MiniLM",
        "t5": "lpm_train.extras.text_public:PublicText.t5",
        "umt5": "lpm_train.extras.text_public:PublicText.umt5",
        "clip": "lpm_train.extras.text_public:PublicText.clip",
    },
    default="hashed-words",
)
_PICTURE = Declared(
    {"none": "lpm_train.encoders.picture:Unseen", "clip-vision": "lpm_train.extras.picture_public:ClipPicture.load"},
    default="none",
)
_STAGES = Declared(
    {
        "pretrain": "lpm_train.training.stages:Pretrain",
        "causal": "lpm_train.training.stages:Causal",
        "consistency": "lpm_train.extras.consistency:Consistency",
        "distill": "lpm_train.training.stages:Distill",
    },
    offers=("config", "where", "start", "teacher", "backbone"),
    default="pretrain",
)
_PERCEPTUAL = Declared(
    {
        "none": Absent("a perceptual distance"),
        "codec": "lpm_train.encoders.perceptual:DecoderFeatures",
        "lpips": "lpm_train.extras.lpips:Lpips.load",
    },
    default="none",
)

CodecPart = Annotated[Part[Codec], _CODECS]
AudioPart = Annotated[Part[AudioEncoder], _AUDIO]
TextPart = Annotated[Part[TextEncoder], _TEXT]
PicturePart = Annotated[Part[PictureEncoder], _PICTURE]
StagePart = Annotated[Part[TrainingStage], _STAGES]
PerceptualPart = Annotated[Part[Perceptual], _PERCEPTUAL]


def codec(use: str = "patch", **settings: Any) -> Part[Codec]:
    """Choose a codec. Raises UseError where it, or a setting, cannot be used; so do the next ones."""
    return _CODECS.read(Codec, {"use": use, **settings})


def audio(use: str = "logmel", **settings: Any) -> Part[AudioEncoder]:
    """Choose an audio encoder."""
    return _AUDIO.read(AudioEncoder, {"use": use, **settings})


def text(use: str = "hashed-words", **settings: Any) -> Part[TextEncoder]:
    """Choose a text encoder."""
    return _TEXT.read(TextEncoder, {"use": use, **settings})


def picture(use: str = "none", **settings: Any) -> Part[PictureEncoder]:
    """Choose an image encoder for the picture that a clip begins with."""
    return _PICTURE.read(PictureEncoder, {"use": use, **settings})


def stage(use: str = "pretrain", **settings: Any) -> Part[TrainingStage]:
    """Choose a stage of training."""
    return _STAGES.read(TrainingStage, {"use": use, **settings})


def perceptual(use: str = "none", **settings: Any) -> Part[Perceptual]:
    """Choose what compares pictures in distillation off the policy."""
    return _PERCEPTUAL.read(Perceptual, {"use": use, **settings})


def provenance(made: object, weights: bool = True) -> dict[str, Any]:
    """Return what determines the numbers of a codec or encoder, as plain data.

    Its class; `settings`, the plain values under public names of class and object (a `version` among them); `weights`,
    the hash of all its tensors; and `code`, that of a class that is not ours. What is in none of these, such as the
    files of a network that is no torch module, a class must say by a public name. Weights that are not in memory yet
    are read for their hash; with `weights` false there is none.
    """
    cls = type(made)
    if weights and isinstance(made, Deferred):
        made.load()
    out: dict[str, Any] = {"class": f"{cls.__module__}:{cls.__qualname__}", "settings": {}}
    for holder in (*(c for c in reversed(cls.__mro__) if c not in (object, nn.Module)), made):
        for name, value in vars(holder).items():
            if not name.startswith("_") and name != "training" and (plain := _plain(value)) is not None:
                out["settings"][name] = plain
    digest, any_weights = hashlib.sha256(), False
    for name, tensor in _tensors("", made) if weights else ():
        any_weights = True
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\x1f".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if any_weights:
        out["weights"] = digest.hexdigest()
    code = code_sha256(cls.__module__)
    return out if code is None else {**out, "code": code}


def _plain(value: Any) -> Any:
    """Return a value as JSON would give it back, and None for what is no plain data."""
    try:
        whole = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        return json.loads(json.dumps(whole, sort_keys=True))
    except (TypeError, ValueError):
        return None


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an object by name: of modules those that they save, of others those that they hold."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        yield from sorted(((f"{name}.{n}", t) for n, t in value.state_dict().items()), key=lambda pair: pair[0])
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _tensors(f"{name}.{key}", value[key])
    elif name == "" and hasattr(value, "__dict__"):
        for key in sorted(vars(value)):
            yield from _tensors(key, vars(value)[key])
