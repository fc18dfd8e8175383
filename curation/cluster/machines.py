"""Every machine of a cluster is asked at the start of a run whether it sees the dataset and is as the driver is.

The driver writes a number into the dataset that nobody can guess. Each machine that may hold a worker reads it, writes
an answer of its own, and tells the hash of its OpenLPM and what determines the outputs of each stage there (versions,
back-ends, weights). What differs would show as missing work, or as tables that depend on the machine. A machine that
joins later is asked the same by its workers, each before its first step; where it differs, it is left out. Costs the
start of one worker a machine, and nothing where a worker's machine was asked before.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import socket
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curation.engine.run import Job, RunStoppedError
from curation.engine.stage_call import MachineError
from curation.pythons.worker import close_all
from curation.storage.store import Store
from schemas.use import OURS

Provenance = Mapping[str, Mapping[str, str]]
"""Stage -> what determines its outputs there."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a machine says of itself."""

    host: str
    program: str
    """hash of our packages' files"""
    stages: Provenance = field(default_factory=dict)
    number: str = ""
    """what it read in the dataset"""
    error: str = ""
    """why it could not read, write, or make sure of its stages"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What machines are held against, and which were, and are as it; picklable."""

    here: Told
    nodes: frozenset[str]
    """Ray's ids"""


def ask_all(job: Job, without: Container[str] = ()) -> Asked:
    """Ask every living machine with CPUs, all at once; one that dies meanwhile is left out, as later in the run.

    Args:
        job: the run.
        without: Ray's ids of machines that get no part of it.

    Raises:
        RunStoppedError: some do not see the dataset, or differ; the message names each with what to do.
    """
    store, number = Store(job.store_uri), secrets.token_hex(16)
    store.write(_name(job, "driver"), number.encode())
    there = {node_id: host for node_id, host in _alive().items() if node_id not in without}
    asked = [
        _look.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
        ).remote(job, node_id)
        for node_id in there
    ]
    here = Told(socket.gethostname(), program(), _provenance(job), number)
    told: dict[str, Told] = {}
    for (node_id, host), answer in zip(there.items(), asked, strict=True):
        try:
            told[node_id] = ray.get(answer)
        except ray.exceptions.TaskUnschedulableError:
            continue  # died before it was asked: no part of this run
        except ray.exceptions.RayError as e:
            if node_id in _alive():
                told[node_id] = Told(host, "", error=_line(e))
    wrote = {name.rpartition("/")[2] for name in store.names(_folder(job))}
    silent = {t.host for node_id, t in told.items() if not t.error and node_id not in wrote}
    wrong = [*unlike(here, told.values()), *(f"{host} writes elsewhere: {_SHARE}" for host in sorted(silent))]
    for name in list(store.names(_folder(job))):
        if wrong or name != _name(job, "driver"):  # the number stays for those who come later
            store.delete_file(name)
    if wrong:
        raise RunStoppedError(f"not every machine can take part: {'; '.join(wrong)}")
    return Asked(here, frozenset(told))


def over(job: Job) -> None:
    """Take back what was written for machines that come later."""
    Store(job.store_uri).delete_file(_name(job, "driver"))


def ask_here(job: Job, asked: Asked, stages: Provenance) -> None:
    """Make sure of the machine of this process, unless it was asked before.

    Args:
        job: the run.
        asked: what the others were held against.
        stages: what determines here the outputs of the stages that this process is to run.

    Raises:
        MachineError: it does not see the dataset, or differs; the message says what to do.
    """
    node = ray.get_runtime_context().get_node_id()
    if node in asked.nodes:
        return
    here = replace(asked.here, stages={name: asked.here.stages[name] for name in stages if name in asked.here.stages})
    there = _told(job, node, stages)
    Store(job.store_uri).delete_file(_name(job, node))
    if wrong := unlike(here, [there]):
        raise MachineError("; ".join(wrong), "; it joined while the run was under way")


def _alive() -> dict[str, str]:
    """Return the machines with CPUs: Ray's id -> host."""
    there = (n for n in ray.nodes() if n.get("Alive") and n["Resources"].get("CPU", 0.0) > 0)
    return {n["NodeID"]: n.get("NodeManagerHostname", n["NodeID"][:8]) for n in there}


_SHARE = "--out is to be a directory that all machines share, or an s3:// prefix"


def unlike(here: Told, machines: Iterable[Told]) -> list[str]:
    """Return a sentence for each way in which a machine is not as this one."""
    out = []
    for there in machines:
        if there.error:
            out.append(f"{there.host}: {there.error}")
        elif there.number != here.number:
            out.append(f"{there.host} does not see the dataset: {_SHARE}")
        elif there.program != here.program:
            out.append(f"{there.host} has another version of OpenLPM: install the same on all (one image)")
        else:
            out += [f"{there.host} differs in {said}" for said in _differences(here.stages, there.stages)]
    return out


def _differences(here: Provenance, there: Provenance) -> Iterable[str]:
    for stage in here:
        mine, theirs = here[stage], there.get(stage, {})
        keys = [k for k in sorted({*mine, *theirs}) if mine.get(k) != theirs.get(k)]
        if keys:
            shown = (f"{k} ({theirs.get(k, 'none')[:12]}, here {mine.get(k, 'none')[:12]})" for k in keys)
            yield f"stage {stage!r}: {', '.join(shown)}; put the same files into OPENLPM_MODELS on all"


@functools.cache
def program() -> str:
    """Return the hash of our packages' files on this machine."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for package in sorted(OURS):
        for file in sorted((root / package).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"\0{file.relative_to(root)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@ray.remote  # type: ignore[untyped-decorator]
def _look(job: Job, node: str) -> Told:
    try:
        return _told(job, node)
    finally:
        close_all()  # the processes of other Pythons; this one stays with Ray, idle


def _told(job: Job, node: str, stages: Provenance | None = None) -> Told:
    """Return what this machine says of itself; of its `stages` it is asked where they are not given."""
    host = socket.gethostname()
    try:
        store = Store(job.store_uri)
        try:
            number = store.read(_name(job, "driver")).decode()
        except FileNotFoundError:
            return Told(host, program())
        store.write(_name(job, node), host.encode())
        return Told(host, program(), _provenance(job) if stages is None else stages, number)
    except Exception as e:  # whatever it is, the machine is not fit
        return Told(host, "", error=_line(e))


def _provenance(job: Job) -> dict[str, dict[str, str]]:
    """Return what determines the outputs of the stages that any machine may get: those without special resources."""
    plain: Sequence[Any] = [s for s in job.pipeline.stages if not s.resources.gpus and not s.resources.custom]
    return {s.name: s.provenance() for s in plain if s.cls.grain != "dataset"}


def _line(e: BaseException) -> str:
    return f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0]}"


def _folder(job: Job) -> str:
    return f"runs/{job.run_id}/machines"


def _name(job: Job, who: str) -> str:
    return f"{_folder(job)}/{who}"
