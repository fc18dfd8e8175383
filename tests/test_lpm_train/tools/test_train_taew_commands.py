"""Training, judging and streaming through the tiny autoencoder for Wan, by the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import taew_case as taew
from command_line import lpm, lpm_well

from lpm_train.data.clip import read_video
from lpm_train.proof.synthetic_shards import write_dataset
from lpm_train.tools.media import write_png


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_trains_is_judged_and_takes_the_place_of_another_codec(tmp_path: Path) -> None:
    data, file = tmp_path / "data", taew.written(tmp_path / "taew2_1.safetensors", taew.weights())
    write_dataset(data, identities=2, held_out=1, clips=2, n_frames=24)
    write_png(tmp_path / "face.png", np.full((32, 32, 3), 90, np.uint8))
    codec = ("--set", "data.codec=taew", "--set", f"data.codec.path={file}")
    small = [f"--set={s}" for s in (
        "data.frames=13", "data.height=32", "data.width=32", "data.batch=1", "data.audio.steps_per_frame=1",
        "data.audio.n_mels=8", "data.text.width=8", "model.width=24", "model.depth=1", "model.heads=2", "model.patch=2",
        "stream.block=2", "stream.window=2", "run.steps=1", "run.device=cpu", "run.save_every=1", "watch.every=0",
        "data.workers=1",
    )]  # fmt: skip
    lpm_well("train", "run", str(data), "--preset", "toy", "--out", str(tmp_path / "a"), *codec, *small)
    lpm_well(
        "train", "run", str(data), "--stage", "causal", "--init", str(tmp_path / "a"), "--out", str(tmp_path / "b")
    )
    found = lpm_well("train", "eval", str(tmp_path / "b"), str(data), "--where", "true", "--batches", "1",
                     "--set", "eval.faces=none", "--set", "eval.lengths=[1]")  # fmt: skip
    assert "heldout_loss.all" in found.stdout
    asked = ["stream", str(tmp_path / "b"), "--image", str(tmp_path / "face.png"), "--seconds", "1"]
    lpm_well(*asked, "--out", str(tmp_path / "out.mp4"))
    assert read_video((tmp_path / "out.mp4").read_bytes(), (32, 32)).shape[0] == 25
    other = taew.written(tmp_path / "other.pth", {n: w for n, w in taew.weights().items() if "encoder" not in n})
    bad = lpm(*asked, "--out", str(tmp_path / "x.mp4"), "--set", f"data.codec.path={other}")
    assert bad.returncode == 1 and "Traceback" not in bad.stderr and not (tmp_path / "x.mp4").exists()
    assert bad.stderr.count("\n") == 1 and "is no tiny autoencoder for Wan: it lacks encoder.0.bias" in bad.stderr
    wide = taew.written(tmp_path / "taew2_2.pth", taew.weights(48, 2))
    bad = lpm(*asked, "--out", str(tmp_path / "x.mp4"), "--set", f"data.codec.path={wide}")
    assert bad.returncode == 1 and "Traceback" not in bad.stderr and "48" in bad.stderr, bad.stderr
