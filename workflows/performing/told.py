"""What is told of a performance: `performance.json`, and the lines that are printed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rich.console import Console

from lpm_train.config import Config
from lpm_train.tools.perform import Performed
from lpm_train.training.checkpoint import find
from schemas.samples.sample import FPS
from workflows.performing.asked import Asked, Source
from workflows.performing.hearing import Heard
from workflows.performing.states import BITS, Codes, figures, states_of
from workflows.performing.voices import OTHERS, PEOPLE


def about(
    asked: Asked, config: Config, source: Source, start_s: float, heard: Heard, heard_T: Codes, done: Performed,
    apart: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return what `performance.json` says."""
    seconds = done.frames / FPS
    people = {
        person: {
            **figures(states_of(heard_T, person)),
            "seed": who.seed,
            "text": who.words,
            "image": who.image.name,
            "timing": {name: round(value, 4) for name, value in timing.items() if not math.isnan(value)},
        }
        for person, who, timing in zip(PEOPLE, asked.characters, done.timing, strict=True)
    }
    overlap = (heard_T & 3) == 3
    return {
        "recording": source.path.name,
        "start_s": start_s,
        "seconds": round(seconds, 2),
        "frames": done.frames,
        "fps": FPS,
        "overlap_s": round(int(overlap.sum()) / FPS, 2),
        "others_s": round(int(np.count_nonzero(heard_T & BITS[OTHERS])) / FPS, 2),
        **({"separated": apart} if apart else {}),
        "people": people,
        "real_time_factor": round(seconds / done.wall_s, 4),
        "wall_s": round(done.wall_s, 3),
        "heard_by": heard.by,
        "notes": heard.notes,
        "model": done.fingerprint,
        "checkpoint": str(find(asked.checkpoint)).rpartition("/")[2],
        "stage": str(config.run.stage),
        "steps": config.stream.steps,
        "device": asked.device,
    }


def report(out: Console, asked: Asked, facts: dict[str, Any]) -> None:
    """Print the facts of `performance.json` that a user looks for first."""
    for person, told in facts["people"].items():
        modes = ", ".join(f"{name} {told[f'{name}_s']:.1f} s" for name in ("speak", "listen", "both", "idle"))
        text = f"{asked.out / person}.mp4: {modes}, {told['mode_changes']} changes"
        out.print(text, markup=False, highlight=False)
    separated = facts.get("separated", {}).get("separated_s", 0.0)
    kept = f"of it {separated:.1f} s taken apart" if separated else "there both hear the mixture"
    if "channels" in facts["heard_by"]:
        kept = "each channel is one person's"
    out.print(
        f"both talk for {facts['overlap_s']:.1f} s ({kept}); {facts['frames']} frames at "
        f"{facts['real_time_factor']:.2f} x real time for both together; model {facts['model']}",
        markup=False, highlight=False,
    )  # fmt: skip
