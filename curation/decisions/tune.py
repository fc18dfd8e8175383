"""Another threshold in a rule: the predicate, and the policy's text, with one number changed and all else as it was."""

from __future__ import annotations

import re

import yaml

from curation.decisions.rules import thresholds_of
from schemas.settings import yaml12
from schemas.settings.policy import Policy, PolicyError, Rule, parse_policy

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])")


def moved(rule: Rule, n: int, value: float) -> Rule:
    """Return a rule whose n-th threshold has another value. Raises PolicyError where there is no such threshold."""
    known = thresholds_of(rule)
    if not 0 <= n < len(known):
        raise PolicyError(f"rule {rule.id!r} has {len(known)} thresholds, and none numbered {n}")
    want = tuple((x.column, x.operator, value if i == n else x.value) for i, x in enumerate(known))
    for found in _NUMBER.finditer(rule.keep):
        before, after = rule.keep[: found.start()], rule.keep[found.end() :]
        signs = [re.sub(r"-\s*$", "", before), before] if re.search(r"-\s*$", before) else [before]
        for start in signs:
            other = rule.model_copy(update={"keep": f"{start}{written(value)}{after}"})
            try:
                got = tuple((x.column, x.operator, x.value) for x in thresholds_of(other))
            except PolicyError:
                continue
            if got == want:
                return other
    raise PolicyError(f"rule {rule.id!r}: its threshold {known[n].value:g} is no single number that can be moved")


def written(value: float) -> str:
    """Return a number as a policy writes it: without an exponent or zeros that say nothing, where that is short."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    return text if float(text) == value else repr(value)


def with_rule(policy: Policy, rule: Rule) -> Policy:
    """Return a policy with a rule in place of the one of its id."""
    return policy.model_copy(update={"rules": tuple(rule if r.id == rule.id else r for r in policy.rules)})


def policy_text(policy: Policy, rule: Rule, origin: str | None) -> str:
    """Return the YAML of a policy with one rule changed: its own text, comments and all, where that is known.

    `origin` is the text of the file that the policy came from, or None. What is returned says the same as the policy.
    """
    wanted = with_rule(policy, rule)
    old = next(r for r in policy.rules if r.id == rule.id)
    if origin is not None and origin.count(old.keep) >= 1:
        for found in re.finditer(re.escape(old.keep), origin):
            text = f"{origin[: found.start()]}{rule.keep}{origin[found.end() :]}"
            if _says(text) == wanted:
                return text
    values = wanted.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
    assert _says(text) == wanted, "a policy's text says what the policy says"
    return text


def _says(text: str) -> Policy | None:
    try:
        return parse_policy(yaml12.load(text), "policy")
    except (yaml.YAMLError, PolicyError):
        return None
