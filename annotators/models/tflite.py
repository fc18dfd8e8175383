"""How a bare TFLite network is opened here: by LiteRT on one CPU thread, from memory, silently.

LiteRT runs the kernels (XNNPACK) of MediaPipe's tasks without their graphs and threads. Its import, and a model's
opening and closing, write lines to the C-level standard error, which are held back unless opening fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annotators.models.mediapipe_runtime import quiet_stderr
from annotators.protocols import FloatArray


class TfliteNetwork:
    """A network of one float32 input of fixed shape; one thread at a time may run it."""

    def __init__(self, model: bytes) -> None:
        with quiet_stderr():
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
            inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
            interpreter.invoke()  # the first run prepares the kernels, and says so
        if len(inputs) != 1 or any(tensor["dtype"] is not np.float32 for tensor in (*inputs, *outputs)):
            raise ValueError("this network's tensors are not one float32 input and float32 outputs")
        self._input = int(inputs[0]["index"])
        self._outputs = tuple(int(tensor["index"]) for tensor in outputs)
        self._interpreter: Any | None = interpreter

    def input(self) -> FloatArray:
        """Return the input's own memory, to be written in place and let go of before the next run."""
        view: FloatArray = self._opened().tensor(self._input)()
        return view

    def run(self, x: FloatArray | None = None) -> tuple[FloatArray, ...]:
        """Return copies of the outputs for input `x`, or for what was written to `input()`."""
        interpreter = self._opened()
        if x is not None:
            interpreter.set_tensor(self._input, x)
        interpreter.invoke()
        return tuple(interpreter.get_tensor(index) for index in self._outputs)

    def close(self) -> None:
        """Release the network; it cannot be run afterwards."""
        with quiet_stderr():
            self._interpreter = None

    def _opened(self) -> Any:
        if self._interpreter is None:
            raise RuntimeError("this model is closed: make a new one")
        return self._interpreter
