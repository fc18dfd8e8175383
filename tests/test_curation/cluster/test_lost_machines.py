"""What a machine does while it dies is told from faults of the work: what workers tell, and who is gone."""

from __future__ import annotations

import itertools
import pickle
import socket
from collections.abc import Iterator

import ray

from curation.cluster.engine_ray import RayStoppedError, _translate, _unexplained
from curation.cluster.lane_worker import told
from curation.cluster.watch import lost
from curation.engine.stage_call import MachineError
from curation.engine.step import StageSetupError
from curation.storage.store import StoreError

HERE = {"1": "red", "2": "green"}


def living(*looks: set[str]) -> Iterator[set[str]]:
    return itertools.chain(looks, itertools.repeat(looks[-1]))


def test_who_is_gone_is_known_at_once_or_a_little_later() -> None:
    for looks in ([{"2"}], [{"1", "2", "3"}, {"1", "2"}, {"2", "3"}]):
        seen = living(*looks)
        assert lost(HERE, lambda seen=seen: next(seen), wait_s=60.0) == {"1": "red"}
    assert lost(HERE, lambda: {"1", "2", "3"}, wait_s=0.01) == {}


class NotToHandOn(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def raised(e: Exception) -> Exception:
    try:
        raise e
    except Exception as caught:
        return caught


def test_a_worker_tells_its_error_with_its_machine() -> None:
    ours = told(raised(MachineError("no room", "; make some")), "node")
    assert isinstance(ours, MachineError) and ours.node == "node" and str(ours) == "no room; make some"
    bug = pickle.loads(pickle.dumps(told(raised(KeyError("column")), "node")))
    (note,) = bug.__notes__
    assert isinstance(bug, KeyError) and socket.gethostname() in note and "raise e" in note
    other = told(raised(NotToHandOn(1, 2)), "node")
    assert str(other) == "NotToHandOn: 1 and 2" and "raise e" in other.__notes__[0]


def test_errors_of_ours_say_what_they_are_and_others_may_be_a_dying_machines() -> None:
    text = (
        "remote:\n  somewhere\nOSError: Broken pipe\nFailed to apply UDF transform after 1/1 attempts.\nSee settings."
    )
    ray_s = ray.exceptions.RayTaskError("f", text, raised(OSError("Broken pipe")))
    assert isinstance(_translate(ray_s), RayStoppedError)
    assert str(_translate(ray_s)) == "Ray stopped the run: OSError: Broken pipe; run the same command again to go on"
    of_ours = _translate(ray.exceptions.RayTaskError("f", text, raised(StageSetupError("no weights"))))
    assert isinstance(of_ours, StageSetupError)
    for error, may_be in (
        (_translate(ray_s), True),
        (KeyError("a"), True),
        (StoreError("no"), False),
        (of_ours, False),
    ):
        assert _unexplained(error) == may_be, error
