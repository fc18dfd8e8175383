"""Workflows and policies by name or path: what is wrong with a file is told with the key that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.engine.workflow import WorkflowError
from schemas.settings.policy import PolicyError
from workflows import catalog

HEAD = "name: mine\npolicy: default\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: m\npolcy: default\nstages: {}\n", r"mine.yaml: there is no key 'polcy'; did you mean 'policy'\?"),
        (
            f"{HEAD}stages: {{scan: {{setings: {{}}}}}}\n",
            r"mine.yaml, stages.scan: .*'setings'; did you mean 'settings'",
        ),
        (f"{HEAD}stages: {{scan: {{portrait_px: 9}}}}\n", "'portrait_px'; there are: use, settings, python, resources"),
        (
            f"{HEAD}stages: {{scan: {{resources: {{cpu: 2}}}}}}\n",
            r"stages.scan.resources: .*'cpu'; did you mean 'cpus'",
        ),
        (f"{HEAD}pack: {{shard_mbs: 9}}\nstages: {{}}\n", r"mine.yaml, pack: .*'shard_mbs'; did you mean 'shard_mb'"),
        (f"{HEAD}pack: {{shard_mb: -1}}\nstages: {{}}\n", "mine.yaml, pack.shard_mb: Input should be greater than 0"),
        (f"{HEAD}window_s: .inf\nstages: {{}}\n", "mine.yaml, window_s: Input should be a finite number"),
        (f"{HEAD}stages: {{scan: {{resources: {{cpus: .inf}}}}}}\n", "resources.cpus: Input should be a finite number"),
        ("[]", "mine.yaml: Input should be a valid dictionary"),
    ],
)
def test_what_is_wrong_with_a_workflow_is_told_with_the_key_that_was_meant(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(WorkflowError, match=said):
        catalog.workflow(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: m\nruls: []\n", r"policy: there is no key 'ruls'; did you mean 'rules'\?"),
        (
            "name: m\nrules: [{id: a, on: shots, step: quality, kep: 'true'}]\n",
            r"rule 'a', .*'kep'; did you mean 'keep'",
        ),
    ],
)
def test_so_it_is_with_a_policy(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(PolicyError, match=said):
        catalog.policy(str(tmp_path / "mine.yaml"))
