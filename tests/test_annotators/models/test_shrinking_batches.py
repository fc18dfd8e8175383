"""A batch that does not fit into memory is halved, what was done stays done, and it is said."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from annotators.models.batches import OutOfMemoryError, in_batches


def of_torch() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def of_torch_on_the_cpu() -> None:
    torch.empty(2**46)


def of_cublas() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


def of_numpy() -> None:
    np.empty(2**55)


def of_onnxruntime(arena: bool) -> Callable[[], None]:
    """A network that wants 64 TiB, on the CPU: its words are those of the GPU's memory."""
    node = helper.make_node("ConstantOfShape", ["shape"], ["out"])
    wanted = helper.make_tensor_value_info("shape", TensorProto.INT64, [1])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None])
    graph = helper.make_graph([node], "large", [wanted], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.enable_cpu_mem_arena = 4, arena
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda: session.run(None, {"shape": np.array([2**44])})


FAILURES = {
    "torch": of_torch, "torch on the CPU": of_torch_on_the_cpu, "cuBLAS": of_cublas, "NumPy": of_numpy,
    "onnxruntime": of_onnxruntime(True), "onnxruntime without arena": of_onnxruntime(False),
}  # fmt: skip


class Device:
    """Doubles numbers, `room` of them at once."""

    def __init__(self, room: int, fail: Callable[[], None] = of_torch) -> None:
        self.room, self.fail, self.seen = room, fail, list[int]()

    def __call__(self, some: Sequence[int]) -> list[int]:
        if len(some) > self.room:
            self.fail()
        self.seen.append(len(some))
        return [2 * n for n in some]


@given(n=st.integers(0, 40), batch=st.integers(1, 40), room=st.integers(1, 40))
def test_every_item_has_its_result_whatever_fits(n: int, batch: int, room: int) -> None:
    device = Device(room)
    assert in_batches(range(n), batch, device) == [2 * i for i in range(n)]
    assert max(device.seen, default=0) <= min(batch, room) and sum(device.seen) == n


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_too_little_memory_halves_the_batch_and_says_so(
    fail: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    device = Device(3, fail)
    with caplog.at_level(logging.WARNING):
        assert in_batches(range(14), 8, device) == [2 * i for i in range(14)]
    assert device.seen == [2] * 7
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory with 8 at once; going on with 4",
        "out of memory with 4 at once; going on with 2",
    ]


def test_one_that_does_not_fit_alone_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(OutOfMemoryError, match="single item; give the stage more memory"):
        in_batches(range(3), 2, Device(0))


def test_other_errors_are_not_hidden() -> None:
    def broken(_: Sequence[int]) -> list[int]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        in_batches(range(3), 2, broken)
    with pytest.raises(ValueError, match="2 items went in and 1 results came back"):
        in_batches(range(3), 2, lambda some: list(some)[:1])
