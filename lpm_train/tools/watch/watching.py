"""Generate the same held-out clips at each evaluation, beside the data and with sound, and write the run's page anew.

The clips are chosen once, by a rule that knows the run's seed and their names alone; the noise they are generated from
is fixed as well, so that two videos of a clip differ by the weights alone. Videos lie in `watch/` by step and clip, the
page `index.html` above them. Costs the generation of `watch.clips` clips every `watch.every` evaluations.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain, groupby, zip_longest
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor

from lpm_train.batch import STATES, Batch, sample_seed
from lpm_train.config import Config, Data
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.order import Bucket, Draw
from lpm_train.storage import DataError
from lpm_train.tools.clips import clip_of, decoded
from lpm_train.tools.judge.faces import I8
from lpm_train.tools.media import write_mp4
from lpm_train.tools.provenance import tags, xmp_box
from lpm_train.tools.watch.composing import mixed, side_by_side
from lpm_train.tools.watch.page import page, thumbnail
from lpm_train.training.parallel import Ranks
from lpm_train.training.stage import Stage
from schemas.files.places import replacing
from schemas.samples.sample import FPS

FOLDER = "watch"
PAGE = "index.html"
_CLIPS = "clips.json"
_VIDEO = re.compile(r"step_(\d{8})-([A-Za-z0-9_.-]+)\.mp4")


@dataclass(frozen=True)
class Shown:
    """What drives a clip, for people."""

    sample_id: str
    told: list[tuple[str, float, float]]  # (text, start_s, end_s) of what the model is told
    runs: list[tuple[str, float, float]]  # (state, start_s, end_s), on the clip's own clock
    seconds: float
    size: tuple[int, int]  # width and height that the model sees
    references: list[tuple[str, str]]  # kind and data URI of the pictures of the person that the model is given
    split: str


def choose(samples: Mapping[str, tuple[Bucket, str]], n: int, seed: int) -> list[Draw]:
    """Choose n clips (or all, where there are fewer), states by turns, in each state by a hash of seed and name.

    Their windows and references are those of a clip's first draw in training.
    """
    first: dict[
        str, list[tuple[int, str]]
    ] = {}  # of each state a heap of the n least hashes, negated: the largest first
    for sample_id, (_, state) in samples.items():
        hashed, heap = (-sample_seed("watch", seed, sample_id), sample_id), first.setdefault(state, [])
        if len(heap) < n:
            heapq.heappush(heap, hashed)
        elif heap:
            heapq.heappushpop(heap, hashed)
    turns = chain.from_iterable(zip_longest(*(sorted(first[s], reverse=True) for s in sorted(first, reverse=True))))
    return [Draw(i, 0, samples[i][0]) for _, i in [found for found in turns if found is not None][:n]]


def name_of(sample_id: str) -> str:
    """Return a sample's name in file names: its id where that is plain, else a hash of it."""
    plain = re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", sample_id)
    return sample_id if plain else hashlib.sha256(sample_id.encode()).hexdigest()[:16]


def runs_of(state_T: I8) -> list[tuple[str, float, float]]:
    """Return (state, start_s, end_s) of a clip's runs of one state."""
    runs, at = [], 0
    for state, group in groupby(state_T.tolist()):
        length = len(list(group))
        runs.append((STATES[state], at / FPS, (at + length) / FPS))
        at += length
    return runs


def videos(out: Path) -> list[tuple[int, str, Path]]:
    """List the videos of a run: (step, clip's name, file), by step."""
    found = ((_VIDEO.fullmatch(f.name), f) for f in sorted((out / FOLDER).glob("step_*.mp4")))
    return [(int(m[1]), m[2], f) for m, f in found if m]


