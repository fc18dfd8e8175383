"""From footage and the weights of Wan to a listener: the commands of docs/training.md, word for word, in small."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import diffusers
import numpy as np
import pytest
import soundfile
import torch
import wan_case as wan
import wan_pipeline as pipeline
from command_line import ROOT, lpm_well
from shortened import shortened
from torch import Tensor
from train_ranks import environment
from warm_command import LPM, OF_LPM, OF_THE_TRAINER, OF_WAN, warm

from lpm_train.batch import Batch
from lpm_train.config import Config
from lpm_train.data.loader import Loader
from lpm_train.network.base_names import pieces
from lpm_train.network.model import DiT
from lpm_train.session import load_model, make_encoders
from lpm_train.tools.media import write_png
from lpm_train.training import checkpoint
from lpm_train.training.start import build

pytestmark = [
    pytest.mark.slow, pytest.mark.timeout(2400), pytest.mark.filterwarnings("ignore"),  # the libraries' own
]  # fmt: skip

FOOTAGE = ("session_talker", "session_listener")
SMALL = (  # what a CPU can do, given to the first two commands alone: later stages begin with their settings
    "data.frames=21", "data.pixels=4096", "data.batch=2", "data.workers=1", "data.max_refs=2", "model.listen_before=30",
    "run.device=cpu", "run.bf16=false", "run.compile=false", "run.steps=6", "run.save_every=1", "run.eval_every=6",
    "run.log_every=1", "watch.clips=1", "flow.steps=2", "optim.lr=1e-3", "optim.warmup=1", "distill.lr=1e-3",
    "distill.critic_lr=1e-3", "distill.critic_steps=2", "lora.rank=2",
)  # fmt: skip
BEGINNINGS = ("t2v", "i2v", "ti2v")  # the documented blocks, by what their bases begin with


def documented() -> list[list[list[str]]]:
    """Read the commands of the section on Wan: blocks of commands, each as its words after `lpm`."""
    section = (ROOT / "docs" / "training.md").read_text().split("## From the weights of Wan\n")[1].split("\n## ")[0]
    blocks = [part for part in section.split("\n\n") if part.startswith("    lpm ")]
    return [
        [shlex.split(line, comments=True)[1:] for line in block.replace("\\\n", " ").splitlines()] for block in blocks
    ]


@pytest.fixture(scope="module")
def shards(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of a talker and a listener, packed by the pipeline."""
    folder = tmp_path_factory.mktemp("wan")
    out = folder / "dataset"
    sources = [str(shortened(media / f"{name}.mp4", folder, 4.0)) for name in FOOTAGE]
    lpm_well("run", *sources, "--out", str(out), "--workflow", "demo", "--engine", "local")
    return out


@dataclass(frozen=True)
class Place:
    """A user's directory: DATASET, the base as it was downloaded, a picture and two sounds."""

    folder: Path
    network: Any  # diffusers' transformer of the base
    commands: list[list[str]]  # begin, causal, distil, stream, export

    def well(
        self, words: Sequence[str], *more: str, ranks: int = 1, torchrun: bool = False, kill_after: str = "",
        **changed: str,
    ) -> None:  # fmt: skip
        """Run a command in the directory, on ranks; with a run named, kill it (-9) at three logged steps.

        It is started as its user starts it where it is killed, or by torchrun. `changed` gives options other values.
        """
        words = [*words, *more]
        for option, value in changed.items():
            words[words.index(f"--{option}") + 1] = value
        module, words = (LPM, words) if ranks == 1 else ("lpm_train.cli", words[1:])  # without the word `train`
        if torchrun or kill_after:
            launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if torchrun else []
            self._started([sys.executable, *launch, "-m", module, *words], kill_after)
            return
        imported = warm(*OF_LPM, *OF_THE_TRAINER, *OF_WAN)
        ended = imported.run(module, words, environment(), str(self.folder), ranks)
        assert not ended.returncode, (words, ended.stdout[-1000:], ended.stderr[-3000:])

    def _started(self, command: list[str], kill_after: str) -> None:
        said = self.folder / "said.txt"
        with said.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment(), stdout=file, stderr=subprocess.STDOUT
            )
            while kill_after and process.poll() is None:
                if len(self.losses(kill_after)) >= 3:
                    process.send_signal(signal.SIGKILL)
                time.sleep(0.02)
            assert process.wait() == (-signal.SIGKILL if kill_after else 0), (command, said.read_text()[-3000:])

    def losses(self, run: str) -> dict[int, float]:
        """Read the loss of each step of a run, of what was logged last."""
        log = self.folder / run / "log.jsonl"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("\n")]  # one may just be written
        return {r["step"]: r["loss"] for r in records if "loss" in r}

    def killed_and_resumed(self, words: list[str], *more: str) -> None:
        """Run a stage as it is documented, but killed in its midst and begun again; and undisturbed beside it."""
        run = named(words)
        self.well(words, *more, out=f"{run}-whole")
        self.well(words, *more, kill_after=run)
        assert 1 <= checkpoint.steps(self.folder / run)[-1] < 6  # the second may still have been under way
        self.well(words, *more)


