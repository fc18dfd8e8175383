"""The proof on known factors: shards of the puppet in, three stages, a streaming student out, every claim a number.

`make toy` runs it on a CPU and writes build/toy/metrics.json, a video and a strip of pictures. Stages, loader
and codec are the real ones; only the data is synthetic. Distillation is stopped by what the student does, not by a
count of steps: its loss cannot tell a lively student from a wild one. About 20 minutes of one core.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lpm_train.audio import make_audio
from lpm_train.batch import Batch, DropRates
from lpm_train.clip import read_video, to_unit
from lpm_train.codec_principal import PrincipalCodec
from lpm_train.config import Causal, Config, Data, Distill, Flow, Model, Optim, Pretrain, Run, Stream, to_json
from lpm_train.loader import Loader, LoaderConfig
from lpm_train.make import Encoders
from lpm_train.media import write_mp4, write_png
from lpm_train.metrics import nested
from lpm_train.model import DiT
from lpm_train.precompute import precompute
from lpm_train.probe import condition_gaps
from lpm_train.puppet import held_out_scenes, measure, scene_batch, strip, to_frames
from lpm_train.rollout import causal_layout, roll, sample_clip
from lpm_train.sampling import Sampling
from lpm_train.shards import Shards
from lpm_train.stages import Weights, make_stage
from lpm_train.synthetic import SIZE, Scene, render, tracks
from lpm_train.synthetic_shards import write_dataset
from lpm_train.text import make_text

FRAMES = 48
"""Video frames of a training clip: 12 latents."""

LONG = 20
"""Length of the rollout that drift is measured on, in training clips."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much of everything; the defaults are `make toy`."""

    identities: int = 96
    held_out: int = 16
    clips: int = 3
    clip_frames: int = 96
    batch: int = 16
    pretrain: int = 1100
    causal: int = 350
    distill: int = 240
    """Critic steps; the student moves every `Distill.critic_steps`-th."""
    evaluate_every: int = 15
    """Distillation steps between two looks at what the student does."""
    scenes: int = 12
    long_scenes: int = 3
    long: int = LONG


