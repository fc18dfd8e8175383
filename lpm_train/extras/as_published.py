"""Folders that hold a model as its authors first published it, in a form that is not read here: what to say of them."""

from __future__ import annotations

from pathlib import Path


def not_read(directory: str) -> str:
    """Return what to add to an error where a folder holds pickled weights (.pth) alone, else ""."""
    folder = Path(directory)
    found = sorted(f.name for f in folder.glob("*.pth")) if folder.is_dir() else []
    if not found or (folder / "config.json").exists():
        return ""
    return (
        f". {found[0]} is as first published, a pickle, which is not read: name the folder of the same model in the "
        "layout of diffusers or transformers, config.json beside .safetensors (of Wan: the repositories that end in "
        "-Diffusers, folders vae and text_encoder)"
    )