def named(words: Sequence[str]) -> str:
    """Return what a command writes to."""
    return words[words.index("--out") + 1]


def sets(values: Sequence[str]) -> list[str]:
    """Write settings for a command line."""
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module", params=BEGINNINGS)
def place(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Walk the documented way with one kind of base; the first's distillation is killed and begun again."""
    folder, (whole, *others) = tmp_path_factory.mktemp(request.param), documented()
    encode, first = [whole[:2], *others][BEGINNINGS.index(request.param)]
    base = first[first.index("--base") + 1].removeprefix("wan:")
    network = pipeline.save(folder / base, request.param)
    shutil.copytree(shards, folder / "DATASET")  # what is precomputed lies in it, and is of this kind's codec
    write_png(folder / "a.png", np.tile(np.arange(80, dtype=np.uint8)[:, None, None], (1, 64, 3)))
    hiss = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    soundfile.write(folder / "speech.wav", hiss, 48_000)
    soundfile.write(folder / "user.wav", hiss[:22_050], 44_100)
    made = Place(folder, network, [[*first, *sets(SMALL)], *whole[2:]])
    if request.param == "ti2v":  # the preset goes by width, and this one is narrow
        made.commands[0] += ["--preset", "wan_5b"]
    begin, causal, distil, stream, export = made.commands
    made.well(encode, *sets(SMALL), device="cpu")
    words = folder / base / "text_encoder" / "model.safetensors"
    aside = words.rename(folder / "aside.safetensors")  # training asks for no weights of umT5
    made.well(begin, "--set", "run.steps=0", out="begun")
    made.well(begin)
    made.well(causal)
    # The others differ in what their bases are told and in their codec: no part of what is saved and resumed.
    (made.killed_and_resumed if request.param == "t2v" else made.well)(distil)
    aside.rename(words)
    made.well(stream)
    made.well(export)
    return made


def some(config: Config) -> Batch:
    """Make a batch of the clips that a run has seen."""
    with Loader(config.data, make_encoders(config.data)) as loader:
        return next(loader)


def velocity(model: DiT, batch: Batch, level: float) -> Tensor:
    """Ask a network of ours, with both directions in view."""
    with torch.no_grad():
        out: Tensor = model(batch.x_BFCHW, torch.full(batch.x_BFCHW.shape[:2], level), batch.cond).v_BFCHW
    return out


def same(found: Tensor, wanted: Tensor) -> None:
    """Hold two velocities against each other, in plain figures."""
    assert float((found - wanted).abs().max()) <= 1e-4 < 0.05 < float(wanted.abs().mean())


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return diffusers' class, which asks for accelerate where a model names parts that stay in float32."""
    monkeypatch.setattr(diffusers.WanTransformer3DModel, "_keep_in_fp32_modules", None)
    return diffusers.WanTransformer3DModel


def test_before_training_it_is_the_base(place: Place, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function as diffusers', by plain figures; and written back the same weights, to the bit."""
    monkeypatch.chdir(place.folder)
    config, model = load_model("begun")
    batch, form = some(config), place.network.config
    assert config.data.codec.choice == "wan" and config.data.text.choice == "umt5" and batch.cond.text_mask_BL.any()
    assert (batch.cond.picture_BIP is not None) == (form.image_dim is not None)
    assert (batch.cond.given_BFCHW is None) == (place.folder.name.startswith("t2v"))
    for level in (0.1, 0.6, 1.0):
        seen, t = wan.shown(batch, level, beside=form.in_channels > form.out_channels)
        want = wan.theirs(place.network, seen.x_BFCHW, t, seen.cond)
        free = int(t.dim() > 1)  # what is given there is no velocity
        same(velocity(model, batch, level)[:, free:], want[:, free:])
    place.well(["train", "export", "begun", "--out", "unchanged"])
    unchanged, wanted = theirs.from_pretrained("unchanged").state_dict(), place.network.state_dict()
    assert unchanged.keys() == wanted.keys() and all(torch.equal(unchanged[n], w) for n, w in wanted.items())


@pytest.mark.parametrize("place", BEGINNINGS[:1], indirect=True)
def test_a_run_that_was_killed_has_the_losses_of_one_that_was_not(place: Place) -> None:
    run = named(place.commands[2])
    assert len(place.losses(run)) == 6 and place.losses(run) == place.losses(f"{run}-whole")


def test_a_stream_of_the_student_is_a_video(place: Place) -> None:
    with av.open(str(place.folder / "out.mp4")) as video:
        pictures = [f.to_ndarray(format="rgb24").astype(int) for f in video.decode(video=0)]
        assert len(pictures) == 25 and pictures[0].shape == (64, 64, 3) and video.streams.audio
    assert np.abs(pictures[0] - pictures[-1]).mean() > 0.1


def test_an_export_is_what_was_trained(place: Place, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base part as diffusers reads it, low-rank changes merged; and all of it, as a base again."""
    monkeypatch.chdir(place.folder)
    run, listener = place.commands[4][2], named(place.commands[4])
    config, model = load_model(run)
    batch, trained = some(config), velocity(model, some(config), 0.6)
    assert float((trained - velocity(load_model("begun")[1], batch, 0.6)).abs().mean()) > 1e-3
    base = wan.settings(Path(listener), config)  # without low-rank changes
    again = build(base, None, {}).eval()
    same(velocity(again, batch, 0.6)[:, 1:], trained[:, 1:])
    with torch.no_grad():
        for added in (p for b in again.blocks for p in (*b.sound.out.parameters(), b.ref_gain_D)):
            torch.nn.init.zeros_(added)
    alone, without = theirs.from_pretrained(listener), velocity(again, batch, 0.6)
    seen, t = wan.shown(batch, 0.6, beside=alone.config.in_channels > alone.config.out_channels)
    same(wan.theirs(alone, seen.x_BFCHW, t, seen.cond)[:, 1:], without[:, 1:])
    assert float((without - trained).abs().max()) > 1e-4
    before = place.network.state_dict()
    changed = {n for n, w in alone.state_dict().items() if not torch.equal(w, before[n])}
    assert {f"blocks.0.{n}.weight" for n in ("attn1.to_q", "attn2.to_v", "ffn.net.2")} <= changed
    assert "patch_embedding.weight" not in changed
    place.well(place.commands[0], *sets(["run.steps=1"]), base=f"wan:{listener}", out="further")
    assert len(place.losses("further")) == 1


@pytest.mark.parametrize("place", BEGINNINGS[:1], indirect=True)
def test_low_rank_training_on_two_ranks_is_that_on_one(place: Place) -> None:
    """Distilled, of one frozen base."""
    words = place.commands[2]
    run = named(words)
    place.well(words, *sets(["watch.clips=0"]), ranks=2, torchrun=True, out=f"{run}-two")
    want = place.losses(f"{run}-whole")
    assert place.losses(f"{run}-two") == pytest.approx(want, rel=1e-6, abs=1e-6) and len(want) == 6
    paths = (checkpoint.path_of(place.folder / f"{run}-{n}", 6) for n in ("whole", "two"))
    (config, one), (_, two) = (checkpoint.load_weights(path) for path in paths)
    assert one.keys() == two.keys() and not {p.ours for p in pieces(config.model)} & one.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6)
