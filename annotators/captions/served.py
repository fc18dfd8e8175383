"""What back-ends behind an OpenAI-compatible endpoint have in common: an address, a model's name, patience. No cost."""

from __future__ import annotations

import os
from typing import Annotated, Self

from pydantic import Field

from annotators.captions.chat import ChatEndpoint, Patience
from annotators.parts import Made


class ServedModel:
    """A model that is asked over the network and sees `n_frames` frames of a clip; its name says which it is."""

    weights: tuple[str, ...] = ()  # they live at the server

    def __init__(self, endpoint: ChatEndpoint, model: str, n_frames: int = 8, patience: Patience | None = None) -> None:
        """Take an endpoint and the model's name there. Raises ValueError where no frame is to be shown."""
        if n_frames < 1:
            raise ValueError(f"n_frames must be 1 or more, got {n_frames}")
        self.name = f"openai:{model}"
        self.n_frames = n_frames
        self._endpoint, self._model, self._patience = endpoint, model, patience or Patience()

    @classmethod
    def served(
        cls,
        base_url: Annotated[str, Field(pattern="^https?://")],
        model: Annotated[str, Field(min_length=1)],
        api_key_env: str = "OPENAI_API_KEY",
        n_frames: Annotated[int, Field(ge=1, le=64)] = 8,
        max_attempts: Annotated[int, Field(ge=1)] = 3,
        timeout_s: Annotated[float, Field(gt=0)] = 60.0,
        budget_s: Annotated[float, Field(gt=0)] = 150.0,
    ) -> Self:
        """Return the back-end behind an address such as http://host:8000/v1; its key is in a variable's value.

        `timeout_s` bounds one request, `budget_s` all requests and pauses of one clip together, in seconds. Raises
        ValueError for an address that is none.
        """
        endpoint = ChatEndpoint(base_url, os.environ.get(api_key_env) or None)
        return cls(endpoint, model, n_frames, Patience(max_attempts, timeout_s, budget_s))

    @classmethod
    def made_of(cls, model: str, **_: object) -> Made:
        """Name the served model; its weights live at the server, and its address is nobody's business."""
        return Made(f"openai:{model}", private=("base_url", "api_key_env"), served=(model,))
