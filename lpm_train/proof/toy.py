"""The proof on known factors: shards of the puppet in, three stages, a streaming student out, every claim a number.

`make toy` runs it on a CPU and writes build/toy/metrics.json, a video and a strip of pictures. Stages, loader
and codec are the real ones; only the data is synthetic. Distillation is stopped by what the student does, not by a
count of steps: its loss cannot tell a lively student from a wild one. What must be reached is in `goals`. About 30
minutes of one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from lpm_train import parts
from lpm_train.batch import STATES, Batch, DropRates
from lpm_train.config import Causal, Config, Data, Distill, Flow, Model, Optim, Pretrain, Run, Stream
from lpm_train.data.clip import read_video, to_unit
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.shards import Shards
from lpm_train.network.model import DiT
from lpm_train.network.refine import Performer
from lpm_train.proof import goals
from lpm_train.proof.codec_principal import PrincipalCodec
from lpm_train.proof.metrics import nested
from lpm_train.proof.puppet import held_out_scenes, measure, measure_lengths, scene_batch, strip, to_frames
from lpm_train.proof.synthetic import SIZE, Scene, render, tracks
from lpm_train.proof.synthetic_shards import write_dataset
from lpm_train.session import load_model, make_encoders
from lpm_train.streaming.rollout import roll, sample_clip
from lpm_train.streaming.stream import StreamGenerator, StreamingAudio
from lpm_train.tools.judge.evaluate import condition_gaps
from lpm_train.tools.media import write_mp4, write_png
from lpm_train.tools.precompute import precompute
from lpm_train.tools.provenance import model_fingerprint, tags
from lpm_train.training import loop
from lpm_train.training.checkpoint import find, load_weights, path_of, read_meta, steps
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage
from lpm_train.training.start import Weights
from schemas.samples.sample import SAMPLES_PER_FRAME

FRAMES = 48  # video frames of a training clip: 12 latents

_HOP = 12  # frames between two windows of a clip

_SHOWN = 20  # training clips of a rollout that student.mp4 shows

STAGES = ("pretrain", "causal", "distill")

# What the choice of a student looks at, beside its cost.
_LOOKED_AT = ("sway_std_ratio", "mouth_speech_corr", "nod_user_corr", "identity.last", "silent_mouth")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of everything; the defaults are `make toy`."""

    seed: int = 0  # of weights, order, windows and noise; the data and what is judged stay the same
    muon: bool = True  # else AdamW in all stages
    identities: int = 96
    held_out: int = 16
    clips: int = 6
    clip_frames: int = 96
    batch: int = 8
    pretrain: int = 4800
    causal: int = 350
    distill: int = 240  # critic steps; the student moves every `Distill.critic_steps`-th
    rollout: int = 12  # latents of a student's rollout; the last clip length of it is judged
    evaluate_every: int = 6  # distillation steps between two looks at what the student does
    scenes: int = 96  # people in clips of the training length: 12 tell its spread to 14 %, these to 5 %
    looks: tuple[int, int] = (40, 8)  # people and clip lengths of the rollouts that a student is chosen by
    long_scenes: int = 48  # people in rollouts: each sways about a place of its own, so 16 tell the spread to 10 %
    lengths: tuple[int, ...] = goals.LENGTHS  # where a student is judged


