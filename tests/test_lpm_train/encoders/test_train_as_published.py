"""Weights as first published are pickles, which are not read: their folder is refused with what is."""

from __future__ import annotations

from pathlib import Path

from lpm_train.extras.as_published import not_read


def test_a_folder_of_pickles_is_told_from_one_that_is_read(tmp_path: Path) -> None:
    assert not_read(str(tmp_path)) == not_read(str(tmp_path / "none")) == not_read("owner/name") == ""
    (tmp_path / "models_t5_umt5-xxl-enc-bf16.pth").touch()
    (tmp_path / "Wan2.1_VAE.pth").touch()
    said = not_read(str(tmp_path))
    assert said.startswith(". Wan2.1_VAE.pth is as first published, a pickle, which is not read: name the folder")
    assert "config.json beside .safetensors" in said and "-Diffusers" in said
    (tmp_path / "config.json").touch()
    assert not_read(str(tmp_path)) == ""
