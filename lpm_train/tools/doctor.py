"""Look at a dataset before a GPU does: does every sample decode, do sound and picture agree, how fast does it load?

One pass reads and decodes all members of all selected samples, on the threads a loader would use, and lists what is
wrong by sample instead of stopping at the first. Then a loader is timed, and one real batch is drawn.
"""

from __future__ import annotations

import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lpm_train.config import Config, ConfigError, Data
from lpm_train.data.chain_loader import survey
from lpm_train.data.clip import read_image, read_record, read_sound, read_video
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.shards import Row, Shards, shapes_of, trained_on
from lpm_train.fitting import clip_latents, misfits, sized
from lpm_train.session import conditions_of, open_chains
from lpm_train.storage import DataError
from lpm_train.tools.contact_sheet import write_contact_sheet
from lpm_train.tools.held_out import look
from lpm_train.tools.worth import judge
from schemas.samples.members import pictures
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME

_A = TypeVar("_A")
_B = TypeVar("_B")


@dataclass
class Report:
    """What the doctor found."""

    samples: int = 0
    frames: int = 0
    hours: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    without_references: int = 0
    only_references_from_inside: int = 0
    problems: dict[str, str] = field(default_factory=dict)  # what is wrong, by sample
    read_mb_s: float = 0.0  # reading all bytes of all samples, one thread, megabytes (10^6) a second
    decode_fps: float = 0.0  # decoding everything on all threads, video frames a second
    loader: dict[str, Any] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        """Whether no sample has a problem."""
        return not self.problems

    def lines(self) -> Iterator[str]:
        """Yield the report for people."""
        yield f"{self.samples} samples, {self.hours:.2f} h, {self.frames} frames; by state {self.states}"
        yield f"read {self.read_mb_s:.0f} MB/s, decode {self.decode_fps:.0f} frames/s (sounds, references too)"
        if self.loader:
            x = self.loader
            yield (
                f"loader {x['samples_s']:.1f} samples/s of {x['samples']} samples ({x['too_short']} too short, "
                f"{x['misfits']} fit no size), "
                f"buckets {x['buckets']}; "
                f"latents {x['batch']}, mean {x['latent_mean']:.2f}, spread {x['latent_std']:.2f}"
            )
        if self.without_references or self.only_references_from_inside:
            yield (
                f"{self.without_references} samples have no reference picture, {self.only_references_from_inside} only "
                "such from inside the clip: identity will be copied there rather than learnt"
            )
        for sample_id, problem in self.problems.items():
            yield f"PROBLEM {sample_id}: {problem}"
        yield "healthy" if self.healthy else f"{len(self.problems)} of {self.samples} samples must not be trained on"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "healthy": self.healthy}


def sized_or_refused(config: Config, encoders: Encoders) -> tuple[Config, str]:
    """Settle sizes as a run does; or leave them, and return why it would refuse them."""
    try:
        return sized(config, encoders, partial(print, flush=True)), ""
    except ConfigError as e:
        return config, str(e)


def of_manifest(config: Config, encoders: Encoders) -> tuple[dict[str, Any], bool]:
    """Print what the manifest alone tells a run; returns it as JSON values, and whether the splits share nothing."""
    data = config.data
    worth = judge(shapes_of(data.root, trained_on(data).where or None), config, encoders.codec.stride)
    held = look(data, data.batch)
    print("\n".join((*worth.lines(), *held.lines())))
    return {"worth": worth.as_dict(), "splits": held.as_dict(), "misfits": list(misfits(data))}, held.clean


def chains(config: Config, data: Data, encoders: Encoders) -> dict[str, Any]:
    """Print how many chains of clips there are for rollouts of a clip and longer; returns their figures."""
    latents = max(clip_latents(config, encoders), config.distill.rollout)
    found, sentence = survey(conditions_of(config, data), encoders, latents, config.distill.gap_s)
    print(sentence)
    return found


def must_run(config: Config, data: Data, encoders: Encoders, refused: str) -> None:
    """Refuse what a run would: sizes, for the reason given, and rollouts that no chain is long enough for.

    Raises:
        ConfigError: sizes are refused.
        DataError: no chain is long enough.
    """
    if config.distill.rollout > clip_latents(config, encoders):
        open_chains(config, data, encoders).close()
    if refused:
        raise ConfigError(refused)


