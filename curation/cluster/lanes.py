"""Lanes: contiguous stages with equal resources share a worker, so that two cores suffice for a whole pipeline.

Pure planning: which stages go together, what one worker of each lane asks for, and whether a cluster can place it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from curation.engine.workflow import Pipeline, ResolvedStage
from schemas.settings.workflow import Resources


@dataclass(frozen=True, slots=True)
class Lane:
    """A run of stages in one worker. `windowed` lanes take windows, the others whole sources."""

    name: str
    stages: tuple[ResolvedStage, ...]
    resources: Resources
    windowed: bool

    @property
    def python(self) -> str:
        """The Python that its workers run; "" = the cluster's."""
        return self.stages[0].python

    def at_home(self) -> Lane:
        """Return it as its own Python sees it."""
        return replace(self, stages=tuple(s.at_home() for s in self.stages))


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of a cluster offers in all."""

    cpus: float
    gpus: float
    memory_gb: float
    custom: dict[str, float]


def lanes(stages: Sequence[ResolvedStage], windowed: bool) -> list[Lane]:
    """Group contiguous stages with equal resources and the same Python."""
    out: list[list[ResolvedStage]] = []
    for s in stages:
        if out and (out[-1][-1].resources, out[-1][-1].python) == (s.resources, s.python):
            out[-1].append(s)
        else:
            out.append([s])
    return [Lane("+".join(s.name for s in g), tuple(g), g[0].resources, windowed) for g in out]


def pipeline_lanes(pipeline: Pipeline) -> tuple[list[Lane], list[Lane], list[Lane]]:
    """Return the lanes before, of, and after the window stages."""
    return lanes(pipeline.before, False), lanes(pipeline.windowed, True), lanes(pipeline.after, False)


def misfit(lane_list: Sequence[Lane], nodes: Sequence[Node]) -> str | None:
    """Return a sentence saying why the lanes cannot be placed on these nodes, or None when they can.

    Each lane needs a node that holds one of its workers, and all lanes together must fit the cluster at once:
    waiting for resources that never come is the one thing the engine must not do.
    """
    for lane in lane_list:
        need = lane.resources
        if not any(_holds(n, need) for n in nodes):
            return (
                f"stage{'s' if len(lane.stages) > 1 else ''} {lane.name} ask{'' if len(lane.stages) > 1 else 's'} for "
                f"{_text(need)} on one machine, and the largest machine of the cluster has {_largest(nodes)}; "
                "lower the stage's resources in the workflow, or add such a machine"
            )
    gpus = sum(lane.resources.gpus for lane in lane_list)
    have = sum(n.gpus for n in nodes)
    if gpus > have:
        return f"the stages that need a GPU ask for {gpus:g} GPUs at once, and the cluster has {have:g}"
    for kind in sorted({k for lane in lane_list for k in lane.resources.custom}):
        want = sum(lane.resources.custom.get(kind, 0.0) for lane in lane_list)
        have = sum(n.custom.get(kind, 0.0) for n in nodes)
        if want > have:
            return f"the stages ask for {want:g} of the resource {kind!r} at once, and the cluster has {have:g}"
    memory, room = sum(lane.resources.memory_gb for lane in lane_list), sum(n.memory_gb for n in nodes)
    if memory > room:
        return f"the stages ask for {memory:g} GiB of memory at once, and the cluster has {room:.1f}"
    return None


def cpu_share(lane_list: Sequence[Lane], cpus: float) -> float:
    """Return the factor (<= 1) on the lanes' CPU requests that lets one worker of each run on `cpus` cores.

    Lanes work in turns on a small machine, so sharing cores between them is right; waiting for cores is not.
    """
    total = sum(lane.resources.cpus for lane in lane_list)
    return min(1.0, cpus / total) if total > 0 else 1.0


def has_special(node: Node, need: Resources) -> bool:
    """Tell whether a machine has the GPUs and special resources that a stage needs."""
    return node.gpus >= need.gpus and all(node.custom.get(k, 0.0) >= v for k, v in need.custom.items())


def _holds(node: Node, need: Resources) -> bool:
    return node.cpus >= need.cpus and node.memory_gb >= need.memory_gb and has_special(node, need)


def _text(need: Resources) -> str:
    parts = [f"{need.cpus:g} CPUs"]
    if need.gpus:
        parts.append(f"{need.gpus:g} GPUs")
    if need.memory_gb:
        parts.append(f"{need.memory_gb:g} GiB of memory")
    parts += [f"{v:g} {k}" for k, v in need.custom.items()]
    return ", ".join(parts)


def _largest(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "nothing"
    n = max(nodes, key=lambda n: (n.gpus, n.cpus, n.memory_gb))
    return _text(Resources(cpus=max(n.cpus, 0.001), gpus=n.gpus, memory_gb=round(n.memory_gb, 1), custom=n.custom))
