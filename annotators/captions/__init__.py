"""Captions and second opinions, from signals or from a served model."""
