"""Decisions in a person's words: what is wrong, what was measured and what was wanted, never the rule's negation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from toy import filled

from curation.decisions.words import in_words
from schemas import tables as t
from schemas.settings.policy import Policy
from schemas.tables.output import DecisionRow
from schemas.tables.pairing import STATE_REASONS
from stages.pairing.states import Reason
from workflows import catalog


def said(rule: dict[str, str], measured: dict[str, Any], reason: str | None = None) -> str:
    policy = Policy.model_validate({"name": "x", "rules": [{"id": "r", "step": "conversation", **rule}]})
    row = {"unit_id": "a", "outcome": "filtered", "rule": "r", "reason": "x is false", "measured": json.dumps(measured)}
    return str(in_words(DecisionRow(**filled(t.DECISIONS, **row)), policy, reason))


def test_limits_that_are_not_kept_stand_beside_what_was_measured() -> None:
    long = {"on": "segments", "keep": "duration_s BETWEEN 3 AND 8.05", "says": "too short or too long"}
    assert (
        said(long, {"duration_s": 0.7603})
        == "too short or too long; duration 0.76 s, wanted at least 3 s and at most 8.05 s"
    )
    held = {"on": "segments", "keep": "face_in_crop >= 0.95 AND face_at_edge <= 0.05", "says": "cut off"}
    assert said(held, {"face_in_crop": 0.99, "face_at_edge": 0.3}) == "cut off; face at edge 30 %, wanted at most 5 %"


def test_a_state_is_told_with_its_reason() -> None:
    usable = {"on": "segments", "keep": "state <> 'discard'", "says": "they do not belong together"}
    assert said(usable, {"state": "discard"}, "lips_without_voice").endswith(
        "; the lips move as in speech, but nothing is heard"
    )
    assert said(usable, {"state": "discard"}) == "they do not belong together; state: discard"


def test_a_rule_without_words_is_named_and_what_is_unknown_is_said() -> None:
    mine = {"on": "sources", "keep": "coalesce(license = 'CC0', false)"}
    assert said(mine, {"license": None}) == "it fails 'r'; license: unknown"


def test_what_no_rule_decided_keeps_its_own_sentence() -> None:
    row = {
        "unit_id": "a",
        "outcome": "quarantined",
        "rule": "empty_file",
        "reason": "a.mp4 has zero bytes",
        "measured": None,
    }
    assert str(in_words(DecisionRow(**filled(t.DECISIONS, **row)), None)) == "a.mp4 has zero bytes"


def test_every_reason_of_a_state_has_words() -> None:
    assert set(STATE_REASONS) == {r.label for r in Reason}


@pytest.mark.parametrize("name", ["default", "demo"])
def test_every_rule_of_the_built_in_policies_says_what_it_leaves_out(name: str) -> None:
    for rule in catalog.policy(name).rules:
        assert rule.says and not rule.says.endswith(".") and rule.says[0].islower(), rule.id
