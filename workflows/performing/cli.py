"""`lpm perform` on the command line; what it does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lpm_train.cli import told
from lpm_train.tools import cli as trainer


@told
def perform(
    recording: Annotated[Path, typer.Argument(help="two people who talk: a sound or a video file, of any length")],
    checkpoint: trainer.Checkpoint,
    image_a: Annotated[Path, typer.Option(help="picture for a, the first to speak (or channel 1)")],
    image_b: Annotated[Path, typer.Option(help="picture for b")],
    out_: Annotated[Path, typer.Option("--out", help="folder for a.mp4, b.mp4, both.mp4, performance.json, voices.*")],
    text_a: Annotated[str, typer.Option(help="what a does")] = "",
    text_b: Annotated[str, typer.Option(help="what b does")] = "",
    ref_a: Annotated[
        list[str] | None, typer.Option(help="more pictures of a: PATH, view:PATH or expression:PATH")
    ] = None,
    ref_b: Annotated[list[str] | None, typer.Option(help="more pictures of b")] = None,
    voices: Annotated[
        Path | None, typer.Option(help="who speaks when, instead of hearing it: RTTM, or voices.json")
    ] = None,
    speakers: Annotated[
        str | None, typer.Option(metavar="X,Y", help="which voices are a and b; X+Z,Y takes two for one person")
    ] = None,
    channels: Annotated[
        bool | None,
        typer.Option("--channels/--mixed", help="each of two channels is one person's, or a mixture; default: look"),
    ] = None,
    start: Annotated[float, typer.Option(min=0, help="seconds of the recording to begin at")] = 0.0,
    end: Annotated[float | None, typer.Option(help="seconds of the recording to end at")] = None,
    both: Annotated[bool, typer.Option(help="also both.mp4, side by side")] = True,
    diarizer: Annotated[
        str | None, typer.Option(help="clustering, pyannote or '{use: ...}', as of stage speech")
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="take overlaps apart: '{use: conv_tasnet, model: FILE}', as of stage packing")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="section.field=value, e.g. stream.steps=2")
    ] = None,
    seed: Annotated[int, typer.Option(help="of a; b has the next one")] = 0,
    device: trainer.Device = "cpu",
) -> int:
    """Let two characters perform a recorded conversation: each speaks its part and listens to the other's, in turn."""
    from lpm_train.tools.perform import Character
    from workflows.performing import command
    from workflows.performing.asked import Asked

    a, b = Character(image_a, ref_a or [], text_a, seed), Character(image_b, ref_b or [], text_b, seed + 1)
    asked = Asked(
        recording, checkpoint, out_, [a, b], voices, speakers, channels, start, end, both, diarizer, separator,
        settings or [], device,
    )  # fmt: skip
    command.run(Console(soft_wrap=True), Console(stderr=True, soft_wrap=True), asked)
    return 0
