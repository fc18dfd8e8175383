"""What training and streaming reach on one GPU: parts of at most ten minutes each, each into a file of its own.

    python benchmarks/h200.py --list
    python benchmarks/h200.py --part stream --out DIR [--preset h200_1b3] [--limit-s 540]
    python benchmarks/h200.py --part all --out DIR          # each in a process of its own; a failure stops none

Weights are random: cost does not depend on them. A file says what it was measured on, and holds the error of a part
that failed. `--tiny --device cpu` runs the same code on a tiny model in seconds and measures nothing of use. Wan's
codec has random weights too, where diffusers is installed; else latents stay undecoded, and the file says so.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import datetime
import functools
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import record
import torch
from stream_load import block_sound, push_turn
from torch import Tensor
from torch.nn import functional as fn
from train import random_batch

from lpm_train import parts
from lpm_train.batch import Conditions
from lpm_train.config import Config, override
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import Codec, PatchCodec, latent_frames, latent_size
from lpm_train.encoders.text import HashedWords
from lpm_train.extras.flex import attend_forced_flex
from lpm_train.fitting import fitted
from lpm_train.network.attention import KV, Space, attend_forced
from lpm_train.network.model import DiT
from lpm_train.network.wan import make_model
from lpm_train.presets import PRESETS
from lpm_train.session import make_encoders, usable
from lpm_train.streaming.stream import StreamGenerator
from lpm_train.tools.budget import network
from lpm_train.tools.flops import H200_BF16, distill_flops, forward_flops
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import make_stage

TINY = [
    "data.codec=patch", "data.codec.stride=[2, 2, 2]", "data.audio.steps_per_frame=1", "data.audio.n_mels=8",
    "data.text=hashed-words", "data.text.width=8", "data.text.length=4", "data.frames=12", "data.height=8",
    "data.width=8", "data.max_refs=2", "model.width=32", "model.depth=2", "model.heads=2", "stream.block=2",
    "stream.window=2", "stream.steps=2", "distill.critic_steps=2",
]  # fmt: skip
FASTEST = {"cache": "static", "compile": True, "bf16": True, "decode": "beside"}


@dataclass(frozen=True)
class Case:
    """What a part runs on."""

    config: Config
    encoders: Encoders
    device: torch.device
    tiny: bool
    deadline: float  # on `time.perf_counter`
    notes: tuple[str, ...] = ()

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def size(self) -> tuple[int, int, int]:
        """Latent frames of a clip, height and width."""
        d, codec = self.config.data, self.encoders.codec
        return (latent_frames(codec, d.frames), *latent_size(codec, d.height, d.width))

    def wait(self) -> float:
        """Let the device finish; returns the time."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, run: Callable[[], Any], times: int = 20, warm: int = 2) -> float:
        """Return the median seconds of a call, after `warm` others; fewer calls where time is up."""
        for _ in range(warm):
            run()
        seconds = list[float]()
        while len(seconds) < (2 if self.tiny else times) and (not seconds or time.perf_counter() < self.deadline):
            began = self.wait()
            run()
            seconds.append(self.wait() - began)
        return statistics.median(seconds)

    def peak_gb(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 1e9 if self.cuda else None


def make_case(preset: str, tiny: bool, device: str, limit_s: float) -> Case:
    place, notes = usable(device), list[str]()
    if tiny:
        config = override(PRESETS["toy"](), TINY)
        encoders = make_encoders(config.data)
        config = fitted(config, encoders)
    else:
        config = PRESETS[preset]()
        codec: Codec = PatchCodec((4, 8, 8))
        try:
            import diffusers

            from lpm_train.extras.codec_public import WanCodec

            codec = WanCodec(diffusers.AutoencoderKLWan()).to(device)
        except ImportError as e:
            notes.append(f"no diffusers ({e}): latents stay undecoded, which costs nothing")
            codec.channels, codec.first_alone = config.model.channels, True  # type: ignore[misc]
            codec.decode = lambda z, state=None: (  # type: ignore[method-assign]
                z.new_zeros(1, z.shape[1] * 4 - 3 * (state is None), 3, 1, 1), True
            )  # fmt: skip
        text = HashedWords(config.model.text_width, 512 if config.model.kind == "wan" else 64)
        encoders = Encoders(codec, config.data.audio.build(), text, device)
        steps = codec.stride[0] * encoders.audio.steps_per_frame
        config = replace(config, model=replace(config.model, audio_steps=steps, audio_width=encoders.audio.width))
    if device == "cpu":
        run = replace(config.run, bf16=False, compile=False, attention="sdpa", device="cpu")
    else:
        torch.set_float32_matmul_precision("high")
        run = replace(config.run, device=device)
    config = replace(config, run=run)
    return Case(config, encoders, place, tiny, time.perf_counter() + limit_s, tuple(notes))


# ---- training


def train_part(case: Case, name: str) -> dict[str, Any]:
    config = replace(case.config, run=replace(case.config.run, stage=parts.stage(name)))
    (F, H, W), forced = case.size, name == "causal"
    stage = make_stage(config, Ranks(device=case.device))
    batch = random_batch(config, (F, H, W), 1)
    every = config.distill.critic_steps if name == "distill" else 1
    began, step = case.wait(), 0
    for step in range(every):  # compiles
        stage.step(batch, step)
    warm_s, times = case.wait() - began, list[float]()
    while len(times) < (1 if case.tiny else 8) and (not times or time.perf_counter() < case.deadline):
        began = case.wait()
        for _ in range(every):
            step += 1
            stage.step(batch, step)
        times.append(case.wait() - began)
    if name == "distill":
        flops = every * distill_flops(config, F, H, W, refs=config.data.max_refs, text=6)
    else:
        s = config.stream
        flops = 3 * forward_flops(
            config.model, F, H, W, refs=config.data.max_refs, text=6, block=s.block if forced else 0,
            window=s.window if forced else 0,
        )  # fmt: skip
    took = statistics.median(times)
    return {
        "parameters": sum(p.numel() for p in stage.student.parameters()), "latents": [F, H, W], "warm_s": warm_s,
        "steps": every, "step_s": took, "tflop": flops / 1e12, "tflops": flops / took / 1e12,
        "mfu": flops / took / H200_BF16, "memory_gb": case.peak_gb(),
    }  # fmt: skip


# ---- streaming


def references(case: Case) -> Conditions:
    m, K, (_, H, W) = case.config.model, case.config.data.max_refs, case.size
    off, quiet = torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, m.audio_steps, m.audio_width)
    return Conditions(
        speak_BTA=quiet, listen_BTA=quiet, speak_on_BF=off, listen_on_BF=off, text_BLD=torch.zeros(1, 1, m.text_width),
        text_mask_BL=off, ref_BKCHW=torch.randn(1, K, m.channels, H, W), ref_mask_BK=~off.expand(1, K),
        ref_kind_BK=torch.zeros(1, K, dtype=torch.long),
    )  # fmt: skip


