"""What machines say of themselves, held against what the driver is."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from curation.cluster.machines import Told, unlike

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
