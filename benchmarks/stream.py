"""What a stream costs: frames a second, first chunk, time of a block, and memory at chunk 10 and chunk 1,000.

    python benchmarks/stream.py [CHECKPOINT] [--preset toy|small|h200_1b3] [--chunks 1000] [--json FILE]

Without a checkpoint the weights are random: cost does not depend on them. Decoding is included; the codec is the
preset's where it needs no download, else latents are left undecoded and the result says so.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch
from stream_load import block_sound, push_turn

from lpm_train import parts
from lpm_train.config import Config
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import PatchCodec
from lpm_train.network.model import DiT
from lpm_train.presets import PRESETS
from lpm_train.proof.toy import toy_config
from lpm_train.session import make_encoders
from lpm_train.streaming.stream import StreamGenerator
from lpm_train.training.checkpoint import load_weights


def rss_mb() -> float:
    """Resident memory now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(model: DiT, config: Config, encoders: Encoders, chunks: int, device: str) -> dict[str, Any]:
    from lpm_train.batch import Conditions

    m, d = config.model, config.data
    _, h, w = encoders.codec.stride
    yes, no = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool)
    references = Conditions(
        speak_BTA=torch.zeros(1, m.audio_steps, m.audio_width), listen_BTA=torch.zeros(1, m.audio_steps, m.audio_width),
        speak_on_BF=no, listen_on_BF=no, text_BLD=torch.zeros(1, 1, m.text_width), text_mask_BL=no,
        ref_BKCHW=torch.randn(1, d.max_refs, m.channels, d.height // h, d.width // w),
        ref_mask_BK=yes.expand(1, d.max_refs), ref_kind_BK=torch.zeros(1, d.max_refs, dtype=torch.long),
    )  # fmt: skip
    generator = StreamGenerator(model, config, encoders.codec, encoders.audio, encoders.text, references, device=device)
    memory, cache = {}, {}
    sound = block_sound(config, encoders.codec)
    for i in range(1, chunks + 1):
        push_turn(generator, sound, i)
        if i in (10, chunks):
            name = "chunk_10" if i == 10 else "last_chunk"
            memory[name] = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else rss_mb()
            cache[name] = generator.rollout.cache.n_bytes / 1e6
    report = generator.timing.report()
    return {**report, "chunks": chunks, "memory_mb": memory, "cache_mb": cache, "steps": config.stream.steps}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if args.checkpoint is not None:
        config, weights = load_weights(args.checkpoint)
    else:
        config, weights = (toy_config("distill") if args.preset == "toy" else PRESETS[args.preset]()), None
    note = ""
    try:
        encoders = make_encoders(config.data, device)
    except Exception as e:  # a codec that is not here must not keep the model from being timed
        note = f"codec {config.data.codec} is not here ({type(e).__name__}): timed with a patch codec of equal latents"
        stride = (4, 4, 4) if config.model.channels == 12 else (4, 8, 8)
        codec = PatchCodec(stride)
        codec.channels = config.model.channels
        codec.decode = lambda z, state=None: (z.new_zeros(1, z.shape[1] * stride[0], 3, 1, 1), None)  # type: ignore[method-assign]
        encoders = make_encoders(replace(config.data, codec=parts.codec(), text=parts.text(width=32, length=6)), device)
        encoders = Encoders(codec, encoders.audio, encoders.text, device)
    model = DiT(config.model).to(device)
    if weights is not None:
        model.load_state_dict(weights)
    result = {
        **record.accelerator(torch.cuda.get_device_name() if device == "cuda" else None),
        "parameters": sum(p.numel() for p in model.parameters()),
        "note": note,
        **measure(model, config, encoders, args.chunks, device),
    }
    print(record.as_json(result), end="")
    record.write(args.json, result)


if __name__ == "__main__":
    main()
