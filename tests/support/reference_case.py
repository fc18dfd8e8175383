"""A portrait that may become a reference."""

from __future__ import annotations

from typing import Any

from stages.references.choice import Image


def image(t_s: float, track: str = "a-t0", quality: float = 0.8, **values: Any) -> Image:
    facts: dict[str, Any] = {
        "source_id": track[0], "track_id": track, "k": round(t_s * 25), "t_s": t_s, "distance": 0.2, "yaw_deg": 0.0,
        "view": "frontal", "expression": "neutral", "expression_score": 0.9,
    }  # fmt: skip
    return Image(**{**facts, "quality": quality, **values})
