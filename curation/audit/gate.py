"""Hold a dataset to the precisions that its policy asks for: what is below its bound, in sentences.

A bound holds where the lower end of the 95 % interval reaches it: then a dataset below it would hardly have been judged
so well. A subject that nobody judged does not hold.
"""

from __future__ import annotations

from curation.audit.interval import verdicts_for
from curation.audit.precision import Audit, Precision


def below(found: Audit) -> list[str]:
    """Say of each precision with a bound that does not hold what it is, and how many verdicts could reach the bound."""
    return [_sentence(p) for p in found.precisions if not p.holds]


def _sentence(p: Precision) -> str:
    need = verdicts_for(p.bound or 0.0)
    if p.share is None:
        return f"{p.name}: nobody has judged one, and the policy asks for {p.bound:g}; {need} right ones would show it"
    low, high = p.interval
    return (
        f"{p.name}: {p.right} of {p.judged} judged are right, so {low:.3f} to {high:.3f} of all (95 %); the policy "
        f"asks for {p.bound:g}, which takes {need} verdicts if none is wrong"
    )
