"""The words of a source as people corrected them, for stages that read words."""

from __future__ import annotations

from curation.labels.apply import said_words
from curation.stage import Inputs
from schemas import tables as t
from schemas.tables.speech import WordRow


def words_said(inputs: Inputs) -> list[WordRow]:
    """Return WORDS rows in order of time, with WORD_LABELS laid over them."""
    return said_words(t.WORDS.rows(inputs.read(t.WORDS)), t.WORD_LABELS.rows(inputs.read(t.WORD_LABELS)))
