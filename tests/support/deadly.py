"""A stage of sources that ends or fills its process, hangs or raises, as the source's file says; and its workflow."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from toy import WORKFLOW, ToyIdentity, ToyScan, ToySettings, filled

from curation.plan.survey import Header
from curation.stage import Outputs, WorkItem
from schemas import tables as t
from schemas.settings.workflow import Resources, StageSpec

RAISED: dict[str, Exception] = {
    "MemoryError": MemoryError(),
    "ImportError": ImportError("no module named 'missing_model'"),
    "TypeError": TypeError("unexpected keyword argument 'color'"),
    "ENOSPC": OSError(errno.ENOSPC, "No space left on device"),
    "EIO": OSError(errno.EIO, "Input/output error"),
    "ECONNRESET": ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
}


BURNT_S = 0.3
EATEN_GB = 1


def die(how: str) -> None:
    """End, fill or hold this process, or raise."""
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "eat":
        kept = []
        for _ in range(64):
            kept.append(bytearray(os.urandom(1)) * (64 << 20))
            time.sleep(0.05)
    elif how == "let eat":  # ended with this process
        subprocess.run(
            [sys.executable, "-c", f"import time\nkept = b'x' * ({EATEN_GB} << 30)\ntime.sleep(600)"], check=True
        )
    elif how == "hang":
        time.sleep(600)
    elif how == "burn":  # and go on
        subprocess.run([sys.executable, "-c", f"import time\nwhile time.process_time() < {BURNT_S}: pass"], check=True)
    elif how == "spin":
        subprocess.run([sys.executable, "-c", "while True: pass"], check=True)
    elif how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    elif how == "run":
        os.kill(int(os.environ["OPENLPM_TOY_RUN"]), signal.SIGKILL)
        time.sleep(600)
    elif how == "supervisor":  # the command, or a worker of Ray's
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    else:
        raise RAISED[how]


ENDS = ("segfault", "eat", "hang")


def header(path: str, size: int) -> Header:
    """Read a header of 2 s, unless the file's name says how it ends its reader."""
    if Path(path).stem in ENDS:
        die(Path(path).stem)
    return Header(2.0, 0.0)


def frame(file: Path, at_s: float, max_side: int) -> tuple[bytes, tuple[int, int]]:
    """End the process that looks for a frame; the file beside `file` counts how often that was asked."""
    with file.with_suffix(".asked").open("a", encoding="utf-8") as asked:
        asked.write("x")
    die("segfault")
    raise AssertionError


def clip(video: bytes, sounds: object) -> None:
    """End the process that decodes a packed clip."""
    die("segfault")


class Deadly(ToyScan):
    """Measures cuts, unless its file says how it is to end: {"die": "segfault"}, each time or the first `times`."""

    name = "deadly"
    grain = "source"

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        spec = self.spec(inputs)
        if "die" in spec and attempted(Path(f"{inputs.media}.tries")) <= spec.get("times", 1000):
            die(spec["die"])
        return Outputs({t.CUTS: t.CUTS.from_rows([filled(t.CUTS, source_id=item.source_id)])})


class DeadlyPeopleSettings(ToySettings):
    tries: str
    """a file that counts the attempts"""
    die: str
    times: int = 1000


class DeadlyPeople(ToyIdentity):
    """A stage over the whole dataset that ends as its settings say, each time or the first `times`."""

    Settings = DeadlyPeopleSettings
    settings: DeadlyPeopleSettings

    def run(self, item: WorkItem, inputs: Any) -> Outputs:
        if attempted(Path(self.settings.tries)) <= self.settings.times:
            die(self.settings.die)
        return super().run(item, inputs)


def attempted(file: Path) -> int:
    """Count one more attempt in a file, and return how many there were."""
    with file.open("a") as f:
        f.write("x")
    return file.stat().st_size


def tries(folder: Path, name: str) -> int:
    """Return how often a source of a folder was attempted."""
    file = folder / f"{name}.mp4.tries"
    return file.stat().st_size if file.exists() else 0


def workflow(**resources: Any) -> Any:
    """Return the toy workflow with the deadly stage in place of the scan."""
    specs = {n: s for n, s in WORKFLOW.stages.items() if n != "toy_scan"}
    deadly = StageSpec(use="deadly:Deadly", resources=Resources(**resources))
    stages = {"toy_probe": specs.pop("toy_probe"), "deadly": deadly, **specs}
    return WORKFLOW.model_copy(update={"stages": stages})


def with_people(settings: dict[str, Any], **resources: Any) -> Any:
    """Return the toy workflow with the deadly stage over the whole dataset in place of that of identities."""
    spec = StageSpec(use="deadly:DeadlyPeople", settings=settings, resources=Resources(**resources))
    return WORKFLOW.model_copy(update={"stages": {**WORKFLOW.stages, "toy_identity": spec}})


def write(folder: Path, **specs: dict[str, Any]) -> None:
    """Write sources of equal size, so that they are worked on by the hash of their bytes alone."""
    for name, spec in specs.items():
        (folder / f"{name}.mp4").write_text(json.dumps(spec))
