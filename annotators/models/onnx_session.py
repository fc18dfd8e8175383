"""How every onnxruntime model here is opened: on one thread, quietly, on the CPU unless CUDA is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnxruntime

from annotators.optional_parts import PartNotInstalledError

Device = Literal["cpu", "cuda"]

_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


def open_session(
    model: Path | str | bytes, *, arena: bool = True, device: Device = "cpu"
) -> onnxruntime.InferenceSession:
    """Open a model's file, or its bytes.

    One thread, so that its numbers do not depend on the machine and workers share the cores.

    Of a model with 8-bit weights the weights alone are 8-bit; it is computed in float32, for the same reason.

    `arena=False` gives memory back after each run instead of keeping the most that was ever needed.
    Raises PartNotInstalledError where CUDA is asked for and this onnxruntime, or this machine, has none.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3
    # Fused 8-bit products saturate on processors without VNNI: there YAMNet heard noise at 0.36 that is 0.69.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    providers = [p for p in _PROVIDERS[device] if p in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=providers
    )
    if session.get_providers()[0] != _PROVIDERS[device][0]:  # onnxruntime goes on without a provider that fails
        name = "a network" if isinstance(model, bytes) else Path(model).name
        raise PartNotInstalledError(
            f"device={device} needs onnxruntime-gpu and a GPU that it can use; here {name} would run by "
            f"{session.get_providers()[0]}: install it (docs/models.md), or choose device=cpu"
        )
    return session
