"""A fault at write n of a command on a dataset, for any n: the write fails, the disk is full, the process is killed.

Every action runs in a forked process of its own, on a copy of a dataset of packed toy samples. Python's audit events
(`open` for writing, `os.rename`, `os.remove`) under the dataset's folder are its writes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import packed_toy
from engine_case import GOOD, policy, snapshot
from toy import write_sources

from curation import Dataset
from curation.decisions import account
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, locked, run
from curation.forget.forget import find, forget
from curation.pack.pack import pack
from curation.storage.compaction import tidy
from curation.storage.store import Store
from curation.verify import certify
from workflows.commands.jobs import EXPECTED

Fault = Literal["fails", "full", "killed", "torn"]
FAULTS: tuple[Fault, ...] = ("fails", "full", "killed", "torn")
"""The write fails once; this and every later one fails; the process is killed before it; it is killed when half of a
new file's bytes are there, and not yet under its name."""

FOLDER = "in"
_UNHURT, _SAID, _RAISED = 0, 3, 4
"""How a forked action ends: to its end; with a sentence; with what `lpm` would show as a fault of its own."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that writes a dataset: `base` makes what it begins with."""

    name: str
    base: Callable[[Path], object]
    act: Callable[[Path], object]


def job(out: Path, *, strict: bool = False) -> Job:
    """Return the toy job in one process, under its own policy or one that keeps fewer tracks."""
    changed = policy(face_size="median_face_px >= 120.5") if strict else policy()
    return replace(packed_toy.job(out), in_process=True, policy=changed)


def sources(root: Path) -> Path:
    """Write the sources where they are not yet."""
    folder = root / FOLDER
    return folder if folder.exists() else write_sources(folder, a={**GOOD, "duration_s": 6.0}, b=GOOD)


def whole(out: Path) -> None:
    """Make the dataset."""
    run(job(out), LocalEngine(), expand([str(sources(out.parent))], str(out)), packer=pack)


def decide(out: Path) -> None:
    """Decide by the stricter policy."""
    with locked(Store(str(out))):
        account.write(job(out, strict=True).stepper())


def decided(out: Path) -> None:
    """Make the dataset, decide by the stricter policy, and do not pack yet."""
    whole(out)
    decide(out)


def pack_again(out: Path) -> None:
    """Pack what the stricter policy keeps."""
    with locked(Store(str(out))):
        pack(job(out, strict=True))


def compact(out: Path) -> None:
    """Gather small files wherever there are two."""
    with locked(Store(str(out))):
        tidy(Store(str(out)), min_files=2)


def forget_one(out: Path) -> None:
    """Forget a source by its id."""
    source_id = hashlib.sha256((sources(out.parent) / "b.mp4").read_bytes()).hexdigest()[:16]
    forget(job(out), find(Dataset(str(out)), [source_id]), packer=pack)


def nothing(out: Path) -> None:
    """Begin without a dataset."""


OPERATIONS = (
    Operation("run", nothing, whole),
    Operation("decide", whole, decide),
    Operation("pack", decided, pack_again),
    Operation("compact", whole, compact),
    Operation("forget", whole, forget_one),
)


