"""The trainer's loader beside plain webdataset on the same shards: reading, resuming, and the whole path to a batch.

    python benchmarks/loader.py [--samples N] [--rounds N] [--json FILE]

Datasets are written to a temporary directory. The first has members of the sizes that packed 512 x 512 clips have
(random bytes, about 0.7 MB a sample; there copying from the page cache is nearly all of the loader's time), the second
a tenth of that, as small clips or latents have. Both readers deliver every member's bytes of every sample, in one
thread of one process, from the page cache: webdataset with its usual approximate shuffle (shards, then a buffer), the
loader with a true permutation of all samples. The last dataset holds small clips that decode: there webdataset's
samples go through the very functions the loader decodes and encodes with. Rounds are interleaved and medians given,
and CPU seconds beside the wall's, since machines are shared.
"""

from __future__ import annotations

import datetime
import io
import os
import platform
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import record
import torch
import webdataset

from lpm_train.config import Data
from lpm_train.data.clip import read_image, read_record, read_sound, read_video, to_unit
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.order import Order
from lpm_train.data.shards import Shards
from lpm_train.encoders.audio import LogMel
from lpm_train.encoders.codec import PatchCodec, encode_images
from lpm_train.encoders.text import HashedWords
from lpm_train.proof.synthetic_shards import write_dataset
from lpm_train.tools.precompute import precompute
from schemas.samples.members import pictures
from schemas.tables.performance import CaptionRow

RESULT = Path(__file__).resolve().parent / "results" / "loader.json"
SIZES = {
    "mp4": 550_000, "speak.flac": 60_000, "listen.flac": 2_000, "json": 8_000, "ref.jpg": 20_000, "refs.tar": 60_000,
}  # fmt: skip
BUCKET = (32, 32, 32)


