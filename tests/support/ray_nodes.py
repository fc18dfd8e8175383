"""Nodes of a Ray cluster on this machine, started by the commands of `ray_cluster.yaml`, each with its own folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from command_line import ROOT, SUPPORT


def description() -> dict[str, Any]:
    """Return what `ray_cluster.yaml` says."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
    return read


@dataclass
class RayNodes:
    """A head without CPUs and its workers; as a context it ends with no process left."""

    folder: Path
    modules: Path | None = None
    """where modules lie that are found on every node, beside the tests' own"""
    environment: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> RayNodes:
        home = self.folder / "home"
        (home / ".ray").mkdir(parents=True)
        (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        bin_dir = str(Path(sys.executable).parent)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
            "HOME": str(home),
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(map(str, filter(None, (SUPPORT, ROOT, self.modules)))),
            "RAY_HEAD_IP": "127.0.0.1",
        }
        self._start("head", description()["head_start_ray_commands"], "--include-dashboard=false")
        return self

    def worker(self, name: str, cpus: int = 1, offers: str = "{}", **environment: str) -> None:
        """Start a worker that offers special resources (JSON), with more in its environment, and wait for it."""
        before = self.environment
        self.environment = {**before, **environment}
        try:
            start = description()["worker_start_ray_commands"]
            self._start(name, start, f"--num-cpus={cpus}", f"--resources={offers}")
        finally:
            self.environment = before

    def kill(self, name: str) -> None:
        """Kill a node with all its processes, as if at once: Ray's workers are in groups of their own."""
        process = self.nodes.pop(name)
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            os.killpg(process.pid, signal.SIGSTOP)  # who sees a worker end would tell the others
            for other in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    other.kill()
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def driver(self, *command: str) -> subprocess.Popen[str]:
        """Run a Python script as a driver would, by the token; the head's address is its first argument."""
        script, *arguments = command
        keep = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}  # a bucket's server of this moment
        environment = {**self.environment, **keep, "RAY_AUTH_MODE": "token"}
        return subprocess.Popen(
            [sys.executable, "-c", script, f"127.0.0.1:{self.port}", *arguments], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        for name in list(self.nodes):
            self.kill(name)

    def _start(self, name: str, commands: list[str], *more: str) -> None:
        """Run a node's start command as it stands but for its port, folder and what only AWS gives it."""
        (start,) = [c for c in commands if "ray start" in c]
        left_out = "--autoscaling-config"
        words = [w for w in start.replace("6379", str(self.port)).split() if not w.startswith(left_out)]
        temporary = self.folder / name
        line = " ".join([*words, *map(shlex.quote, (*more, f"--temp-dir={temporary}", "--block"))])
        for _ in range(3):  # beside other work a node may not be up within Ray's 30 s
            log = self.folder / f"{name}.log"
            with log.open("wb") as out:
                self.nodes[name] = subprocess.Popen(
                    ["bash", "-c", f"exec env {line}"], env=self.environment, stdout=out, stderr=out,
                    start_new_session=True,
                )  # fmt: skip
            if self._is_up(name):
                return
            self.kill(name)
        raise RuntimeError(f"node {name} did not start: {log.read_text()[-2000:]}")

    def _is_up(self, name: str) -> bool:
        log = self.folder / f"{name}.log"
        for _ in range(600):
            if b"Ray runtime started" in log.read_bytes():
                return True
            if self.nodes[name].poll() is not None:
                break
            time.sleep(0.2)
        return False