class Sweep:
    """One operation: what it writes, what it makes, and what is left of it after a fault at any of its writes."""

    def __init__(self, operation: Operation, root: Path) -> None:
        """Run it once unhurt. `root` is a folder of its own."""
        self._operation, self._root = operation, root
        root.mkdir(parents=True)
        sources(root)
        self._base, self._out = root / "base", root / "out"
        self._forked(lambda: operation.base(self._base))
        self._begin()
        counted = root / "writes"
        self._forked(lambda: self._counting(counted))
        self.renames, self.writes = (int(n) for n in counted.read_text().split())
        self._result = self._left()
        self._forked(self._verify)
        self._said = (root / "said").read_text()

    def points(self, fault: Fault) -> range:
        """Return the writes at which a fault can be."""
        return range(1, 1 + (self.renames if fault == "torn" else self.writes))

    def wrong(self, fault: Fault, at: int) -> str | None:
        """Put a fault at a write and run the operation again; say what is not as it would be without."""
        self._begin()
        ended = self._end(lambda: self._hurt(fault, at))
        if ended == _RAISED:
            return "ends in no sentence"
        if fault in ("killed", "torn") and ended != -signal.SIGKILL:
            return f"was not killed, ended with {ended}"
        again = self._end(lambda: self._operation.act(self._out))
        if again != _UNHURT:
            return f"the same command again ends with {again}"
        if (left := self._left()) != self._result:
            return f"other bytes: {sorted(set(left.items()) ^ set(self._result.items()))[:4]}"
        self._forked(self._verify)
        said = (self._root / "said").read_text()
        return None if said == self._said else f"lpm verify says {said}"

    def _begin(self) -> None:
        shutil.rmtree(self._out, ignore_errors=True)
        if self._base.exists():
            shutil.copytree(self._base, self._out)

    def _left(self) -> dict[str, str]:
        """Hash what there is; half files that no reader looks at stay until the next run, but not for who forgets."""
        name = self._operation.name
        # What was gathered in two goes lies in other files; that it is the same is told by the dataset's root.
        parts = ("commits", "clips", "shards", "manifest.parquet") if name == "compact" else ()
        swept = name in ("run", "forget")
        return {n: digest for n, digest in snapshot(self._out, *parts).items() if swept or "/.tmp-" not in n}

    def _verify(self) -> None:
        found = certify(Dataset(str(self._out)), media=False)
        print(found.root, *(f"{p.check}: {p.what}" for p in found.problems), sep="\n")

    def _counting(self, file: Path) -> None:
        seen = [0, 0]

        def count(kind: str, path: str) -> None:
            seen[0] += kind == "os.rename"
            seen[1] += 1

        _listen(self._out, count)
        self._operation.act(self._out)
        file.write_text(f"{seen[0]} {seen[1]}")

    def _hurt(self, fault: Fault, at: int) -> None:
        seen = 0

        def strike(kind: str, path: str) -> None:
            nonlocal seen
            if fault == "torn" and kind != "os.rename":
                return
            seen += 1
            if seen < at or (fault != "full" and seen > at):
                return
            if fault == "torn" and Path(path).stat().st_nlink == 1:  # a second link to a whole file is never half one
                os.truncate(path, Path(path).stat().st_size // 2)
            if fault in ("torn", "killed"):
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC if fault == "full" else errno.EIO, os.strerror(errno.EIO), path)

        _listen(self._out, strike)
        self._operation.act(self._out)

    def _forked(self, act: Callable[[], object]) -> None:
        ended = self._end(act)
        if ended != _UNHURT:
            raise RuntimeError(f"{self._operation.name}: ended with {ended}: {(self._root / 'said').read_text()}")

    def _end(self, act: Callable[[], object]) -> int:
        """Do something in a process of its own; return its exit code, or minus the signal that ended it."""
        child = os.fork()
        if child == 0:
            code = _RAISED
            try:
                with (self._root / "said").open("w") as said:
                    os.dup2(said.fileno(), 1)
                    os.dup2(said.fileno(), 2)
                    code = _ended(act)
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _ended(act: Callable[[], object]) -> int:
    try:
        act()
    except EXPECTED as e:
        print(e)
        return _SAID
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return _RAISED
    return _UNHURT


def _listen(root: Path, heard: Callable[[str, str], None]) -> None:
    """Tell of every write under a folder, before it happens; what `heard` raises is what the write raises."""
    inside = f"{root}/"

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove") or not str(given[0]).startswith(inside):
            return
        if event != "open" or given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            heard(event, str(given[0]))

    sys.addaudithook(hook)


def every(sweep: Sweep, step: int = 1) -> Iterator[tuple[Fault, int]]:
    """Yield all faults, or each so many."""
    yield from [(fault, at) for fault in FAULTS for at in sweep.points(fault)][::step]