def network_of(case: Case) -> DiT:
    with case.device:
        model = make_model(case.config.model)
    return model.eval().requires_grad_(False)


def generator(case: Case, model: DiT, **stream: Any) -> StreamGenerator:
    config = replace(case.config, stream=replace(case.config.stream, **stream))
    e = case.encoders
    return StreamGenerator(model, config, e.codec, e.audio, e.text, references(case), device=case.device)


def feed(case: Case, stream: StreamGenerator, chunks: int, at: Callable[[int], None] = lambda chunk: None) -> int:
    """Push a block's sound again and again, speaking, listening and idle by turns; returns the chunks pushed."""
    sound = block_sound(case.config, case.encoders.codec)
    for chunk in range(1, chunks + 1):
        push_turn(stream, sound, chunk)
        at(chunk)
        if time.perf_counter() > case.deadline:
            return chunk
    return chunks


def stream_part(case: Case) -> dict[str, Any]:
    """Time streams from their first block, and one that lasts; `fps` is of a saturated stream."""
    model, fast = network_of(case), FASTEST if case.cuda else FASTEST | {"compile": False}
    began = case.wait()
    stream = generator(case, model, **fast)
    set_up_s, firsts = case.wait() - began, list[float]()
    for _ in range(2 if case.tiny else 10):  # each captured anew, of what was compiled once
        started = generator(case, model, **fast)
        feed(case, started, 2)
        started.rest()
        firsts.append(started.timing.report()["first_chunk_s"])
        del started
    chunks = feed(case, stream, 12 if case.tiny else 300)
    stream.rest()
    first = torch.tensor(firsts)
    return {
        **stream.timing.report(), "chunks": chunks, "set_up_s": set_up_s, "settings": fast,
        "first_chunk_p50_s": float(first.quantile(0.5)), "first_chunk_p99_s": float(first.quantile(0.99)),
        "memory_gb": case.peak_gb(), "cache_gb": stream.rollout.cache.n_bytes / 1e9,
    }  # fmt: skip