def toy_config(stage: str = "pretrain", budget: Budget = Budget(), codec: Path = Path("codec.pt")) -> Config:
    """Return the toy's configuration of a stage: 0.6 M parameters, latents of 12 x 8 x 8, clips of 12 of them."""
    learning = {
        "pretrain": Optim(
            lr=4e-3 if budget.muon else 2e-3, warmup=30, decay_to=0.05, ema=0.995, betas=(0.9, 0.98), muon=budget.muon
        ),
        "causal": Optim(lr=1.5e-3, warmup=30, decay_to=0.05, ema=0.99, betas=(0.9, 0.98), muon=budget.muon),
        "distill": Optim(lr=3e-4, warmup=1, ema=0.6, betas=(0.0, 0.99), clip=10.0),
    }
    count = {"pretrain": budget.pretrain, "causal": budget.causal, "distill": budget.distill}
    return Config(
        model=Model(
            channels=12, audio_width=24, audio_steps=4, text_width=32, depth=4, width=80, heads=4, patch=2,
            speak_before=2, listen_before=2, theta=100.0,
        ),
        # Who sways where is decided at high noise: there training looks, and there a sampler needs its steps. With 16
        # even Euler steps the exact flow itself loses a third of the spread (benchmarks/toy_sampler.py).
        flow=Flow(shift=5.0, steps=16),
        stream=Stream(block=3, window=9, steps=4, shift=4.0),
        pretrain=Pretrain(),
        causal=Causal(context_noise=0.3, drop=DropRates(speak=0, listen=0, text=0, refs=0, everything=0)),
        distill=Distill(
            rollout=budget.rollout, loss_frames=12, critic_steps=3, critic_lr=1e-3 if budget.muon else 2e-3,
            critic_betas=(0.5, 0.98), critic_muon=budget.muon, shift=4.0,
        ),
        optim=learning[stage],
        run=Run(
            stage=parts.stage(stage), steps=count[stage], seed=budget.seed, device="cpu",
            log_every=max(1, count[stage] // 10),
            eval_every=budget.evaluate_every if stage == "distill" else max(1, count[stage] // 6),
            save_every=100, keep=1, patience=4 if stage == "distill" else 0,
            select="cost" if stage == "distill" else "heldout_loss", exit_share=goals.EXIT_SHARE.get(stage, 1.0),
        ),
        data=Data(
            codec=parts.codec("principal", path=str(codec)), audio=parts.audio(steps_per_frame=1, n_mels=24),
            text=parts.text(width=32, length=6), frames=FRAMES, height=SIZE, width=SIZE,
            batch=budget.batch, max_refs=2, drop_ref=0.3, hop_frames=_HOP, precomputed="toy",
        ),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ data


def prepare_data(out: Path, budget: Budget, say: Say) -> Encoders:
    """Write the shards, fit the codec on them, and precompute what the stages read; what is there is kept."""
    root = out / "data"
    if not (root / "manifest.parquet").exists():
        write_dataset(
            root, identities=budget.identities, held_out=budget.held_out, clips=budget.clips,
            n_frames=budget.clip_frames,
        )  # fmt: skip
    config = toy_config()
    if not (out / "codec.pt").exists():
        PrincipalCodec.fit(_some_clips(root), (4, 4, 4), config.model.channels).save(out / "codec.pt")
    encoders = make_encoders(toy_config(codec=out / "codec.pt").data)
    sets = {"toy": FRAMES} | ({"toy-long": budget.clip_frames} if budget.rollout > 12 else {})
    for name, frames in sets.items():
        counts = precompute(root, name, encoders, ((frames, SIZE, SIZE),), hop_frames=_HOP, dtype="float32", workers=1)
        say(f"precomputed/{name}: {counts['samples'] + counts['kept']} samples of {frames} frames")
    return encoders


def _some_clips(root: Path) -> Iterator[Tensor]:
    shards = Shards(root, "split = 'train'")
    for sample_id in shards.ids[:: max(1, len(shards) // 96)]:
        yield to_unit(read_video(shards.read(shards[sample_id], ["mp4"])["mp4"], (SIZE, SIZE)))[None]


def _open_loader(out: Path, encoders: Encoders, batch: int, split: str, frames: int = FRAMES, seed: int = 0) -> Loader:
    """Open the loader of a split."""
    data = replace(
        toy_config().data, root=str(out / "data"), where=f"split = '{split}'", batch=batch, frames=frames, workers=1,
        precomputed="toy" if frames == FRAMES else "toy-long",
    )  # fmt: skip
    return Loader(data, encoders, seed=seed)


# ------------------------------------------------------------------------------------------------ what a model does


@dataclass(frozen=True)
class Bench:
    """Scenes that no model has seen, encoded once."""

    encoders: Encoders
    short: tuple[list[Scene], Batch]
    long: tuple[list[Scene], Batch]
    look: tuple[list[Scene], Batch]  # others than those of the report: a student must not be chosen by its examination
    look_short: tuple[list[Scene], Batch]
    lengths: tuple[int, ...]
    held_out: list[Batch]
    size: tuple[int, int, int]

    @classmethod
    def make(cls, out: Path, encoders: Encoders, budget: Budget) -> Bench:
        """Draw and encode the scenes; fetch held-out batches."""
        many, far = budget.looks
        drawn = [
            held_out_scenes(budget.scenes, FRAMES, run_frames=(16, 40)),
            held_out_scenes(budget.long_scenes, FRAMES * budget.lengths[-1], seed=6_000_000),
            held_out_scenes(many, FRAMES * far, seed=8_000_000),
            held_out_scenes(budget.scenes, FRAMES, seed=8_500_000, run_frames=(16, 40)),
        ]
        with _open_loader(out, encoders, budget.batch, "val") as loader:
            held_out = [next(loader) for _ in range(2)]
        x = held_out[0].x_BFCHW
        size = (x.shape[2], x.shape[3], x.shape[4])
        a, b, c, d = ((scenes, scene_batch(scenes, encoders, 2)) for scenes in drawn)
        return cls(encoders, a, b, c, d, lengths=budget.lengths, held_out=held_out, size=size)

    def clips(self, model: DiT, config: Config) -> tuple[Tensor, dict[str, float]]:
        """Sample clips in both directions; -> (latents, figures)."""
        scenes, batch = self.short
        z = sample_clip(model, batch.cond, self.size, batch.sample_ids, config.flow, "bench")
        return z, measure(z, scenes, self.encoders, FRAMES)

    def roll(self, model: Performer, stream: Stream, over: tuple[list[Scene], Batch]) -> Tensor:
        """Stream blocks from a cache over scenes; -> latents."""
        batch = over[1]
        with torch.no_grad():
            return roll(model, batch.cond, self.size, batch.sample_ids, stream, "bench")

    def rollout(self, model: Performer, stream: Stream, over: tuple[list[Scene], Batch]) -> dict[str, float]:
        """Stream blocks from a cache over scenes; -> figures from the first frame to the last."""
        return measure(self.roll(model, stream, over), over[0], self.encoders, FRAMES)

    def judged(self, model: Performer, stream: Stream) -> tuple[Tensor, dict[int, dict[str, float]]]:
        """Judge a stream; -> (long rollouts, figures by length). Those of a single clip are of more people."""
        z = self.roll(model, stream, self.long)
        figures = measure_lengths(z, self.long[0], self.encoders, FRAMES, self.lengths)
        return z, figures | {1: self.rollout(model, stream, self.short)}

    def student_figures(self, stage: Any) -> dict[str, float]:
        """Measure a stage's averaged student in clips and rollouts; `cost` is what is to be small."""
        with stage.averaged() as model:
            far, near = (self.rollout(model, stage.config.stream, x) for x in (self.look, self.look_short))
        shown = {n: far[n] for n in _LOOKED_AT} | {f"x1.{n}": near[n] for n in _LOOKED_AT}
        return {"cost": student_cost(far) + student_cost(near)} | shown

    def gaps(self, model: DiT, config: Config, causal: bool) -> dict[str, float]:
        """Return the condition gaps over the short scenes, in which neighbours never share a text."""
        return condition_gaps(model, [self.short[1]], config.stream if causal else None)


def student_cost(f: Mapping[str, float]) -> float:
    """Say how far a student is from what it should do; 0 is perfect, the smaller the better."""
    short_of = 5 * (max(0.0, 0.97 - f["mouth_speech_corr"]) + max(0.0, 0.97 - f["nod_user_corr"]))
    return abs(f["sway_std_ratio"] - 1) + short_of + 4 * max(0.0, f["identity.last"] - 0.04)


# ------------------------------------------------------------------------------------------------ training


def _weights(out: Path, name: str) -> Weights:
    return load_weights(out / name)[1]


def _finished(out: Path, config: Config) -> bool:
    there = steps(out)
    if not there:
        return False
    meta = read_meta(path_of(out, there[-1]))
    return meta.step >= config.run.steps or bool(config.run.patience and meta.stale >= config.run.patience)


def train_all(out: Path, encoders: Encoders, bench: Bench, budget: Budget, say: Say) -> dict[str, dict[str, float]]:
    """Run pretrain, causal and distill; -> figures of the held-out loss by stage. A stopped run continues."""
    where = Ranks()
    figures: dict[str, dict[str, float]] = {}
    for name in STAGES:
        config = toy_config(name, budget, out / "codec.pt")
        if not _finished(out / name, config):
            start = _weights(out, STAGES[STAGES.index(name) - 1]) if name != "pretrain" else None
            stage = make_stage(config, where, start, _weights(out, "pretrain") if name == "distill" else None)
            frames = budget.clip_frames if name == "distill" and budget.rollout > 12 else FRAMES
            look = bench.student_figures if name == "distill" else None
            with _open_loader(out, encoders, config.data.batch, "train", frames, budget.seed) as loader:
                loop.train(stage, config, loader, out / name, heldout=bench.held_out, measure=look, show=say)
        meta = read_meta(find(out / name))
        loss = meta.now["heldout_loss"]
        figures[name] = {"first": meta.first["heldout_loss"], "last": loss}
        if name == "distill":
            figures[name] |= {"chosen_step": float(meta.step), "std_ratio": meta.now["std_ratio"]}
        else:
            states = [meta.now[k] for k in (f"heldout_loss.{state}" for state in STATES) if k in meta.now]
            late = goals.late_fall(_evaluations(out / name))
            figures[name] |= {"worst_state": max(states) / loss, "late_fall": late}
    return figures


def _evaluations(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(x["step"], x["evaluation"]["heldout_loss"]) for x in lines if "evaluation" in x]


# ------------------------------------------------------------------------------------------------ the report


def measure_start(out: Path, bench: Bench, config: Config) -> tuple[dict[str, Mapping[str, float]], list[Tensor]]:
    """Measure the data and what distillation begins with; -> (figures, clips of the teacher and the causal model)."""
    teacher, causal = (cast(DiT, load_model(out / n)[1]) for n in STAGES[:2])
    many = replace(config.stream, steps=2 * config.flow.steps, shift=config.flow.shift, resample=False)  # Euler's
    teacher_z, figures = bench.clips(teacher, config)
    causal_z = bench.roll(causal, config.stream, bench.short)
    found: dict[str, Mapping[str, float]] = {
        "pretrain": figures,
        "pretrain.condition_gap": bench.gaps(teacher, config, False),
        "causal.few_steps": measure(causal_z, bench.short[0], bench.encoders, FRAMES),
        "causal.many_steps": bench.rollout(causal, many, bench.short),
        "causal.condition_gap": bench.gaps(causal, config, True),
        "data": measure(bench.short[1].x_BFCHW, bench.short[0], bench.encoders, FRAMES),
    }
    return found, [teacher_z, causal_z]


def report(
    out: Path, bench: Bench, losses: Mapping[str, Mapping[str, float]], budget: Budget, say: Say,
    start: tuple[dict[str, Mapping[str, float]], list[Tensor]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure every stage's model, write metrics.json, the video and the strip; return the metrics.

    Args:
        out: directory of the run.
        bench: what is measured on.
        losses: of `train_all`.
        budget: of the run.
        say: where lines for people go.
        start: of `measure_start`, where it is known.
    """
    config = toy_config("distill", budget)
    before, clips = start or measure_start(out, bench, config)
    model = cast(DiT, load_model(out / "distill")[1])
    student_z, student = bench.judged(model, config.stream)
    found: dict[str, Mapping[str, float]] = before | {
        **{f"distill.x{length}": figures for length, figures in student.items()},
        "distill": {"steps": float(config.stream.steps)},
        "distill.condition_gap": bench.gaps(model, config, True),
        **{f"{name}.heldout_loss": loss for name, loss in losses.items()},
        "stream": _stream_figures(model, config, bench),
    }
    metrics = nested({f"{where}.{name}": value for where, figures in found.items() for name, value in figures.items()})
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    scene = bench.long[0][0].cut(0, _SHOWN * FRAMES)
    video = to_frames(student_z[0], bench.encoders)
    shown, sound = video[: scene.n_frames], tracks(bench.long[0][0])[0][: scene.n_frames * SAMPLES_PER_FRAME]
    big, mark = shown.repeat(8, axis=1).repeat(8, axis=2), tags(model_fingerprint(model))
    write_mp4(out / "student.mp4", big, sound, tags=mark)
    rows = [render(bench.short[0][0]), *(to_frames(z[0], bench.encoders) for z in clips)]
    rows += [render(scene)[:FRAMES], video[:FRAMES], video[-FRAMES:], render(bench.long[0][0])[-FRAMES:]]
    write_png(out / "strip.png", strip(rows, 4))
    say(f"wrote {out / 'metrics.json'}, student.mp4, strip.png")
    say("strip.png: a scene, teacher, causal; another scene's start, student, student at the end, the scene's end")
    return metrics


def _stream_figures(model: DiT, config: Config, bench: Bench) -> dict[str, float]:
    """Stream one scene as a live user would, decoding included: `fps`, `first_chunk_s` and more."""
    scenes, batch = bench.long
    e, scene = bench.encoders, scenes[0]
    generator = StreamGenerator(
        model, config, e.codec, cast(StreamingAudio, e.audio), e.text, batch.cond.select([0]), words=scene.caption
    )
    speak, listen = (torch.from_numpy(x) for x in tracks(scene))
    chunk = config.stream.block * e.codec.stride[0] * SAMPLES_PER_FRAME
    for start in range(0, min(len(speak), 20 * chunk), chunk):
        generator.push(speak[start : start + chunk], listen[start : start + chunk])
    return generator.timing.report()


def main(out: Path = Path("build/toy"), budget: Budget = Budget()) -> int:
    """Run all of it; 0 if every goal is reached, 1 if not (the figures are written either way)."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {text}", flush=True)

    encoders = prepare_data(out, budget, say)
    bench = Bench.make(out, encoders, budget)
    losses = train_all(out, encoders, bench, budget, say)
    metrics = report(out, bench, losses, budget, say)
    for stage, rows in goals.criteria(metrics).items():
        for criterion in rows:
            say(f"{stage}: {criterion}")
    missed = goals.missed(metrics)
    say(f"NOT REACHED: {len(missed)} goals, marked as open" if missed else "every goal is reached")
    return 1 if missed else 0


if __name__ == "__main__":
    import sys

    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/toy")))