def toy_config(stage: str = "pretrain", budget: Budget = Budget()) -> Config:
    """Return the toy's configuration of a stage: 0.6 M parameters, latents of 12 x 8 x 8, clips of 12 of them."""
    learning = {
        "pretrain": Optim(lr=3e-3, warmup=30, decay_to=0.05, ema=0.995, betas=(0.9, 0.98)),
        "causal": Optim(lr=1.5e-3, warmup=30, decay_to=0.05, ema=0.99, betas=(0.9, 0.98)),
        "distill": Optim(lr=3e-5, warmup=1, ema=0.9, betas=(0.0, 0.99), clip=10.0),
    }
    steps = {"pretrain": budget.pretrain, "causal": budget.causal, "distill": budget.distill}
    return Config(
        model=Model(
            channels=12, audio_width=24, audio_steps=4, text_width=32, depth=4, width=80, heads=4, patch=2,
            speak_before=2, listen_before=2, theta=100.0,
        ),
        flow=Flow(shift=0.7, steps=16),
        stream=Stream(block=3, window=9, steps=4, shift=1.0),
        pretrain=Pretrain(),
        causal=Causal(context_noise=0.3, drop=DropRates(speak=0, listen=0, text=0, refs=0, everything=0)),
        distill=Distill(rollout=24, loss_frames=12, critic_steps=3, critic_lr=3e-4, shift=1.0),
        optim=learning[stage],
        run=Run(stage=stage, steps=steps[stage], device="cpu"),  # type: ignore[arg-type]
        data=Data(codec="principal:codec.pt", audio="logmel:1x24", text="hashed-words:32x6", frames=FRAMES,
                  height=SIZE, width=SIZE, batch=budget.batch, max_refs=2, hop_frames=4, precomputed="toy"),
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
    encoders = Encoders(
        PrincipalCodec.load(out / "codec.pt"), make_audio(config.data.audio), make_text(config.data.text)
    )
    for name, frames in (("toy", FRAMES), ("toy-long", budget.clip_frames)):
        counts = precompute(root, name, encoders, ((frames, SIZE, SIZE),), hop_frames=4, dtype="float32", workers=1)
        say(f"precomputed/{name}: {counts['samples'] + counts['kept']} samples of {frames} frames")
    return encoders


def _some_clips(root: Path) -> Iterator[Tensor]:
    shards = Shards(root, "split = 'train'")
    for sample_id in shards.ids[:: max(1, len(shards) // 96)]:
        yield to_unit(read_video(shards.read(shards[sample_id], ["mp4"])["mp4"], (SIZE, SIZE)))[None]


def open_loader(out: Path, encoders: Encoders, budget: Budget, split: str, frames: int = FRAMES) -> Loader:
    """Open the loader of a split."""
    config = LoaderConfig(
        buckets=((frames, SIZE, SIZE),), where=f"split = '{split}'", global_batch=budget.batch, workers=1,
        precomputed="toy" if frames == FRAMES else "toy-long",
        sampling=Sampling(hop_frames=4, max_refs=2, drop_ref=0.3),
    )  # fmt: skip
    return Loader(out / "data", config, encoders)


# ------------------------------------------------------------------------------------------------ what a model does


@dataclass(frozen=True)
class Bench:
    """Scenes that no model has seen, encoded once."""

    encoders: Encoders
    short: tuple[list[Scene], Batch]
    long: tuple[list[Scene], Batch]
    held_out: list[Batch]
    size: tuple[int, int, int]

    @classmethod
    def make(cls, out: Path, encoders: Encoders, budget: Budget) -> Bench:
        """Draw and encode the scenes; fetch held-out batches."""
        short = held_out_scenes(budget.scenes, FRAMES, run_frames=(16, 40))
        long = held_out_scenes(budget.long_scenes, FRAMES * budget.long, seed=8_000_000)
        with open_loader(out, encoders, budget, "val") as loader:
            held_out = [next(loader) for _ in range(2)]
        x = held_out[0].x_BFCHW
        size = (x.shape[2], x.shape[3], x.shape[4])
        return cls(
            encoders, (short, scene_batch(short, encoders, 2)), (long, scene_batch(long, encoders, 2)), held_out, size
        )

    def clips(self, model: DiT, config: Config) -> tuple[Tensor, dict[str, float]]:
        """Sample clips in both directions; -> (latents, figures)."""
        scenes, batch = self.short
        z = sample_clip(model, batch.cond, self.size, batch.sample_ids, config.flow, "bench")
        return z, measure(z, scenes, self.encoders, FRAMES)

    def rollout(
        self, model: DiT, stream: Stream, frames: int | None = None, long: bool = True
    ) -> tuple[Tensor, dict[str, float]]:
        """Stream blocks from a cache over the long (or short) scenes; -> (latents, figures)."""
        scenes, batch = self.long if long else self.short
        cond = batch.cond.window(0, frames) if frames else batch.cond
        with torch.no_grad():
            z = roll(model, cond, self.size, batch.sample_ids, stream, "bench")
        return z, measure(z, scenes, self.encoders, FRAMES)

    def gaps(self, model: DiT, config: Config, causal: bool) -> dict[str, float]:
        """Return the condition gaps over the short scenes, in which neighbours never share a text."""
        return condition_gaps(model, [self.short[1]], causal_layout(config.stream) if causal else None)


def student_cost(f: Mapping[str, float]) -> float:
    """Say how far a student is from what it should do; 0 is perfect, the smaller the better."""
    short_of = 5 * (max(0.0, 0.97 - f["mouth_speech_corr"]) + max(0.0, 0.97 - f["nod_user_corr"]))
    return abs(f["sway_std_ratio"] - 1) + short_of + 4 * max(0.0, f["identity.last"] - 0.04)


# ------------------------------------------------------------------------------------------------ training


@dataclass
class Trained:
    """What a stage leaves behind."""

    weights: Weights
    figures: dict[str, float] = field(default_factory=dict)


def _model(config: Config, weights: Weights) -> DiT:
    model = DiT(config.model)
    model.load_state_dict(dict(weights))
    return model.eval().requires_grad_(False)


def run_stage(
    name: str,
    source: Iterator[Batch],
    held_out: list[Batch],
    config: Config,
    say: Say,
    start: Weights | None = None,
    teacher: Weights | None = None,
    look: Callable[[DiT], float] | None = None,
    every: int = 0,
) -> Trained:
    """Train a stage; with `look`, keep the averaged weights for which it is smallest, else the last ones."""
    stage = make_stage(config, None, start, teacher)
    first = stage.evaluate(held_out)["heldout_loss"]
    best: tuple[float, Weights, int] | None = None
    began, log_every = time.perf_counter(), max(1, config.run.steps // 8)
    for i in range(config.run.steps + 1):
        if look is not None and i % every == 0:
            weights = {n: w.clone() for n, w in stage.ema.weights.items()}
            cost = look(_model(config, weights))
            if best is None or cost < best[0]:
                best = (cost, weights, i)
        if i == config.run.steps:
            break
        out = stage.step(next(source), i)
        if i % log_every == 0 or i == config.run.steps - 1:
            text = "  ".join(f"{k} {v:.4f}" for k, v in out.items())
            say(f"{name} {i}: {text}  ({time.perf_counter() - began:.0f} s)")
    if best is not None:
        stage.ema.weights = dict(best[1])
    last = stage.evaluate(held_out)
    for criterion in stage.exit_criteria({"heldout_loss": first}, last):
        say(f"{name}: {criterion}")
    figures = {"first": first, "last": last["heldout_loss"]}
    if best is not None:
        figures |= {"chosen_step": float(best[2]), "cost": best[0]}
    return Trained({n: w.clone() for n, w in stage.ema.weights.items()}, figures)


def train_all(out: Path, encoders: Encoders, bench: Bench, budget: Budget, say: Say) -> dict[str, Trained]:
    """Run pretrain, causal and distill; a stage whose weights are there already is not run again."""
    done: dict[str, Trained] = {}
    for name in ("pretrain", "causal", "distill"):
        config, file = toy_config(name, budget), out / f"{name}.pt"
        if file.exists():
            stored = torch.load(file, weights_only=True)
            done[name] = Trained(stored["weights"], stored["figures"])
            say(f"{name}: read from {file.name}")
            continue
        frames = budget.clip_frames if name == "distill" else FRAMES
        start = done["causal" if name == "distill" else "pretrain"].weights if done else None

        def look(model: DiT, config: Config = config) -> float:
            _, f = bench.rollout(model, config.stream, min(48, 12 * budget.long))
            cost = student_cost(f)
            shown = ("sway_std_ratio", "mouth_speech_corr", "nod_user_corr", "identity.last", "silent_mouth")
            say("  student: " + "  ".join(f"{k} {f[k]:.3f}" for k in shown) + f"  cost {cost:.3f}")
            return cost

        with open_loader(out, encoders, budget, "train", frames) as loader:
            done[name] = run_stage(
                name, loader, bench.held_out, config, say, start,
                done["pretrain"].weights if name == "distill" else None,
                look if name == "distill" else None, budget.evaluate_every,
            )  # fmt: skip
        torch.save({"weights": done[name].weights, "figures": done[name].figures}, file)
        (out / f"{name}.json").write_text(to_json(config), encoding="utf-8")
    return done


# ------------------------------------------------------------------------------------------------ the report


def report(out: Path, bench: Bench, done: Mapping[str, Trained], budget: Budget, say: Say) -> dict[str, Any]:
    """Measure every stage's model, write metrics.json, the video and the strip; return the metrics."""
    config = toy_config("distill", budget)
    models = {n: _model(config, t.weights) for n, t in done.items()}
    teacher_z, teacher = bench.clips(models["pretrain"], config)
    causal_z, causal = bench.rollout(models["causal"], config.stream)
    many = replace(config.stream, steps=config.flow.steps, shift=config.flow.shift, resample=False)
    _, causal_many = bench.rollout(models["causal"], many, long=False)
    began = time.perf_counter()
    student_z, student = bench.rollout(models["distill"], config.stream)
    took = time.perf_counter() - began
    _, student_short = bench.rollout(models["distill"], config.stream, long=False)
    flat = dict(student)
    for name, trained in done.items():
        flat |= {f"heldout_loss.{name}.{k}": v for k, v in trained.figures.items()}
    flat |= {f"condition_gap.{k}": v for k, v in bench.gaps(models["distill"], config, True).items()}
    flat |= {f"short.{k}": v for k, v in student_short.items()}
    for name, figures, model, forced in (
        ("teacher", teacher, "pretrain", False), ("causal", causal, "causal", True),
    ):  # fmt: skip
        flat |= {f"{name}.{k}": v for k, v in figures.items()}
        flat |= {f"{name}.condition_gap.{k}": v for k, v in bench.gaps(models[model], config, forced).items()}
    flat |= {f"causal.many_steps.{k}": v for k, v in causal_many.items()}
    flat |= {"student_steps": float(config.stream.steps), "rollout_frames": float(student_z.shape[1])}
    flat["rollout.fps"] = student_z.shape[0] * student_z.shape[1] * 4 / took
    flat |= {f"stream.{k}": v for k, v in stream_figures(models["distill"], config, bench).items()}
    metrics = nested(flat)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    scene = bench.long[0][0]
    video = to_frames(student_z[0], bench.encoders)
    write_mp4(out / "student.mp4", video.repeat(8, axis=1).repeat(8, axis=2), tracks(scene)[0])
    rows = [render(scene)[:FRAMES], to_frames(teacher_z[0], bench.encoders), to_frames(causal_z[0], bench.encoders)]
    rows += [video[:FRAMES], video[-FRAMES:], render(scene)[-FRAMES:]]
    write_png(out / "strip.png", strip([r[:FRAMES] for r in rows], 4))
    say(f"wrote {out / 'metrics.json'}, student.mp4, strip.png (data, teacher, causal, student; last: student, data)")
    return metrics


def stream_figures(model: DiT, config: Config, bench: Bench) -> dict[str, float]:
    """Time one stream, block by block, decoding included: `fps`, and `first_chunk_s` from start to first pictures."""
    from lpm_train import flow
    from lpm_train.rollout import Rollout, near

    _, batch = bench.short
    one, block = batch.select([0]), config.stream.block
    began = time.perf_counter()
    with torch.no_grad():
        rollout, state, first, shown = Rollout.begin(model, one.cond, config.stream), None, 0.0, 0
        for start in range(0, one.cond.frames, block):
            part, at = near(one.cond, start, start + block, model)

            def draw(purpose: str, start: int = start) -> Tensor:
                return flow.noise(one.sample_ids, (block, *bench.size), one.x_BFCHW, "time", start, purpose)

            frames, state = bench.encoders.codec.decode(rollout.block(part, at, draw), state)
            shown += frames.shape[1]
            first = first or time.perf_counter() - began
    return {"fps": shown / (time.perf_counter() - began), "first_chunk_s": first}


def check(metrics: Mapping[str, Any]) -> list[str]:
    """Return what the figures fall short of; empty when all is reached."""
    m, out = metrics, []

    def ask(name: str, value: float, low: float, high: float) -> None:
        if not low <= value <= high:
            out.append(f"{name} is {value:.4g}, wanted {low:g} .. {high:g}")

    ask("mouth_speech_corr", m["mouth_speech_corr"], 0.95, 1)
    ask("nod_user_corr", m["nod_user_corr"], 0.95, 1)
    ask("sway_std_ratio", m["sway_std_ratio"], 0.85, 1.15)
    ask("drift.identity", m["drift"]["identity"], 0, 0.08)
    ask("drift.brightness", m["drift"]["brightness"], -0.02, 0.02)
    ask("silent_mouth", m["silent_mouth"], 0, 0.1)
    ask("student_steps", m["student_steps"], 1, 4)
    for name, gap in m["condition_gap"].items():
        ask(f"condition_gap.{name}", gap, 1e-6, float("inf"))
    for stage, figures in m["heldout_loss"].items():
        ask(f"heldout_loss.{stage} last / first", figures["last"] / figures["first"], 0, 0.999)
    return out


def main(out: Path = Path("build/toy"), budget: Budget = Budget()) -> int:
    """Run all of it; 0 if every goal is reached, 1 if not (the figures are written either way)."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {text}", flush=True)

    encoders = prepare_data(out, budget, say)
    bench = Bench.make(out, encoders, budget)
    done = train_all(out, encoders, bench, budget, say)
    short = check(report(out, bench, done, budget, say))
    for line in short:
        say(f"NOT REACHED: {line}")
    if not short:
        say("every goal is reached")
    return 1 if short else 0


if __name__ == "__main__":
    import sys

    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/toy")))
