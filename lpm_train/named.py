"""From a name in the settings to the codec or the stage. Knows every kind, and no kind knows it."""

from __future__ import annotations

import torch

from lpm_train.codec import Codec, PatchCodec, numbers
from lpm_train.config import Config
from lpm_train.extras.codec_public import load_public
from lpm_train.extras.codec_tiny import TinyVideoAE
from lpm_train.extras.consistency import Consistency
from lpm_train.parallel import Ranks
from lpm_train.proof.codec_principal import PrincipalCodec
from lpm_train.stage import Stage, Weights
from lpm_train.stages import Causal, Distill, Pretrain
from lpm_train.storage import DataError


def make_codec(spec: str) -> Codec:
    """Make a codec from its name: patch:TxHxW, principal:FILE, tiny:FILE, wan:DIRECTORY or ltx:DIRECTORY.

    Raises:
        DataError: the name is none of these, or what it names cannot be loaded.
    """
    kind, _, rest = spec.partition(":")
    if kind == "patch":
        t, h, w = numbers(spec, "patch:TxHxW", "patch:1x4x4")
        return PatchCodec((t, h, w))
    if kind == "tiny" and rest:
        return TinyVideoAE.load(rest)
    if kind == "principal" and rest:
        return PrincipalCodec.load(rest)
    if kind in ("wan", "ltx") and rest:
        return load_public(kind, rest)
    known = "patch:TxHxW, principal:FILE, tiny:FILE, wan:DIRECTORY or ltx:DIRECTORY"
    raise DataError(f"unknown codec {spec!r}: use {known}")


def make_stage(
    config: Config, where: Ranks | None = None, start: Weights | None = None, teacher: Weights | None = None
) -> Stage:
    """Make the stage that `config.run.stage` names, starting from weights of the one before.

    Args:
        config: everything.
        where: this rank; None: one process on the CPU.
        start: weights of the student; None: fresh.
        teacher: weights of the teacher, distillation only; None: those of `start`.
    """
    where = where or Ranks(device=torch.device(config.run.device or "cpu"))
    if config.run.stage == "distill":
        return Distill(config, where, start, teacher)
    if config.run.stage == "consistency":
        return Consistency(config, where, start)
    return (Pretrain if config.run.stage == "pretrain" else Causal)(config, where, start)
