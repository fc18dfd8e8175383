"""What is told to who publishes a dataset, or makes one again."""

from __future__ import annotations


class PublishError(ValueError):
    """A dataset that cannot be published as it is; the message says what to do."""


class RecipeError(ValueError):
    """A recipe that cannot be written or followed; the message says what to do."""


class ReplayedError(ValueError):
    """What was asked of a replayed recipe that takes the measurements of a dataset; the message says what to do."""
