"""How lanes share a Ray cluster: what its machines offer, and each lane's options and number of workers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import ray

from curation.cluster.lanes import Lane, Node, cpu_share
from curation.pythons.find import executable


def cluster_nodes(without: Container[str] = ()) -> list[Node]:
    """Return what each living machine of the connected cluster offers, `without` those that are left out."""
    return [offered(n["Resources"]) for n in ray.nodes() if n.get("Alive") and n["NodeID"] not in without]


def hosts() -> dict[str, str]:
    """Return the living machines of the connected cluster: Ray's id -> host."""
    return {n["NodeID"]: host_of(n) for n in ray.nodes() if n.get("Alive")}


def host_of(node: Mapping[str, Any]) -> str:
    """Return the name of a machine as Ray tells of it."""
    return str(node.get("NodeManagerHostname", node["NodeID"][:8]))


def offered(resources: Mapping[str, float]) -> Node:
    """Return what a machine offers, of Ray's names for it."""
    own = {"CPU", "GPU", "memory", "object_store_memory"}
    custom = {k: v for k, v in resources.items() if k not in own and ":" not in k}
    memory_gb = resources.get("memory", 0.0) / 2**30
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), memory_gb, custom)


def lane_pools(lane_list: list[Lane], nodes: list[Node], *, local: bool) -> dict[str, tuple[dict[str, Any], int]]:
    """Return per lane its Ray options and the most workers it may grow to.

    On one machine lanes share the cores (they work in turns); on a cluster every worker gets what it asks for.
    """
    cpus = sum(n.cpus for n in nodes)
    share = cpu_share(lane_list, cpus)
    if local:
        share = min(share, 1.0 / max(1, sum(lane.resources.gpus == 0 for lane in lane_list)))
    out: dict[str, tuple[dict[str, Any], int]] = {}
    for lane in lane_list:
        need = lane.resources
        options: dict[str, Any] = {"num_cpus": round(need.cpus * share, 3)}
        if lane.python:
            options["runtime_env"] = {"py_executable": executable(lane.python)}
        limits = [cpus / need.cpus]
        if need.gpus:
            options["num_gpus"] = need.gpus
            limits.append(sum(n.gpus for n in nodes) / need.gpus)
        if need.memory_gb:
            options["memory"] = int(need.memory_gb * 2**30)
            limits.append(sum(n.memory_gb for n in nodes) / need.memory_gb)
        if need.custom:
            options["resources"] = need.custom
            limits += [sum(n.custom.get(k, 0.0) for n in nodes) / v for k, v in need.custom.items() if v]
        out[lane.name] = (options, max(1, int(min(limits))))
    return out


def lack(pools: Iterable[tuple[dict[str, Any], int]], nodes: Sequence[Node]) -> str | None:
    """Return what of the CPUs and GPUs is missing for one worker of each lane at once, None when nothing is."""
    options = [o for o, _ in pools]
    wanted = (sum(o.get("num_cpus", 0.0) for o in options), sum(o.get("num_gpus", 0.0) for o in options))
    there = (sum(n.cpus for n in nodes), sum(n.gpus for n in nodes))
    for kind, want, have in zip(("CPUs", "GPUs"), wanted, there, strict=True):
        if want > have + 1e-6:
            return f"machines of the cluster were lost: the stages at work need {want:g} {kind}, and {have:g} are left"
    return None
