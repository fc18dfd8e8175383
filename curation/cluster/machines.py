"""Every machine of a cluster is asked at the start of a run whether it sees the dataset and is as the driver is.

The driver writes a number into the dataset that nobody can guess. Each machine that may hold a worker reads it, writes
an answer of its own, and tells the hash of its OpenLPM and what determines the outputs of each stage that it may get
(versions, back-ends, weights): those that need GPUs or special resources only where it offers them, held against the
first machine that does where the driver's does not. What differs would show as missing work, or as tables that depend
on the machine. A machine that joins later is asked the same by its workers, each before its first step; where it
differs, it is left out. Costs the start of one worker a machine, and nothing where a worker's machine was asked before.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import socket
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curation.cluster.lanes import Node, has_special
from curation.cluster.ray_resources import host_of, offered
from curation.engine.run import Job, RunStoppedError
from curation.engine.stage_call import MachineError
from curation.pythons.worker import close_all
from curation.storage.store import Store
from schemas.settings.use import OURS
from schemas.settings.workflow import Resources

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
    there = {node_id: found for node_id, found in _alive().items() if node_id not in without}
    asked = [
        _look.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)
        ).remote(job, node_id, offer)
        for node_id, (_, offer) in there.items()
    ]
    _, offer = _alive().get(ray.get_runtime_context().get_node_id(), ("", _NOTHING))
    here = Told(socket.gethostname(), program(), _provenance(job, offer), number)
    told: dict[str, Told] = {}
    for (node_id, (host, _)), answer in zip(there.items(), asked, strict=True):
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
    known = {name: stage for name, (_, stage) in _references(here, told.values()).items()}
    return Asked(replace(here, stages=known), frozenset(told))


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


_NOTHING = Node(0.0, 0.0, 0.0, {})


def _alive() -> dict[str, tuple[str, Node]]:
    """Return the machines with CPUs: Ray's id -> host, and what it offers."""
    there = (n for n in ray.nodes() if n.get("Alive") and n["Resources"].get("CPU", 0.0) > 0)
    return {n["NodeID"]: (host_of(n), offered(n["Resources"])) for n in there}


_SHARE = "--out is to be a directory that all machines share, or an s3:// prefix"


def unlike(here: Told, machines: Iterable[Told]) -> list[str]:
    """Return a sentence for each way in which a machine is not as this one, or as the first with such a stage."""
    out, machines = [], list(machines)
    known = _references(here, machines)
    for there in machines:
        if there.error:
            out.append(f"{there.host}: {there.error}")
        elif there.number != here.number:
            out.append(f"{there.host} does not see the dataset: {_SHARE}")
        elif there.program != here.program:
            out.append(f"{there.host} has another version of OpenLPM: install the same on all (one image)")
        else:
            out += [f"{there.host} differs in {said}" for said in _differences(known, there.stages)]
    return out


_References = Mapping[str, tuple[str, Mapping[str, str]]]
"""Stage -> where ("here", or a host), and what determines its outputs there."""


def _references(here: Told, machines: Iterable[Told]) -> _References:
    """Return what stages are held against: this machine's, and of others those of the first machine with each."""
    out = {name: ("here", stage) for name, stage in here.stages.items()}
    for there in machines:
        if not there.error and (there.number, there.program) == (here.number, here.program):
            out = {name: (there.host, stage) for name, stage in there.stages.items()} | out
    return out


def _differences(known: _References, there: Provenance) -> Iterable[str]:
    for stage, theirs in there.items():
        where, mine = known.get(stage, ("", theirs))
        keys = [k for k in sorted({*mine, *theirs}) if mine.get(k) != theirs.get(k)]
        if keys:
            shown = (f"{k} ({theirs.get(k, 'none')[:12]}, {where} {mine.get(k, 'none')[:12]})" for k in keys)
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
def _look(job: Job, node: str, offer: Node) -> Told:
    try:
        return _told(job, node, offer)
    finally:
        close_all()  # the processes of other Pythons; this one stays with Ray, idle


def _told(job: Job, node: str, stages: Provenance | Node) -> Told:
    """Return what this machine says of itself: of `stages` as given, or of those that what it offers suffices for."""
    host = socket.gethostname()
    try:
        store = Store(job.store_uri)
        try:
            number = store.read(_name(job, "driver")).decode()
        except FileNotFoundError:
            return Told(host, program())
        store.write(_name(job, node), host.encode())
        return Told(host, program(), _provenance(job, stages) if isinstance(stages, Node) else stages, number)
    except Exception as e:  # whatever it is, the machine is not fit
        return Told(host, "", error=_line(e))


def _provenance(job: Job, offer: Node) -> dict[str, dict[str, str]]:
    """Return what determines the outputs of the stages that a machine may get, by what it offers."""
    return {
        s.name: s.provenance() for s in job.pipeline.stages if s.cls.grain != "dataset" and suffices(offer, s.resources)
    }


def suffices(offer: Node, need: Resources) -> bool:
    """Tell whether a machine may get a stage: any may where it needs nothing special, CPUs and memory aside."""
    special = need.gpus > 0 or bool(need.custom)
    return not special or (offer.cpus > 0 and has_special(offer, need))


def _line(e: BaseException) -> str:
    return f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0]}"


def _folder(job: Job) -> str:
    return f"runs/{job.run_id}/machines"


def _name(job: Job, who: str) -> str:
    return f"{_folder(job)}/{who}"
