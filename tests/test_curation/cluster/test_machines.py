"""What machines say of themselves, held against what the driver is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from curation.cluster.lanes import Node
from curation.cluster.machines import Told, suffices, unlike
from schemas.settings.workflow import Resources

HERE = Told("head", "p" * 64, {"scan": {"detector": "a", "weights": "0123456789abcdef"}, "speech": {}}, "17")


def test_machines_that_are_alike_are_fit() -> None:
    assert unlike(HERE, [replace(HERE, host="one"), replace(HERE, host="two")]) == []


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"number": ""}, "two does not see the dataset"),
        ({"program": "q"}, "two has another version of OpenLPM"),
        ({"error": "StoreError: cannot write"}, "two: StoreError: cannot write"),
        ({"stages": {"scan": {"detector": "a"}, "speech": {}}}, r"stage 'scan': weights \(none, here 0123456789ab\)"),
        ({"stages": {**HERE.stages, "speech": {"words": "tiny"}}}, r"stage 'speech': words \(tiny, here none\)"),
    ],
)
def test_each_way_to_differ_is_a_sentence(changed: dict[str, object], said: str) -> None:
    wrong = unlike(HERE, [replace(HERE, host="one"), replace(HERE, host="two", **changed)])  # type: ignore[arg-type]
    assert len(wrong) == 1 and re.search(said, wrong[0]), wrong


def test_stages_that_this_machine_never_gets_are_held_against_the_first_that_does() -> None:
    """The driver's machine has no GPU, and perhaps not the weights of what runs on one."""
    one = replace(HERE, host="one", stages={**HERE.stages, "body": {"weights": "new"}})
    assert unlike(HERE, [replace(HERE, host="none"), one, replace(one, host="two")]) == []
    other = replace(one, host="two", stages={**one.stages, "body": {"weights": "old"}})
    (said,) = unlike(HERE, [replace(HERE, host="none"), one, other])
    assert said.startswith("two differs in stage 'body': weights (old, one new)")
    unfit = replace(one, host="three", number="another's")
    assert len(unlike(HERE, [unfit, other])) == 1, "what does not see the dataset is no reference"


@pytest.mark.parametrize(
    "need, offer, yes",
    [
        (Resources(), Node(0.0, 0.0, 0.0, {}), True),
        (Resources(gpus=0.5), Node(8.0, 1.0, 64.0, {}), True),
        (Resources(gpus=0.5), Node(8.0, 0.0, 64.0, {}), False),
        (Resources(gpus=0.5), Node(0.0, 1.0, 64.0, {}), False),
        (Resources(custom={"licence": 1}), Node(8.0, 0.0, 64.0, {"licence": 2.0}), True),
        (Resources(custom={"licence": 1}), Node(8.0, 1.0, 64.0, {}), False),
    ],
)
def test_a_machine_answers_for_the_stages_that_it_may_get(need: Resources, offer: Node, yes: bool) -> None:
    assert suffices(offer, need) == yes
