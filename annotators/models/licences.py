"""Which licences of weights allow commercial use, as far as their names tell. Costs nothing."""

from __future__ import annotations

import re

_BARRED = re.compile(r"research|academic|unknown|\bnc\b|\bnon?t?[\s-]*(for\s+)?commercial", re.IGNORECASE)


def commercial(licence: str | None) -> bool:
    """Say whether a licence is known and does not say that it is for research, or not for commercial use."""
    return bool(licence and licence.strip()) and not _BARRED.search(licence or "")
