"""Commands of the tests that are forked from a process with imports end as they would in a Python of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil
import pytest
from warm_command import warm

BODIES = {
    "well": "print('said'); print('told', file=sys.stderr)",
    "by a code": "sys.exit(3)",
    "by words": "sys.exit('words')",
    "by an error": "raise ValueError('wrong')",
    "killed": "print('said', flush=True); os.kill(os.getpid(), 9)",
    "late": "import atexit; atexit.register(print, 'late')",
    "in a thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('last'))).start()",
    "by its environment": "print(os.environ['MINE'], 'HOME' in os.environ, sys.argv[1:], os.getcwd())",
}


def module(folder: Path, body: str) -> None:
    (folder / "mine.py").write_text(f"import os, sys\n{body}\n")


def is_left(pid: int) -> bool:
    """Say whether a process still runs, after a moment for the kernel."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_it_ends_as_a_python_of_its_own(body: str, tmp_path: Path) -> None:
    module(tmp_path, body)
    env = {"MINE": "mine", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "mine", "word"]
    alone = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    warmed = warm().run("mine", ["word"], env, str(tmp_path))
    assert (warmed.returncode, warmed.stdout) == (alone.returncode, alone.stdout)
    assert warmed.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]  # of a traceback, what was raised


def test_the_first_rank_that_fails_ends_the_others(tmp_path: Path) -> None:
    module(tmp_path, "import time\nif os.environ['RANK'] == '1': sys.exit(5)\ntime.sleep(600)")
    assert warm().run("mine", [], dict(os.environ), str(tmp_path), ranks=3).returncode == 5


def test_what_a_stopped_test_waited_for_is_gone_and_not_the_answer_to_the_next(tmp_path: Path) -> None:
    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    module(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); import time; time.sleep(600)")
    before = signal.signal(signal.SIGUSR1, stop)
    waits = f"while ! [ -s {tmp_path}/pid ]; do sleep 0.05; done; kill -USR1 $PPID"
    try:
        with subprocess.Popen(["sh", "-c", waits]), pytest.raises(TimeoutError):
            warm().run("mine", [], dict(os.environ), str(tmp_path))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not is_left(int((tmp_path / "pid").read_text()))
    module(tmp_path, "sys.exit(4)")
    assert warm().run("mine", [], dict(os.environ), str(tmp_path)).returncode == 4
