"""Commands in processes of their own, forked from one that has imported what they need: imports are most of a start.

Nothing is shared but what importing leaves: each has its own environment, folder, output, memory and end.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]

LPM = "workflows.cli"
OF_LPM = (LPM, "workflows.commands.jobs", "curation.report.page", "curation.report.status", "curation.verify",
          "scipy.signal", "pandas", "av", "pyarrow.dataset")  # fmt: skip
OF_THE_TRAINER = ("torch", "torch.distributed.fsdp", "lpm_train.tools.cli", "lpm_train.training.loop",
                  "lpm_train.training.stages", "lpm_train.data.loader")  # fmt: skip
OF_WAN = ("transformers.models.umt5.modeling_umt5", "diffusers.models.autoencoders.autoencoder_kl_wan")


class Warm:
    """A process with imported modules, which forks a process for each command that it is asked to run."""

    def __init__(self, imported: Sequence[str]) -> None:
        theirs, self._to = os.pipe()
        answers, mine = os.pipe()
        env = {**os.environ, "PYTHONPATH": f"{SUPPORT}:{ROOT}", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
        env["MKL_CBWR"] = "COMPATIBLE"  # read when torch begins; who needs it says why
        command = [sys.executable, "-m", "warm_command", str(theirs), str(mine), *imported]
        self._process = subprocess.Popen(
            command, env=env, cwd=ROOT, pass_fds=(theirs, mine), stdin=subprocess.DEVNULL, start_new_session=True
        )
        os.close(theirs)
        os.close(mine)
        self._answers = os.fdopen(answers)
        self._one_at_a_time = threading.Lock()

    def run(
        self, module: str, arguments: Sequence[str], env: dict[str, str], cwd: str, ranks: int = 1
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m MODULE ARGUMENT...` with its output captured.

        On several ranks they find each other as torchrun's do, and the first that fails ends the others; the exit
        code and the output are then of all. A test that is stopped while it waits, by its time limit for instance,
        ends what it waits for, and this with it: its answer is not that of the next command.

        Raises:
            EOFError: this process ended; what it said is on the tests' own error output.
        """
        with self._one_at_a_time, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            files = [f"/proc/{os.getpid()}/fd/{f.fileno()}" for f in (out, err)]
            asked = {"module": module, "arguments": arguments, "env": env, "cwd": cwd, "files": files}
            question = [asked | {"env": env | place} for place in _places(ranks)]
            try:
                os.write(self._to, json.dumps(question).encode() + b"\n")
                answer = self._answers.readline()
            except BaseException:
                self.end()
                raise
            if not answer:
                raise EOFError(f"the process that forks commands ended (exit code {self.end()})")
            code = int(answer)
            return subprocess.CompletedProcess([module, *arguments], code, _text(out), _text(err))

    @property
    def ended(self) -> bool:
        """Whether it can be asked no more."""
        return self._process.poll() is not None

    def end(self) -> int:
        """End it at once, with what it has forked, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._to)
        self._answers.close()
        return self._process.wait()


_WARM: dict[tuple[str, ...], Warm] = {}


def warm(*imported: str) -> Warm:
    """Return this process's one with these modules; it ends with this process, whose pipe it reads."""
    if imported not in _WARM or _WARM[imported].ended:
        _WARM[imported] = Warm(imported)
    return _WARM[imported]


def _places(ranks: int) -> list[dict[str, str]]:
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    where |= {"LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}
    return [where | {"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(ranks)]


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def serve(questions: int, answers: int, imported: Sequence[str]) -> None:
    """Fork a process for each command of a line, and answer with their exit code."""
    for name in imported:
        importlib.import_module(name)
    with os.fdopen(questions) as lines:
        for line in lines:
            gc.freeze()  # a collector that looked at all this would copy it
            begun = set()
            for asked in json.loads(line):
                pid = os.fork()
                if not pid:
                    os.close(answers)
                    become(asked)
                begun.add(pid)
            os.write(answers, b"%d\n" % _ended(begun))


def _ended(begun: set[int]) -> int:
    """Wait for all, and return the first exit code that is not 0."""
    first = 0
    while begun:
        pid, status = os.wait()
        begun.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code and not first:
            first = code
            for other in begun:
                os.kill(other, signal.SIGKILL)
    return first


def become(asked: dict[str, Any]) -> None:
    """Be the command that is asked for, and end as it does."""
    for descriptor, file in zip((1, 2), asked["files"], strict=True):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]
    sys.argv = [asked["module"], *asked["arguments"]]
    code: object = 0
    try:
        if asked["module"] == LPM:  # it is imported, and is not built again
            importlib.import_module(LPM).main()
        else:
            runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    except SystemExit as e:
        code = e.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    # As Python ends, but for taking all modules apart, which would copy their memory.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
