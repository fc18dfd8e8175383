"""How every onnxruntime model here is opened: on one thread, quietly, on the CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def open_session(file: Path, *, arena: bool = True) -> onnxruntime.InferenceSession:
    """Open a model file. One thread, so that its numbers do not depend on the machine and workers share the cores.

    `arena=False` gives memory back after each run instead of keeping the most that was ever needed.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
