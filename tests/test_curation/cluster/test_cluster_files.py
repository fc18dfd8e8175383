"""What describes a cluster: `ray_cluster.yaml`, by Ray's own launcher against a server that speaks EC2, and others."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from command_line import ROOT
from ray_nodes import description

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the server's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

KUBERAY = ROOT / "docs" / "cluster" / "kuberay.yaml"
CONTAINERFILE = ROOT / "docs" / "cluster" / "Containerfile"


@pytest.fixture
def machines(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    """Each node type's machine, as EC2 was asked for it by Ray's launcher."""
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("HOME", str(tmp_path))  # where the launcher keeps the keys that it makes
    (tmp_path / ".ssh").mkdir()
    profile = description()["available_node_types"]["cpu_worker"]["node_config"]["IamInstanceProfile"]["Name"]
    boto3.client("iam").create_instance_profile(InstanceProfileName=profile)
    config = prepare_config(description())
    validate_config(config)
    ready = bootstrap_aws(config)
    provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
    for name, node in ready["available_node_types"].items():
        provider.create_node(copy.deepcopy(node["node_config"]), {"ray-user-node-type": name}, 1)
    found = boto3.client("ec2", region_name=ready["provider"]["region"]).describe_instances()["Reservations"]
    started = [machine for group in found for machine in group["Instances"]]
    yield {tag["Value"]: m for m in started for tag in m["Tags"] if tag["Key"] == "ray-user-node-type"}


@pytest.mark.slow
def test_the_launcher_starts_every_kind_of_machine(machines: dict[str, dict[str, Any]]) -> None:
    types = description()["available_node_types"]
    assert machines.keys() == types.keys() == {"head", "cpu_worker", "gpu_worker"}
    for name, machine in machines.items():
        assert machine["InstanceType"] == types[name]["node_config"]["InstanceType"]
        assert machine["ImageId"].startswith("resolve:ssm:/aws/service/"), "an image that exists in every region"
        assert "openlpm-node" in machine["IamInstanceProfile"]["Arn"], "a node without a role reads and writes nothing"


def test_every_node_has_the_token_and_the_image() -> None:
    config = description()
    (mounted,) = config["file_mounts"]
    assert f"RAY_AUTH_TOKEN_PATH={mounted} " in CONTAINERFILE.read_text(encoding="utf-8") and config["docker"]["image"]
    for when in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert any(re.match(r"RAY_AUTH_MODE=token ray start ", c) for c in config[when])
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}


def test_what_the_image_copies_is_there_and_is_everything() -> None:
    lines = CONTAINERFILE.read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages <= copied and {"Makefile", "pyproject.toml", "constraints.txt"} <= copied


def test_kubernetes_runs_the_same_image_and_the_pinned_ray() -> None:
    cluster = next(d for d in yaml.safe_load_all(KUBERAY.read_text("utf-8")) if d["kind"] == "RayCluster")["spec"]
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert cluster["rayVersion"] == pins["ray"] and cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {c["image"].rpartition("/")[2] for g in groups for c in g["template"]["spec"]["containers"]}
    assert images == {description()["docker"]["image"].rpartition("/")[2]}
    limits = {g.get("groupName", "head"): (g.get("minReplicas"), g.get("maxReplicas")) for g in groups}
    types = description()["available_node_types"]
    for name, node in (("cpu", "cpu_worker"), ("gpu", "gpu_worker")):
        assert limits[name] == (types[node]["min_workers"], types[node]["max_workers"])