def memory_part(case: Case) -> dict[str, Any]:
    """See that a stream of 1,000 chunks holds at its end what it held at its tenth."""
    stream = generator(case, network_of(case), **FASTEST if case.cuda else FASTEST | {"compile": False})
    last, held = (30 if case.tiny else 1000), dict[int, dict[str, float]]()

    def look(chunk: int) -> None:
        if chunk in (10, last):
            stream.rest()
            case.wait()
            held[chunk] = {"cache": stream.rollout.cache.n_bytes}
            if case.cuda:
                held[chunk] |= {"allocated": torch.cuda.memory_allocated(), "peak": torch.cuda.max_memory_allocated()}

    chunks = feed(case, stream, last, look)
    found = {f"chunk_{n}": values for n, values in held.items()}
    equal = held[10] == held[last] if last in held else None
    return {"bytes": found, "chunks": chunks, "equal": equal, **stream.timing.report()}


# ---- kernels


def attention_part(case: Case) -> dict[str, Any]:
    """Compare flex with sdpa in teacher forcing, forward and backward."""
    m, s, (F, H, W) = case.config.model, case.config.stream, case.size
    head, h, w = m.width // m.heads, H // m.patch, W // m.patch
    dtype = torch.bfloat16 if case.cuda else torch.float32
    space = Space.make(h, w, head, m.theta, m.ref_gap, case.config.data.max_refs, F, case.device)
    shapes = [(2, m.heads, F * h * w, head)] * 3 + [(1, m.heads, case.config.data.max_refs * h * w, head)] * 2
    given = [torch.randn(shape, device=case.device, dtype=dtype) for shape in shapes]
    out: dict[str, Any] = {"tokens": F * h * w, "window": s.window, "clip": F}
    results = dict[str, Tensor]()
    for name, attend in (("sdpa", attend_forced), ("flex", attend_forced_flex)):
        try:

            def forward(attend: Any = attend) -> Tensor:
                q, k, v, rk, rv = given
                result: Tensor = attend(q, KV(k, v), KV(rk, rv), space, s)
                return result

            with torch.no_grad():
                results[name] = forward()
                out[name] = {"forward_s": case.timed(forward)}
            for x in given:
                x.requires_grad_(case.cuda or name == "sdpa")

            def both() -> None:
                forward().float().square().mean().backward()  # type: ignore[no-untyped-call]

            if case.cuda or name == "sdpa":
                out[name]["forward_and_backward_s"] = case.timed(both)
            else:
                out[name]["forward_and_backward_s"] = "not measured: PyTorch has no backward for it on CPU"
        except Exception as e:  # one that does not run must not hide the other
            out[name] = {"error": f"{type(e).__name__}: {e}"}
        for x in given:
            x.requires_grad_(False)
            x.grad = None
    if len(results) == 2:
        out["largest_difference"] = float((results["sdpa"].float() - results["flex"].float()).abs().max())
    return out


