"""Overlapped voices taken apart by a Conv-TasNet of your own, in the form of torchaudio's: an optional part.

No package carries such weights, so neither what they change nor their cost was measured with published ones. torchaudio
publishes `conv_tasnet_base_libri2mix.pt` (two voices, 8 kHz; Luo and Mesgarani, arXiv 1809.07454); any state of its
class ConvTasNet does, at the rate that it was trained for. Sound above half that rate is lost where voices are taken
apart.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from annotators.models import weights
from annotators.models.onnx_session import Device
from annotators.models.weights import WeightsMismatch
from annotators.optional_parts import of_the_full_set
from annotators.parts import Made
from annotators.protocols_speech import FloatArray

_PACKAGE = "torchaudio"
_ASKED = ("separator=conv_tasnet", _PACKAGE, "separator=none")


class ConvTasNetSeparator:
    """Conv-TasNet: estimates of as many voices as the network was trained for, which add up to about the mixture."""

    def __init__(
        self,
        model: str,
        rate_hz: Annotated[int, Field(ge=8000, le=48_000)] = 8000,
        layers: Annotated[int, Field(ge=1)] = 8,
        mask: Literal["relu", "sigmoid"] = "relu",
        device: Device = "cpu",
    ) -> None:
        """Open the network.

        Args:
            model: a file with the state of a torchaudio ConvTasNet, by path or by its name in OPENLPM_MODELS.
            rate_hz: the rate that the network was trained for (Hz).
            layers: layers of one stack, each of twice the dilation of the one before: what the state does not say.
            mask: what makes masks of the last layer's output; that of `conv_tasnet_base` is relu.
            device: cpu or cuda.

        Raises:
            WeightsNotFound: no such file.
            WeightsMismatch: it is no state of this network.
            PartNotInstalledError: torchaudio is not there.
        """
        made = self.made_of(model)
        (file,) = made.weights
        import torch

        try:
            from torchaudio.models import ConvTasNet
        except (ImportError, OSError) as e:  # OSError: libraries linked with a CUDA that is not there
            raise of_the_full_set(*_ASKED, e) from e
        self.name, self.weights, self.rate_hz = made.name, made.weights, rate_hz
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            self._network = ConvTasNet(**_shape(state, layers), msk_activate=mask)
            self._network.load_state_dict(state)
        except Exception as e:  # a pickle of other things, missing names, other shapes
            said = str(e).splitlines()[0][:200]
            raise WeightsMismatch(
                f"{file} is no state of torchaudio's ConvTasNet with stacks of {layers} layers ({said}): save "
                "`network.state_dict()` of one, and say `layers` where it is not 8"
            ) from e
        self._device = torch.device(device)
        self._network.eval().to(self._device)

    @classmethod
    def made_of(cls, model: str, **_: object) -> Made:
        """Name the file and torchaudio's version, without loading either. Raises as the class does."""
        try:
            version = importlib.metadata.version(_PACKAGE)
        except importlib.metadata.PackageNotFoundError as e:
            raise of_the_full_set(*_ASKED) from e
        file = weights.locate(model)
        return Made(f"conv-tasnet:{file.name}", (str(file),), {_PACKAGE: version}, private=("model",))

    def separate(self, mixture: FloatArray) -> FloatArray:
        """Return estimates [S, N] of the voices in mono sound [N] at `rate_hz`, in any order.

        Raises ValueError for sound of another shape and for values that are not finite.
        """
        import torch

        if mixture.ndim != 1 or not np.isfinite(mixture).all():
            raise ValueError(f"sound must be mono and finite, got {mixture.shape}: decode it again")
        if not len(mixture):
            return np.zeros((self._network.num_sources, 0), np.float32)
        with torch.inference_mode():
            sound_B1N = torch.from_numpy(np.ascontiguousarray(mixture, np.float32))[None, None].to(self._device)
            return np.asarray(self._network(sound_B1N)[0].cpu().numpy(), np.float32)


def _shape(state: Mapping[str, Any], layers: int) -> dict[str, int]:
    """Return the arguments of ConvTasNet by which a state's tensors have their shapes."""
    features, _, kernel = state["encoder.weight"].shape
    between, _, _ = state["mask_generator.input_conv.weight"].shape
    out, _, _ = state["mask_generator.output_conv.weight"].shape
    hidden, _, width = state["mask_generator.conv_layers.0.conv_layers.3.weight"].shape
    blocks = len({name.split(".")[2] for name in state if name.startswith("mask_generator.conv_layers.")})
    if blocks % layers:
        raise ValueError(f"{blocks} layers are no whole number of stacks")
    return {
        "num_sources": out // features,
        "enc_kernel_size": kernel,
        "enc_num_feats": features,
        "msk_kernel_size": width,
        "msk_num_feats": between,
        "msk_num_hidden_feats": hidden,
        "msk_num_layers": layers,
        "msk_num_stacks": blocks // layers,
    }
