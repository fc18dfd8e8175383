"""How the workers of a run on Ray are: at work, started again, or ended for want of memory.

Workers say when they begin; Ray's own table says which have ended, and how. Ray tells of that table nowhere in public
but by its dashboard, which a run does not start: where a version of Ray has it no more, the ends are not told.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

END_FOR_MEMORY = "NODE_OUT_OF_MEMORY"


@dataclass(frozen=True, slots=True)
class Begun:
    """What a worker says of itself as it begins."""

    worker: str
    """Ray's id of its process"""
    lane: str
    host: str
    again: bool
    """in place of one that was lost"""


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of a run at a moment."""

    at_work: Mapping[str, int] = field(default_factory=dict)
    """by lane"""
    restarts: int = 0
    memory_kills: Sequence[str] = ()
    """"lane on host" of those that Ray ended for want of memory"""
    cpus: float = 0.0
    """of all machines"""

    def __str__(self) -> str:
        lanes = ", ".join(f"{n} {lane}" for lane, n in self.at_work.items() if n)
        said = f"{sum(self.at_work.values())} workers{f' ({lanes})' if lanes else ''} on {self.cpus:g} CPUs"
        if self.restarts:
            said += f", {self.restarts} started again"
        if self.memory_kills:
            said += f", {len(self.memory_kills)} ended for want of memory ({self.memory_kills[-1]})"
        return said


def counted(begun: Sequence[Begun], ended: Mapping[str, str], cpus: float) -> Workers:
    """Return how workers are; `ended`: those that Ray knows to have ended, by their ids, and how."""
    at_work = Counter(dict.fromkeys((b.lane for b in begun), 0))
    at_work.update(b.lane for b in begun if b.worker not in ended)
    kills = [f"{b.lane} on {b.host}" for b in begun if ended.get(b.worker) == END_FOR_MEMORY]
    return Workers(at_work, sum(b.again for b in begun), kills, cpus)


def ended_workers() -> dict[str, str]:
    """Return the processes that the connected cluster knows to have ended, by their ids, and how; {} = not told."""
    with contextlib.suppress(Exception):  # no part of Ray's public interface: whatever it raises, nothing is told
        from ray._private.state import state
        from ray.core.generated import common_pb2, gcs_pb2

        rows = (gcs_pb2.WorkerTableData.FromString(r) for r in state._connect_and_get_accessor().get_worker_table())
        return {
            r.worker_address.worker_id.hex(): common_pb2.WorkerExitType.Name(r.exit_type)
            for r in rows
            if not r.is_alive
        }
    return {}
