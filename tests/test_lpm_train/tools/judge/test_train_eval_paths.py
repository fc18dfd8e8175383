"""`lpm train eval` and `lpm stream` compute as `stream` says, with the same parts, and what comes out is the same."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_case as case
import typer
from torch import Tensor, nn
from train_data_case import SMALL, dataset

from lpm_train.config import override
from lpm_train.fitting import fitted
from lpm_train.presets import toy
from lpm_train.proof.puppet_faces import PuppetFaces
from lpm_train.session import make_encoders
from lpm_train.streaming import playing, stream
from lpm_train.streaming.decoding import Decoding
from lpm_train.streaming.playing import played
from lpm_train.streaming.ring import StaticRollout
from lpm_train.streaming.rollout import roll
from lpm_train.tools import cli, stream_files
from lpm_train.tools.media import write_png
from lpm_train.training import checkpoint
from lpm_train.training.stage import make_stage

WAYS = {
    "static": ["stream.cache=static"],
    "beside": ["stream.decode=beside"],
    "static, compiled, beside": ["stream.cache=static", "stream.compile=true", "stream.decode=beside"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a causal model in which nothing is zero, so that every condition shows."""
    config = override(toy(), [*SMALL, "run.stage=causal", "data.text=hashed-words", "data.text.width=8"])
    config = fitted(config, make_encoders(config.data))
    stage = make_stage(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for p in stage.student.parameters():
            nn.init.normal_(p, std=0.15)
    stage.ema.weights.update({n: p.detach().clone() for n, p in stage.student.named_parameters()})
    out = tmp_path_factory.mktemp("runs") / "causal"
    checkpoint.save(out, stage, config, checkpoint.Meta(step=0), keep=1)
    return out


@dataclass
class Seen:
    """What was computed with, and what came out."""

    rollouts: set[str] = field(default_factory=set)
    beside: set[bool] = field(default_factory=set)
    warmed: int = 0
    blocks: list[Tensor] = field(default_factory=list)
    frames: list[np.ndarray[Any, Any]] = field(default_factory=list)

    def equals(self, other: Seen) -> None:
        """Hold latents to 1e-6 of each other, and pictures to a level of 255, which a rounding may cost."""
        assert len(self.blocks) == len(other.blocks) > 3 and len(self.frames) == len(other.frames) > 20
        for got, want in zip(self.blocks, other.blocks, strict=True):
            torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
        assert float(torch.stack(self.blocks).std()) > 0.1
        far = np.stack(self.frames).astype(int) - np.stack(other.frames)
        assert np.abs(far).max() <= 1


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Look over the shoulders of rollouts, decoders and compilation; compile without a compiler."""
    out, began, warm, decoding = Seen(), playing.started, StaticRollout.warm, Decoding.__init__

    def started(*given: Any) -> Any:
        rollout = began(*given)
        out.rollouts.add(type(rollout).__name__)
        block = rollout.block

        def kept(*told: Any) -> Tensor:
            out.blocks.append(block(*told))
            return out.blocks[-1]

        rollout.block = kept  # type: ignore[method-assign, assignment]
        return rollout

    def warmed(rollout: StaticRollout, *given: Any) -> None:
        out.warmed += 1
        warm(rollout, *given)

    def set_up(own: Decoding, codec: Any, device: torch.device, beside: bool, half: bool = False) -> None:
        out.beside.add(beside)
        decoding(own, codec, device, beside, half)

    for module in (playing, stream):
        monkeypatch.setattr(module, "started", started)
    monkeypatch.setattr(StaticRollout, "warm", warmed)
    monkeypatch.setattr(Decoding, "__init__", set_up)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    yield out
    torch._dynamo.reset()


def taken(seen: Seen) -> Seen:
    """Return what was seen so far, and forget it."""
    out = Seen(**vars(seen))
    vars(seen).update(vars(Seen()))
    return out


def held_to(way: str, clips: int, found: Seen) -> None:
    """See that the way was gone, and no other."""
    assert found.rollouts == {"StaticRollout" if "static" in way else "Rollout"}
    assert found.beside == {"beside" in way} and found.warmed == clips * ("compiled" in way)


@pytest.mark.parametrize("way", ["static, compiled, beside"])
def test_eval_goes_the_way_that_stream_settings_say(
    way: str, run: Path, seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = PuppetFaces.look

    def looked(reader: PuppetFaces, frames: Any, every: int) -> Any:
        kept = list(frames)
        seen.frames.extend(kept if every > 1 else [])
        return look(reader, kept, every)

    monkeypatch.setattr(PuppetFaces, "look", looked)

    def figures(*settings: str) -> dict[str, Any]:
        told, out = ["eval.faces=puppet", "eval.clips=2", "eval.lengths=[1,2]", *settings], tmp_path / "figures.json"
        assert cli.evaluate(run, str(dataset()), "true", 1, told, out) == 0
        return {k: v for k, v in json.loads(out.read_text()).items() if k not in ("rollout.latents_per_s", "reasons")}

    want = figures()
    eager = taken(seen)
    held_to("eager", 2, eager)
    got = figures(*WAYS[way])
    held_to(way, 2, seen)
    seen.equals(eager)
    assert got.keys() == want.keys() and {n for n, v in got.items() if v is None} == {
        n for n, v in want.items() if v is None
    }
    latent = {n: v for n, v in want.items() if n.startswith(("drift", "motion", "heldout", "condition", "rollout"))}
    assert len(latent) > 8 and {n: got[n] for n in latent} == pytest.approx(latent, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_goes_the_same_way(
    way: str, run: Path, seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = stream_files.write_mp4

    def written(out: Any, frames: Any, *rest: Any, **more: Any) -> int:
        seen.frames.extend(kept := list(frames))
        return write(out, iter(kept), *rest, **more)

    monkeypatch.setattr(stream_files, "write_mp4", written)
    write_png(tmp_path / "face.png", np.full((32, 32, 3), 90, np.uint8))

    def streamed(*settings: str) -> None:
        told = {"image": tmp_path / "face.png", "out": tmp_path / "out.mp4", "seconds": 2.0, "settings": list(settings)}
        with pytest.raises(typer.Exit) as ended:
            cli.stream(run, **told)
        assert ended.value.exit_code == 0

    streamed()
    eager = taken(seen)
    held_to("eager", 1, eager)
    streamed(*WAYS[way])
    held_to(way, 1, seen)
    seen.equals(eager)


def test_playing_is_the_rollout_of_training() -> None:
    settings = case.config()
    model, batch = case.model(settings), case.batch(["a", "b"], frames=8)
    given = (model, batch.cond, batch.size, batch.sample_ids, settings.stream, "x")
    with torch.no_grad():
        assert torch.equal(torch.cat(list(played(*given)), 1), roll(*given))