def fp8(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """Return x weight^T in fp8 with a scale for each row and column, inputs cast in the call as a layer would."""
    most = torch.finfo(torch.float8_e4m3fn).max
    scale_w = (weight.abs().amax(1, keepdim=True).float() / most).T
    weight_8 = (weight / scale_w.T).to(torch.float8_e4m3fn).T

    def run() -> Tensor:
        scale_x = x.abs().amax(1, keepdim=True).float() / most
        x_8 = (x / scale_x).to(torch.float8_e4m3fn)
        return torch._scaled_mm(x_8, weight_8, scale_a=scale_x, scale_b=scale_w, out_dtype=torch.bfloat16)

    return torch.compile(run, dynamic=False) if x.is_cuda else run


def matmul_part(case: Case) -> dict[str, Any]:
    """Compare bf16 products of a block's layers with fp8 ones, the cast of the inputs included."""
    m, s, (_, H, W) = case.config.model, case.config.stream, case.size
    L, D, hidden = s.block * H * W // m.patch**2, m.width, round(m.width * m.mlp_ratio)
    out = dict[str, Any]()
    for name, (inputs, outputs) in {"qkv": (D, 3 * D), "out": (D, D), "up": (D, hidden), "down": (hidden, D)}.items():
        x = torch.randn(L, inputs, device=case.device, dtype=torch.bfloat16)
        weight = torch.randn(outputs, inputs, device=case.device, dtype=torch.bfloat16)
        plain = functools.partial(fn.linear, x, weight)
        out[name] = {"shape": [L, inputs, outputs], "bf16_s": case.timed(plain)}
        try:
            narrow = fp8(x, weight)
            error = (narrow().float() - plain().float()).square().mean().sqrt() / plain().float().square().mean().sqrt()
            out[name] |= {"fp8_s": case.timed(narrow), "fp8_relative_error": float(error)}
            out[name]["fp8_pays"] = out[name]["fp8_s"] < out[name]["bf16_s"]
        except Exception as e:  # needs a GPU from Ada on
            out[name]["fp8_error"] = f"{type(e).__name__}: {e}"
    return out


def cache_part(case: Case) -> dict[str, Any]:
    """Compare ways to compute a block, with a full window: growing or fixed cache, compiled or not, decoded when."""
    ways = {
        "eager, fp32": {"cache": "eager"}, "static, fp32": {"cache": "static"},
        "eager, bf16": {"cache": "eager", "bf16": True}, "static, bf16": {"cache": "static", "bf16": True},
        "static, bf16, beside": {"cache": "static", "bf16": True, "decode": "beside"},
        "static, bf16, compiled": {"cache": "static", "bf16": True, "compile": True},
        "static, bf16, compiled, beside": FASTEST,
    }  # fmt: skip
    out = dict[str, Any]()
    for name, settings in ways.items():
        if settings.get("compile") and not case.cuda:
            out[name] = "not measured: needs CUDA"
            continue
        if time.perf_counter() > case.deadline:
            out[name] = "not measured: the time of this part was up"
            continue
        try:
            began, model = case.wait(), network_of(case)
            stream = generator(case, model, **settings)
            set_up_s, full = case.wait() - began, case.config.stream.window // case.config.stream.block + 2
            feed(case, stream, full)
            stream.rest()
            stream.timing.blocks, stream.timing.frames = 0, 0
            stream.timing.block_s, stream.timing.taken_s = [], []
            feed(case, stream, 4 if case.tiny else 30)
            stream.rest()
            out[name] = {**stream.timing.report(), "set_up_s": set_up_s, "memory_gb": case.peak_gb()}
            del stream, model
        except Exception as e:  # one way that does not run must not hide the others
            out[name] = {"error": f"{type(e).__name__}: {e}"}
        if case.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    _, H, W = case.size
    counted = network(case.config, H, W, 64, case.config.data.max_refs)
    out["network_tflop_a_block"] = sum(work.flops for work in counted.values()) / 1e12
    return out


PARTS: dict[str, tuple[Callable[[Case], dict[str, Any]], str]] = {
    "pretrain": (lambda c: train_part(c, "pretrain"), "MFU of pretraining steps"),
    "causal": (lambda c: train_part(c, "causal"), "MFU of teacher-forced steps"),
    "distill": (lambda c: train_part(c, "distill"), "MFU of distillation: a student's update and its critic's"),
    "stream": (stream_part, "pictures a second, latency of a block and of the first chunk"),
    "memory": (memory_part, "memory at chunk 10 and at chunk 1,000"),
    "attention": (attention_part, "flex against sdpa, forward and backward"),
    "matmul": (matmul_part, "bf16 against fp8 products"),
    "cache": (cache_part, "static against eager cache, compiled against not, decoding beside against after"),
}


def run_part(name: str, preset: str, tiny: bool, device: str, limit_s: float, out: Path) -> bool:
    """Run a part and write its file; returns whether it worked."""
    began, found = time.perf_counter(), dict[str, Any]()
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") and torch.cuda.is_available() else None
    head = {
        **record.accelerator(gpu), "torch": torch.__version__, "cuda": torch.version.cuda, "part": name,
        "preset": "tiny" if tiny else preset, "time": datetime.datetime.now().isoformat(timespec="seconds"),
    }  # fmt: skip
    try:
        torch.manual_seed(0)
        case = make_case(preset, tiny, device, limit_s)
        found = {"notes": list(case.notes), "found": PARTS[name][0](case)}
    except Exception as e:  # it is written down, and the other parts go on
        found = {"error": f"{type(e).__name__}: {e}", "where": traceback.format_exc()}
    result = {**head, **found, "part_s": time.perf_counter() - began}
    out.mkdir(parents=True, exist_ok=True)
    record.write(out / f"h200-{head['date']}-{name}.json", result)
    print(f"{name}: {result.get('error') or 'measured'} ({result['part_s']:.0f} s)", flush=True)
    return "error" not in result


def main() -> int:
    parser = record.parser(__doc__)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--part", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--out", type=Path, default=Path("build/h200"))
    parser.add_argument("--preset", default="h200_1b3", choices=sorted(PRESETS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--limit-s", type=float, default=480.0, help="no new measurement begins after so long")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:10s} {what}" for name, (_, what) in PARTS.items()))
        return 0
    if args.part != "all":
        return 0 if run_part(args.part, args.preset, args.tiny, args.device, args.limit_s, args.out) else 1
    failed = 0
    for name in PARTS:
        given = ["--part", name, "--out", str(args.out), "--preset", args.preset, "--device", args.device,
                 "--limit-s", str(args.limit_s)]  # fmt: skip
        done = subprocess.run([sys.executable, __file__, *given, *["--tiny"] * args.tiny], check=False)
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