def write_bytes(root: Path, samples: int, scale: float = 1.0, per_shard: int = 64) -> int:
    """Write shards of random members of `scale` times real sizes, and a manifest; return the bytes of all members."""
    (root / "shards").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for first in range(0, samples, per_shard):
        shard = f"train-{first // per_shard:06d}.tar"
        with tarfile.open(root / "shards" / shard, "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(first, min(samples, first + per_shard)):
                key, members = f"clip{i:06d}", []
                for suffix, size in SIZES.items():
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = int(size * scale * rng.uniform(0.8, 1.2))
                    tar.addfile(info, io.BytesIO(rng.bytes(info.size)))
                    offset = tar.offset - -(-info.size // 512) * 512
                    members.append({"name": info.name, "offset": offset, "size": info.size})
                rows.append({
                    "segment_id": key, "identity_id": "p", "state": "speak", "caption": "", "width": 512, "height": 512,
                    "n_frames": 100, "n_audio_samples": 192_000, "shard": shard, "members": members,
                })  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    return sum(m["size"] for r in rows for m in r["members"])


def urls(root: Path) -> list[str]:
    return sorted(map(str, (root / "shards").glob("*.tar")))


def web(root: Path, epoch: int, buffer: int = 1000) -> Any:
    """Open plain webdataset with its usual shuffle."""
    shards = urls(root)
    return webdataset.WebDataset(shards, shardshuffle=len(shards), seed=epoch).shuffle(buffer)


def ours(root: Path, epoch: int) -> Iterator[dict[str, bytes]]:
    """Read every member of every sample in a true permutation, as the loader does."""
    shards = Shards(root)
    order = Order({i: ((100, 512, 512), "speak") for i in shards.ids}, 1)
    for cursor in range(len(order.schedule(epoch))):
        row = shards[order.batch(epoch, cursor)[0].sample_id]
        yield shards.read(row, row.members)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return (wall, CPU) seconds; all that is timed here but the loader's decoding runs in one thread."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def consume(items: Any) -> int:
    """Touch every member's length; return the bytes."""
    return sum(len(v) for sample in items for v in sample.values() if isinstance(v, bytes))


def medians(work: dict[str, Callable[[int], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return each work's median (wall, CPU) seconds over interleaved rounds; the first round is not counted."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for i in range(rounds + 1):
        for name, run in work.items():
            took = timed(lambda run=run, i=i: run(i))
            if i:
                seconds[name].append(took)
    return {
        name: (statistics.median(w for w, _ in s), statistics.median(c for _, c in s)) for name, s in seconds.items()
    }


def ratio(slow: tuple[float, float], fast: tuple[float, float]) -> dict[str, float]:
    return {"wall": round(slow[0] / fast[0], 2), "cpu": round(slow[1] / fast[1], 2)}


def reading(root: Path, samples: int, rounds: int, scale: float) -> dict[str, Any]:
    size = write_bytes(root, samples, scale)
    assert consume(web(root, 0)) == consume(ours(root, 0)) == size, "both must deliver every byte"
    seconds = medians(
        {
            "webdataset_shuffled": lambda i: consume(web(root, i)),
            "webdataset_in_order": lambda i: consume(webdataset.WebDataset(urls(root), shardshuffle=False)),
            "loader_global_shuffle": lambda i: consume(ours(root, i)),
        },
        rounds,
    )
    rates = {
        name: {
            "samples_s": round(samples / wall, 1),
            "mb_s": round(size / 1e6 / wall, 1),
            "cpu_ms_a_sample": round(cpu / samples * 1e3, 3),
        }
        for name, (wall, cpu) in seconds.items()
    }
    half = samples // 2

    def resume(i: int) -> dict[str, bytes]:
        shards = Shards(root)
        order = Order({s: ((100, 512, 512), "speak") for s in shards.ids}, 1)
        row = shards[order.batch(i, half)[0].sample_id]
        return shards.read(row, row.members)

    back = medians(
        {"webdataset_replay": lambda i: next(islice(iter(web(root, i)), half, None)), "loader": resume}, rounds
    )
    return {
        "samples": samples,
        "mean_sample_kb": round(size / samples / 1e3, 1),
        **rates,
        "ratio_to_webdataset_shuffled": ratio(seconds["webdataset_shuffled"], seconds["loader_global_shuffle"]),
        "ratio_to_webdataset_in_order": ratio(seconds["webdataset_in_order"], seconds["loader_global_shuffle"]),
        "resume_in_mid_epoch_ms": {name: round(wall * 1e3, 2) for name, (wall, _) in back.items()},
    }


def decode_like_the_loader(sample: dict[str, Any], encoders: Encoders) -> None:
    """Turn a webdataset sample into what the loader makes of it, by the same functions."""
    record = read_record(sample["json"], sample["__key__"])
    encoders.codec.encode(to_unit(read_video(sample["mp4"], BUCKET[1:], 0, BUCKET[0]))[None])
    for name in ("speak.flac", "listen.flac"):
        encoders.audio(read_sound(sample[name], record.video.n_frames), 48_000)
    encoders.text([record.performance[CaptionRow.caption]])
    for one in pictures(sample, [r.member for r in record.references[:4]]).values():
        encode_images(encoders.codec, to_unit(read_image(one, BUCKET[1:]))[None])


def whole_path(root: Path, rounds: int) -> dict[str, Any]:
    encoders = Encoders(PatchCodec((4, 8, 8)), LogMel(2, 80), HashedWords())
    write_dataset(root, identities=24, held_out=0, clips=4, n_frames=64, samples_per_shard=24)
    samples = 96
    precompute(root, "bench", encoders, [BUCKET], workers=1)

    def through_webdataset(i: int) -> None:
        for sample in web(root, i):
            decode_like_the_loader(sample, encoders)

    def through_loader(precomputed: str, workers: int) -> Callable[[int], object]:
        frames, height, width = BUCKET
        data = Data(
            root=str(root), frames=frames, height=height, width=width, batch=8, max_refs=4, workers=workers,
            precomputed=precomputed,
        )  # fmt: skip
        loaders = Loader(data, encoders)
        return lambda i: [next(loaders) for _ in range(samples // 8)]

    seconds = medians(
        {
            "webdataset_decoding": through_webdataset,
            "loader_decoding_1_thread": through_loader("", 1),
            "loader_precomputed_1_thread": through_loader("bench", 1),
        },
        rounds,
    )
    return {
        "clip": "64 frames of 32 x 32 pixels, windows of 32 frames",
        **{
            name: {"samples_s": round(samples / wall, 1), "cpu_ms_a_sample": round(cpu / samples * 1e3, 3)}
            for name, (wall, cpu) in seconds.items()
        },
        "ratio_precomputed_to_webdataset": ratio(
            seconds["webdataset_decoding"], seconds["loader_precomputed_1_thread"]
        ),
    }


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    model = next(
        (x.split(":")[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")), ""
    ) if info.exists() else platform.processor()  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "webdataset": webdataset.__version__,
    }


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its files to the collector
    with tempfile.TemporaryDirectory(prefix="lpm-loader-") as folder:
        result = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "reading": reading(Path(folder) / "large", args.samples, args.rounds, 1.0),
            "reading_small": reading(Path(folder) / "small", args.samples, args.rounds, 0.1),
            "whole_path": whole_path(Path(folder) / "clips", args.rounds),
        }
    record.write(args.json, result)
    print(record.as_json(result), end="")


if __name__ == "__main__":
    main()
