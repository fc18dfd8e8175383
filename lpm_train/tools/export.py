"""A trained model as files that others read: its base as diffusers has it, what was added to it, and a model card.

The base part is what `diffusers.WanTransformer3DModel.from_pretrained` loads, low-rank changes in its weights. The rest
(sound, references) lies beside it under our names, so that the directory is a base again: `--base wan:DIR`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lpm_train.config import Config, ConfigError, to_json
from lpm_train.data.shards import licences_of, trained_on
from lpm_train.network.base import ADDED, WEIGHTS
from lpm_train.network.base_names import pieces
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer, Refined
from lpm_train.storage import DataError
from lpm_train.tools.provenance import model_fingerprint
from lpm_train.training.checkpoint import find, read_meta
from schemas.files.places import StoreError

SHARD_BYTES = 5_000_000_000  # most of a file


def export(config: Config, model: Performer, checkpoint: Path, out: Path, dtype: str, licence: str) -> str:
    """Write a merged model; say what was written.

    Args:
        config: that of its checkpoint.
        model: from `load_model`.
        checkpoint: where it comes from, for the card.
        out: directory, made where it is not there.
        dtype: float32, bfloat16 or float16.
        licence: of the base, for the card.

    Raises:
        ConfigError: the model is not of Wan's form, or two networks, or the directory is not empty.
    """
    if isinstance(model, Refined):
        raise ConfigError(
            "this run holds a backbone and its refiner, and diffusers runs one network: export the backbone's run, or "
            "a student of one network; `lpm stream` runs both"
        )
    if config.model.kind != "wan":
        raise ConfigError("only a model in Wan's form has a base part that diffusers reads (model.kind=wan)")
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise ConfigError(f"no type {dtype!r}: there are {', '.join(kinds)}")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty: name another directory")
    out.mkdir(parents=True, exist_ok=True)
    ours = dict(model.named_parameters())
    listed = pieces(config.model)
    files = _write_base(out, config, ours, kinds[dtype])
    added = {n: p.detach().to(kinds[dtype]).contiguous() for n, p in ours.items() if n not in {p.ours for p in listed}}
    _save(added, out / ADDED)
    (out / "config.json").write_text(json.dumps(_form(config), indent=2) + "\n")
    (out / "openlpm.json").write_text(to_json(config) + "\n")
    (out / "README.md").write_text(_card(config, model, checkpoint, ours, set(added), licence))
    base = sum(len(p.theirs) for p in listed)
    return f"{out}: {base} tensors of the base in {files} file(s), {len(added)} added ones in {ADDED}, README.md"


def _write_base(out: Path, config: Config, ours: Mapping[str, Tensor], dtype: torch.dtype) -> int:
    """Write the base's tensors in files of bounded size; memory holds one file."""
    size = torch.empty(0, dtype=dtype).element_size()
    plan: list[list[int]] = [[]]
    room, listed = SHARD_BYTES, pieces(config.model)
    for i, piece in enumerate(listed):
        need = ours[piece.ours].numel() * size
        if need > room and plan[-1]:
            plan.append([])
            room = SHARD_BYTES
        plan[-1].append(i)
        room -= need
    place: dict[str, str] = {}
    for k, group in enumerate(plan):
        name = f"{WEIGHTS}.safetensors" if len(plan) == 1 else f"{WEIGHTS}-{k + 1:05d}-of-{len(plan):05d}.safetensors"
        tensors: dict[str, Tensor] = {}
        for i in group:
            tensors |= listed[i].split(ours[listed[i].ours].detach().to(dtype), config.model)
        _save(tensors, out / name)
        place |= dict.fromkeys(tensors, name)
    if len(plan) > 1:
        total = sum(ours[p.ours].numel() for p in listed) * size
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (out / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True))
    return len(plan)


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    file.touch()
    mode = file.stat().st_mode  # safetensors would leave it to its owner alone
    save_file({n: t.clone() for n, t in tensors.items()}, file, metadata={"format": "pt"})
    file.chmod(mode)


def _form(config: Config) -> dict[str, object]:
    """Write the base's `config.json`."""
    c = config.model
    return {
        "_class_name": "WanTransformer3DModel", "patch_size": [1, c.patch, c.patch], "num_attention_heads": c.heads,
        "attention_head_dim": c.width // c.heads, "in_channels": c.channels + c.image_channels,
        "out_channels": c.channels, "text_dim": c.text_width, "freq_dim": 256, "ffn_dim": round(c.width * c.mlp_ratio),
        "num_layers": c.depth, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
        "image_dim": c.picture_width or None, "added_kv_proj_dim": c.width if c.picture_width else None,
        "rope_max_seq_len": 1024, "pos_embed_seq_len": None,
    }  # fmt: skip


def about_data(config: Config) -> str:
    """Say what it was trained on, by the manifest where that can still be read."""
    clause = f" where {config.data.where}" if config.data.where else ""
    name = f"Packed dataset `{Path(config.data.root).name}`{clause}"
    try:
        data = trained_on(config.data)
        found = licences_of(data.root, data.where or None)
    except (DataError, StoreError, OSError) as e:
        return f"{name}; its manifest is not here ({type(e).__name__})."
    clips, seconds = (sum(numbers) for numbers in zip(*found.values(), strict=True))
    split = " of the split train" if data.where != config.data.where else ""
    return (
        f"{name}: {clips} clips{split}, {seconds / 3600:.2f} h in all; licences of the sources: "
        f"{', '.join(sorted(found))}."
    )


def _card(
    config: Config, model: DiT, checkpoint: Path, ours: Mapping[str, Tensor], added: set[str], licence: str
) -> str:
    c, found = config.model, find(checkpoint)
    meta = read_meta(found)
    figures = "\n".join(f"| {n} | {v:.4g} |" for n, v in sorted(meta.now.items()))
    count = [sum(p.numel() for n, p in ours.items() if (n in added) == is_added) / 1e6 for is_added in (False, True)]
    lora = f", low-rank changes of rank {config.lora.rank} merged" if config.lora.rank else ""
    kind = "image-to-video" if c.image_channels else "text-to-video"
    return f"""---
license: other
license_name: {licence}
tags: [openlpm, wan, audio-driven, talking-head, listening-head]
---
# A character performance model on a Wan base

Fine-tuned with OpenLPM from a {kind} base of {c.width} x {c.depth}{lora}: it is driven by what the character says, by
what it hears, by text and by reference pictures. Stage `{config.run.stage}`, step {meta.step}, model
`{model_fingerprint(model)}`.

| file | what it is |
|---|---|
| `config.json`, `{WEIGHTS}*.safetensors` | the base part, {count[0]:.1f} M parameters, for diffusers |
| `{ADDED}` | the added part, {count[1]:.1f} M parameters: sound and references |
| `openlpm.json` | all settings of the training |

diffusers' `WanTransformer3DModel` runs the base part, without sound and references. `lpm train run --base wan:DIR` goes
on from both.

## Data
{about_data(config)}

## Licence
Of the base: {licence}. Of the data: see above. Sound and picture of the persons that it was trained on, and whoever is
generated with it, have rights of their own.

## Figures of the last evaluation
{f"| figure | value |{chr(10)}|---|---|{chr(10)}{figures}" if figures else "None were measured."}

Videos that it makes show nobody who did what they show; `lpm stream` marks them as generated.
"""