class Watch:
    """Shows a run while it trains. All ranks make it and call it alike, since they generate together; the first writes.

    What it cannot write is said and does not end the run.
    """

    def __init__(self, config: Config, encoders: Encoders, data: Data, split: str, out: Path, where: Ranks) -> None:
        """Choose the clips.

        Args:
            config: of the run.
            encoders: those that the model is trained with.
            data: where clips are chosen from.
            split: what to call it.
            out: the run's directory.
            where: this rank.
        """
        self.config, self.out, self.where, self.split = config, out, where, split
        self.loader = Loader(data, encoders, seed=config.run.seed)
        by_bucket: dict[Bucket, list[Draw]] = {}
        for draw in choose(self.loader.order.samples, config.watch.clips, config.run.seed):
            by_bucket.setdefault(draw.bucket, []).append(draw)
        # Made once: a rank that could not read a clip later on would leave the others waiting for it.
        self.batches = [(draws, Batch.cat([self.loader.maker(d) for d in draws])) for draws in by_bucket.values()]

    def begin(self, step: int) -> None:
        """Take over a run that stands at `step`: what was shown of later steps will be shown again."""
        if not self.where.first:
            return
        for at, _, file in videos(self.out):
            if at > step or not step:
                file.unlink()
        for file in (self.out / FOLDER).glob(".tmp-*" if step else "[.c]*"):  # of a killed run; at 0 clips.json, too
            file.unlink()

    def look(self, stage: Stage, step: int, ended: bool = False) -> None:
        """Generate the clips with the averaged weights where it is their turn, and write the page anew."""
        due = ended or step % (self.config.run.eval_every * self.config.watch.every) == 0
        # All of them before the first is written: ranks that do not write must not wait for one that cannot.
        latents = [stage.generate(batch, "watch").float() for _, batch in self.batches] if due else []
        if not self.where.first:
            return
        try:
            for (draws, _), made in zip(self.batches, latents, strict=False):
                for row, draw in enumerate(draws):
                    self._film(draw, step, made[row])
            there = [(s, n, f"{FOLDER}/{f.name}") for s, n, f in videos(self.out)]
            with replacing(self.out / PAGE) as file:
                file.write(page(self.config, self.out, self._clips(), there, step).encode())
        except (OSError, DataError, av.FFmpegError) as e:
            print(f"what the run looks like could not be shown at step {step}: {e}", flush=True)

    @torch.no_grad()
    def _film(self, draw: Draw, step: int, latents_FCHW: Tensor) -> None:
        """Write the video of one clip, and what drives it."""
        clip, (frames, height, width) = clip_of(self.loader, draw), draw.bucket
        name, mark = name_of(draw.sample_id), f"{self.out.name}/step_{step:08d}"
        pictures = decoded(self.loader.encoders.codec, latents_FCHW, self.config.stream.block)
        both = side_by_side(iter(clip.frames), pictures, ("data", f"model, step {step}"))
        with replacing(self.out / FOLDER / f"step_{step:08d}-{name}.mp4") as file:
            write_mp4(file, both, mixed(clip.speech_N, clip.heard_N), crf=18, tags=tags(mark))
            file.seek(0, 2)
            file.write(xmp_box(mark))
        shown = Shown(
            sample_id=draw.sample_id, told=[(text, a / FPS, b / FPS) for text, a, b in clip.told],
            runs=runs_of(clip.state_T), seconds=frames / FPS, size=(width, height),
            references=[(kind, thumbnail(picture)) for kind, picture in clip.given], split=self.split,
        )  # fmt: skip
        with replacing(self.out / FOLDER / _CLIPS) as file:
            file.write(json.dumps(self._clips() | {name: asdict(shown)}, indent=1).encode())

    def _clips(self) -> dict[str, dict[str, Any]]:
        """Return what drove each clip that this run has shown, by its name."""
        path = self.out / FOLDER / _CLIPS
        found = dict(json.loads(path.read_text())) if path.exists() else {}
        return {name: said for name, said in found.items() if said.keys() == Shown.__dataclass_fields__.keys()}

    def close(self) -> None:
        """Let go of the data."""
        self.loader.close()


def watch(config: Config, encoders: Encoders, data: Data, split: str, out: Path, where: Ranks) -> Watch | None:
    """Open what shows a run; None where `watch.every` or `watch.clips` is 0."""
    if not config.watch.every or not config.watch.clips:
        return None
    return Watch(config, encoders, data, split, out, where)
