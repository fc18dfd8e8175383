"""A fault at a write of any command costs nothing: the same command again makes the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_sweep import OPERATIONS, Operation, Sweep, every

STEP = {"run": 263, "forget": 121, "pack": 37, "compact": 37, "decide": 23}
"""A few of all; `benchmarks/faults.py` goes through each."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_a_fault_at_any_write_costs_nothing(operation: Operation, tmp_path: Path) -> None:
    sweep = Sweep(operation, tmp_path / operation.name)
    assert sweep.writes > 5 and sweep.renames > 2
    wrong = {(fault, at): said for fault, at in every(sweep, STEP[operation.name]) if (said := sweep.wrong(fault, at))}
    assert not wrong
