"""Policies and rules: checked before use, columns and thresholds read out of the SQL."""

from __future__ import annotations

from typing import Any

import pytest

from curation.decisions.rules import check_policy, columns_of, tables_of, thresholds_of
from schemas import yaml12
from schemas.policy import PolicyError, parse_policy
from workflows import catalog


def policy(on: str, keep: str) -> Any:
    rule = {"id": "r", "on": on, "step": "quality", "keep": keep}
    return parse_policy({"name": "x", "rules": [rule]}, "x.yaml")


@pytest.mark.parametrize("name", ["default", "demo"])
def test_built_in_policies_are_sound(name: str) -> None:
    found = catalog.policy(name)
    check_policy(found)
    assert all(r.why for r in found.rules)


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("duration >= 3", "duration_s"),
        ("duration_s >=", "syntax error"),
        ("duration_s + 1", "DOUBLE"),
        ("1; DROP TABLE shots", "syntax error"),
        ("(SELECT count(*) FROM shots) > 1", "subqueries"),
        ("random() > 0.5", "random() does not give the same answer"),
        ("list_contains([uuid()], 'a')", "uuid() does not give the same answer"),
        ("now() > '2026-01-01'", "now() does not give the same answer"),
        ("ago(INTERVAL 1 DAY) IS NOT NULL", "ago() is more than a function of its arguments"),
        ("len(range(1000000000)) > 1", "range() can grow without bound"),
        ("repeat('a', 1000000000) <> ''", "repeat() can grow without bound"),
        ("count(*) > 1", "count() looks at several units"),
        ("row_number() OVER () > 1", "row_number() looks at several units"),
        ("COLUMNS(*) IS NOT NULL", "names its columns"),
        ("true) OR (false", "syntax error"),
        ("read_text('/etc/passwd') IS NOT NULL", "r"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_by_name(keep: str, words: str) -> None:
    with pytest.raises(PolicyError, match="'r'") as e:
        check_policy(policy("shots", keep))
    assert words in str(e.value)


def test_thresholds_and_tables_are_read_from_the_predicate() -> None:
    rule = policy(
        "tracks", "median_face_px >= 96 AND coalesce(offset_ms, 0) BETWEEN -80 AND 80 AND 3 < shot_duration_s"
    ).rules[0]
    assert [(x.column, x.operator, x.value) for x in thresholds_of(rule)] == [
        ("median_face_px", ">=", 96), ("offset_ms", ">=", -80), ("offset_ms", "<=", 80), ("shot_duration_s", ">", 3),
    ]  # fmt: skip
    assert columns_of(rule) == ("median_face_px", "offset_ms", "shot_duration_s")
    assert tables_of(rule) == {("tracks", "tracks"), ("tracks", "sync"), ("shots", "shots")}


def test_a_malformed_policy_names_file_rule_and_field() -> None:
    with pytest.raises(PolicyError, match=r"x\.yaml.*rule 'Bad', id"):
        parse_policy(
            {"name": "x", "rules": [{"id": "Bad", "on": "shots", "step": "quality", "keep": "true"}]}, "x.yaml"
        )
    with pytest.raises(PolicyError, match="repeat"):
        one = {"id": "a", "on": "shots", "step": "quality", "keep": "true"}
        parse_policy({"name": "x", "rules": [one, one]}, "x.yaml")


def test_yaml_keys_stay_words() -> None:
    assert yaml12.load("{on: shots, yes: no, flag: true}") == {"on": "shots", "yes": "no", "flag": True}


def test_policy_id_follows_what_decides_and_nothing_else() -> None:
    a, b = policy("shots", "duration_s >= 3"), policy("shots", "duration_s >= 3")
    assert a.policy_id == b.model_copy(update={"description": "words"}).policy_id
    assert a.policy_id != policy("shots", "duration_s >= 4").policy_id
