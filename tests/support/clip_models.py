"""A CLIP model small enough for tests: open_clip's own architecture and directory form, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIMENSION = 24

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": DIMENSION,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
}


def write_model(folder: Path, seed: int = 0, *, config: dict[str, Any] | None = None) -> Path:
    """Write a model with weights from a seed into a folder; needs open_clip."""
    from annotators.models import torchvision_ops

    torchvision_ops.importable()
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    written = config or CONFIG
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        state = {
            name: torch.randn_like(v) * 0.3 if v.is_floating_point() else v for name, v in network.state_dict().items()
        }
    save_file({k: v.contiguous() for k, v in state.items()}, str(folder / "open_clip_model.safetensors"))
    return folder
