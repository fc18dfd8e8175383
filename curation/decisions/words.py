"""What a decision says in a person's words: what is wrong with a unit, what was measured, and what was wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from curation.decisions.rules import Threshold, thresholds_of
from schemas.settings.policy import Policy, Rule
from schemas.tables.output import DecisionRow
from schemas.tables.pairing import STATE_REASONS
from schemas.units import view_columns

_WANTED = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than", "=": "exactly", "<>": "not"}
_HOLDS = {
    ">=": float.__ge__, ">": float.__gt__, "<=": float.__le__, "<": float.__lt__, "=": float.__eq__,
    "<>": float.__ne__,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """What is wrong, and the measurements that say so."""

    what: str
    facts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join((self.what, *self.facts))


def in_words(decision: DecisionRow, policy: Policy | None, state_reason: str | None = None) -> Said:
    """Say why a unit was left out.

    Args:
        decision: what was decided.
        policy: by which rules; what no rule of it decided has a sentence already.
        state_reason: `segments.reason` of the unit, told where a rule looked at its state.
    """
    rule = next((r for r in policy.rules if r.id == decision.rule), None) if policy else None
    if rule is None or decision.outcome != "filtered":
        return Said(decision.reason or "")
    measured = json.loads(decision.measured or "{}")
    facts = limits_in_words(rule, measured)
    if not facts and "state" in measured and (told := STATE_REASONS.get(state_reason or "")):
        facts = (told,)
    return Said(heading(rule), facts or tuple(f"{_name(c)}: {_value(rule, c, v)}" for c, v in measured.items()))


def heading(rule: Rule) -> str:
    """Return what is wrong with units that a rule leaves out; of a rule that does not say so, its name."""
    return rule.says or f"it fails {rule.id.replace('_', ' ')!r}"


def limits_in_words(rule: Rule, measured: Mapping[str, object]) -> tuple[str, ...]:
    """Return `duration 0.76 s, wanted at least 3 s` for each limit of a rule that is not kept."""
    limits: dict[str, list[Threshold]] = {}
    for x in thresholds_of(rule):
        limits.setdefault(x.column, []).append(x)
    out = []
    for column, wanted in limits.items():
        value = measured.get(column)
        if isinstance(value, (int, float)) and not all(_HOLDS[x.operator](float(value), x.value) for x in wanted):
            said = " and ".join(f"{_WANTED[x.operator]} {_value(rule, column, x.value)}" for x in wanted)
            out.append(f"{_name(column)} {_value(rule, column, value)}, wanted {said}")
    return tuple(out)


def _name(column: str) -> str:
    return column.removesuffix("_s").removesuffix("_px").removesuffix("_ms").replace("_", " ")


def _value(rule: Rule, column: str, value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    known = view_columns(rule.on).get(column)
    unit = known[1].unit if known else ""
    if unit == "0-1":
        return f"{100 * value:.3g} %"
    return f"{value:.3g} {unit}".strip() if unit in ("s", "ms", "px", "dB", "dBFS", "deg", "Hz") else f"{value:.3g}"
