"""Errors are told apart: bad item, passing trouble, bad machine, too little memory, bug."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import deadly
import pytest
from engine_case import GOOD, by_name, outcomes, policy
from toy import write_sources

from annotators.models.batches import OutOfMemoryError
from annotators.models.weights_registry import WeightsNotFound
from annotators.optional_parts import PartNotInstalledError
from curation import Dataset
from curation.engine import stage_call
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, Outcome, RunStoppedError, run
from curation.engine.step import StageSetupError
from curation.engine.workflow import resolve
from curation.faults import fault_of
from curation.media.errors import MediaError
from curation.storage.store import StoreError


def caused(e: Exception, cause: Exception) -> Exception:
    e.__cause__ = cause
    return e


S3 = "When reading information for key 'a' in bucket 'b': AWS Error"
CASES: list[tuple[BaseException, str]] = [
    (MediaError("decode_failed", "cut short"), "item"),
    (ValueError("no such profile"), "item"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "item"),
    (FileNotFoundError(errno.ENOENT, "gone"), "item"),
    (PermissionError(errno.EACCES, "not yours"), "item"),
    (OSError("AWS Error NO_SUCH_KEY during GetObject"), "item"),
    (RuntimeError("the network says no"), "item"),
    (OSError(errno.EIO, "Input/output error"), "transient"),
    (OSError(errno.ESTALE, "Stale file handle"), "transient"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), "transient"),
    (TimeoutError("timed out"), "transient"),
    (OSError(f"{S3} SLOW_DOWN during GetObject operation: Please reduce your request rate."), "transient"),
    (OSError(f"{S3} NETWORK_CONNECTION during GetObject: curlCode: 28, Timeout was reached"), "transient"),
    (OSError(f"{S3} UNKNOWN (HTTP status 503) during GetObject operation"), "transient"),
    (caused(StoreError("cannot write"), OSError(errno.ETIMEDOUT, "late")), "transient"),
    (caused(StoreError("cannot write"), OSError(errno.ENOSPC, "full")), "machine"),
    (StoreError("cannot open"), "machine"),
    (OSError(errno.ENOSPC, "No space left on device"), "machine"),
    (OSError(errno.EMFILE, "Too many open files"), "machine"),
    (OSError(f"{S3} ACCESS_DENIED during GetObject operation"), "machine"),
    (ImportError("no module"), "machine"),
    (PartNotInstalledError("x needs y"), "machine"),
    (WeightsNotFound("w is nowhere"), "machine"),
    (RuntimeError("Found no NVIDIA driver on your system"), "machine"),
    (RuntimeError("No CUDA GPUs are available"), "machine"),
    (StageSetupError("no"), "machine"),
    (MemoryError(), "memory"),
    (OutOfMemoryError("out of memory with a single item"), "memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
    (RuntimeError("CUDA error: device-side assert triggered"), "device"),
    (TypeError("unexpected argument"), "bug"),
    (KeyError("column"), "bug"),
    (IndexError("list index out of range"), "bug"),
    (AssertionError(), "bug"),
    (AttributeError("no attribute"), "bug"),
]


@pytest.mark.parametrize(("error", "fault"), CASES, ids=[f"{type(e).__name__}-{str(e)[:30]}" for e, _ in CASES])
def test_whose_fault_an_error_is(error: BaseException, fault: str) -> None:
    assert fault_of(error) == fault


def go(folder: Path, out: Path, **changes: Any) -> Outcome:
    job = Job(str(out), resolve(deadly.workflow()), policy(), in_process=True, **changes)
    return run(job, LocalEngine(), expand([str(folder)], str(out)))


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(stage_call, "_sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("error", ["ENOSPC", pytest.param("ImportError", marks=pytest.mark.slow)])
def test_a_bad_machine_ends_the_run_and_quarantines_nothing(tmp_path: Path, error: str) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "die": error, "times": 1})
    with pytest.raises(StageSetupError, match=r"'deadly' on .*: .*(No space left|missing_model).*nothing was quar"):
        go(folder, tmp_path / "out")
    assert go(folder, tmp_path / "out").quarantined == 0
    assert by_name(tmp_path / "out")["a.mp4"][0] == "kept"


def test_what_may_pass_is_tried_again_and_never_quarantined(tmp_path: Path, slept: list[float]) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "die": "ECONNRESET", "times": 3})
    assert go(folder, tmp_path / "out").quarantined == 0
    assert deadly.tries(folder, "a") == 4 and len(slept) == 3
    slept.clear()
    bad = write_sources(tmp_path / "bad", b={**GOOD, "die": "EIO", "times": stage_call.TRIES})
    with pytest.raises(StageSetupError, match=r"'deadly' on .*Input/output error, 5 times.*run the same command again"):
        go(bad, tmp_path / "out2")
    assert deadly.tries(bad, "b") == stage_call.TRIES and len(slept) == stage_call.TRIES - 1
    assert go(bad, tmp_path / "out2").quarantined == 0, "its item was pending"


def test_a_bug_is_quarantined_with_its_log_while_others_go_on(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "in", a={**GOOD, "long": "x" * 99}, b={**GOOD, "die": "TypeError"})
    go(folder, tmp_path / "out")
    (bad,) = [i for i, (o, _) in outcomes(tmp_path / "out", "sources").items() if o == "quarantined"]
    ((error, message),) = Dataset(str(tmp_path / "out")).query("SELECT error, message FROM errors").fetchall()
    file = f"faults/deadly/bucket={bad[:2]}/{bad}.txt"
    assert (error, message) == ("bug", f"TypeError: unexpected keyword argument 'color' (see {file})")
    assert "Traceback" in (tmp_path / "out" / file).read_text()


def test_too_little_memory_costs_attempts(tmp_path: Path) -> None:
    good = {**GOOD, "long": "x" * 99}
    once, each = {**GOOD, "die": "MemoryError", "times": 1}, {**GOOD, "die": "MemoryError"}
    folder = write_sources(tmp_path / "in", a=good, b=once, c=each)
    go(folder, tmp_path / "out")
    assert {n: (o, r) for n, (o, r, _) in by_name(tmp_path / "out").items()} == {
        "a.mp4": ("kept", None), "b.mp4": ("kept", None), "c.mp4": ("quarantined", "out of memory"),
    }  # fmt: skip
    assert deadly.tries(folder, "c") == 3


def test_a_fault_of_the_program_is_one_sentence_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("of ours")

    monkeypatch.setattr("curation.engine.run.conclude", broken)
    folder = write_sources(tmp_path / "in", a=GOOD)
    with pytest.raises(RunStoppedError, match=r"KeyError: 'of ours'; this is a fault of the program.*traceback is in"):
        go(folder, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("runs/*/traceback.txt")
    assert "Traceback" in file.read_text()