def _check_sample(shards: Shards, row: Row) -> tuple[str | None, int, int]:
    """Decode all of a sample; -> (what is wrong or None, references, references from outside of the clip)."""
    refs: list[bool] = []
    try:
        data = shards.read(row, row.members)
        record = read_record(data["json"], row.segment_id)
        refs = [not r.overlaps_clip for r in record.references]
        counts = len(read_video(data["mp4"], (row.height, row.width))), record.video.n_frames, row.n_frames
        if len(set(counts)) > 1:
            raise DataError("the video has {} frames, its record {}, the manifest {}".format(*counts))
        if row.n_audio_samples != row.n_frames * SAMPLES_PER_FRAME:
            raise DataError(f"{row.n_audio_samples} audio samples for {row.n_frames} frames in the manifest")
        for name in ("speak", "listen"):
            read_sound(data[f"{name}.flac"], row.n_frames)
        for one in pictures(data, [r.member for r in record.references]).values():
            read_image(one, (64, 64))
    except (KeyError, DataError, OSError, tarfile.TarError) as e:
        return f"member {e} is missing" if isinstance(e, KeyError) else str(e), len(refs), sum(refs)
    return None, len(refs), sum(refs)


def examine(
    data: Data, encoders: Encoders, *, sheet: str | Path | None = None, batches: int = 8,
    report: Callable[[int, int], None] | None = None, loaded: Data | None = None,
) -> Report:  # fmt: skip
    """Check all selected samples, time reading, decoding and loading, and draw a batch.

    Args:
        data: as training would use it; `where` selects what is checked.
        encoders: as training would use them.
        sheet: PNG file for the contact sheet.
        batches: steps of the loader that are timed (after one that is not).
        report: called with (samples checked, samples).
        loaded: what a batch is drawn from; None: all.

    Raises:
        DataError: the dataset cannot be opened, or nothing can be loaded from it.
    """
    shards, out = Shards(data.root, data.where or None), Report()
    out.samples, out.frames = len(shards), int(shards.numbers("n_frames").sum(dtype=np.int64))
    out.hours, out.states = out.frames / FPS / 3600, shards.column("state").counts()
    out.read_mb_s = _read_speed(shards)
    start = time.perf_counter()
    with ThreadPoolExecutor(max(1, data.workers)) as pool:
        checks = _ahead(pool, lambda row: (row, _check_sample(shards, row)), shards, 4 * max(1, data.workers))
        for i, (row, (problem, refs, outside)) in enumerate(checks):
            if problem is not None:
                out.problems[row.segment_id] = problem
            out.without_references += not refs
            out.only_references_from_inside += bool(refs and not outside)
            if report is not None:
                report(i + 1, len(shards))
    out.decode_fps = out.frames / (time.perf_counter() - start)
    if not out.problems:
        out.loader = _load(loaded or data, encoders, sheet, batches)
    return out


def _ahead(pool: Executor, function: Callable[[_A], _B], items: Iterable[_A], most: int) -> Iterator[_B]:
    """Map in threads, in order, with no more than so many results or calls waiting: items may be millions."""
    waiting: deque[Future[_B]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read_speed(shards: Shards) -> float:
    start, size = time.perf_counter(), 0
    for row in shards:
        try:
            size += sum(map(len, shards.read(row, row.members).values()))
        except (DataError, OSError):
            continue  # named by the check of that sample
    return size / 1e6 / (time.perf_counter() - start)


def _load(data: Data, encoders: Encoders, sheet: str | Path | None, batches: int) -> dict[str, Any]:
    with Loader(data, encoders) as loader:
        batch = next(loader)
        if sheet is not None:
            captions = [loader.shards[i].caption for i in batch.sample_ids]
            write_contact_sheet(sheet, batch, encoders.codec, captions)
        start = time.perf_counter()
        for _ in range(batches):
            batch = next(loader)
        seconds = time.perf_counter() - start
        return {
            **loader.summary,
            "samples_s": batches * len(batch) / seconds,
            "batch": list(batch.x_BFCHW.shape),
            "latent_mean": float(batch.x_BFCHW.mean()),
            "latent_std": float(batch.x_BFCHW.std()),
        }
