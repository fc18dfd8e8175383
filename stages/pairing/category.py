"""The class of a segment as LPM 1.0's semantic verifier names it, decided here by rule from states, turns and faces.

The paper's verifier is a fine-tuned audio-visual language model (78 % F1 over six classes); these rules look at who
answers whom instead. They catch what the classes are for: listening that is in no dialogue (a voice-over, a
narration), and speaking that is really an exchange. A back-end behind an endpoint may judge again.
Pure; microseconds a segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stages.attribution.turn_taking import Utterance, in_dialogue
from stages.pairing.states import State

Category = Literal["Speak", "Conversation", "Listen_dialogue", "Listen_nondialogue", "Silence", "Unknown"]

_EXCHANGE_S = 0.3
"""Another voice's turn inside a speaking segment of at least this makes it an exchange (shorter: a diarizer's slip)."""


def categorise(
    state: State,
    *,
    other_voices_s: float,
    partner_in_view: bool,
    partner_answers: bool,
) -> Category:
    """Return the class of a segment.

    Args:
        state: its state.
        other_voices_s: seconds of turns of other voices than its main one, backchannels left out.
        partner_in_view: the face of the voice listened to is in the same picture.
        partner_answers: the voice listened to takes turns with another voice of this source.
    """
    if state is State.IDLE:
        return "Silence"
    if state is State.DISCARD:
        return "Unknown"
    if state is State.LISTEN:
        return "Listen_dialogue" if partner_in_view or partner_answers else "Listen_nondialogue"
    if state is State.BOTH or other_voices_s >= _EXCHANGE_S:
        return "Conversation"
    return "Speak"


def voices_in_dialogue(utterances: Sequence[Utterance]) -> Mapping[str, bool]:
    """Return per voice whether it takes turns with any other voice (an answer within five seconds)."""
    voices = sorted({u.speaker for u in utterances})
    return {a: any(in_dialogue(utterances, a, b) for b in voices if b != a) for a in voices}
