"""Policies and rules: checked before use, columns and thresholds read out of the SQL."""

from __future__ import annotations

import time
from typing import Any

import pytest
from table_rows import row

from curation.decisions.decide import decision_sql, evaluate_kind, judging
from curation.decisions.predicate_functions import FUNCTIONS
from curation.decisions.rules import check_policy, columns_of, tables_of, thresholds_of
from curation.storage import duck
from schemas.settings import yaml12
from schemas.settings.policy import PolicyError, parse_policy
from schemas.tables import SHOTS
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
        ("count(*) > 1", "count() is not among the functions"),
        ("row_number() OVER () > 1", "row_number() looks at several units"),
        ("COLUMNS(*) IS NOT NULL", "names its columns"),
        ("true) OR (false", "syntax error"),
        ("true --", "syntax error"),
        ("shots.duration_s > 1", "name a column by itself"),
        ("lowr(shot_id) = 'a'", "did you mean lower"),
        ("$1 > 2", "parameter"),
        ("#1 > 2", "positional_reference"),
        ("duration_s > 1" + " AND duration_s > 1" * 6000, "characters"),
        (" AND ".join(["abs(duration_s) > 1"] * 501), "at most 500 functions"),
        ("(" * 2000 + "duration_s" + ")" * 2000 + " > 1", "depth"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_by_name(keep: str, words: str) -> None:
    with pytest.raises(PolicyError, match="'r'") as e:
        check_policy(policy("shots", keep))
    assert words in str(e.value)


BOMBS = (
    "repeat('a', 1000000000) <> ''",
    "len(range(1000000000)) > 1",
    "replace(replace(replace(shot_id, '0', shot_id), '0', shot_id), '0', shot_id) <> ''",
    "regexp_replace(shot_id, '.', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'g') <> ''",
    "shot_id || shot_id <> ''",
    "concat(shot_id, shot_id) <> ''",
    "concat_ws(shot_id, 'a', 'b', 'c') <> ''",
    "lpad(shot_id, 1000000000, 'x') <> ''",
    "format('{:>1000000000}', shot_id) <> ''",
    "printf('%1000000000d', 1) <> ''",
    "array_to_string(['a', 'b', 'c'], shot_id) <> ''",
    "len(list_transform(['a', 'b'], lambda x: x)) > 1",
    "len(list_reduce(['a', 'b', 'c'], lambda x, y: y)) > 1",
    "len([x for x in ['a', 'b']]) > 1",
    "CAST([CAST([shot_id] AS VARCHAR)] AS VARCHAR) <> ''",
    "CASE WHEN true THEN ['a'] ELSE 'b' END <> ''",
    "CAST(shot_id AS JSON) IS NULL",
    "CAST(shot_id AS VARCHAR[]) IS NULL",
    "to_json({'a': shot_id}) IS NULL",
    "bitstring('1', 1000000000) IS NULL",
    "levenshtein(shot_id, shot_id) > 1",
    "translate(shot_id, 'a', 'b') <> ''",
    "hex(hex(hex(shot_id))) <> ''",
    "url_encode(url_encode(shot_id)) <> ''",
    "list_resize(['a'], 1000000000) IS NULL",
    "factorial(1000000) > 1",
)
MOODS = (
    "random() > 0.5",
    "list_contains([uuid()], 'a')",
    "now() > '2026-01-01'",
    "CAST(now() AS DATE) > '2026-01-01'",
    "today() > '2026-01-01'",
    "ago(INTERVAL 1 DAY) IS NOT NULL",
    "age(make_date(2026, 1, 1)) IS NOT NULL",
    "current_date > '2026-01-01'",
    "current_setting('threads') = '1'",
    "version() = 'x'",
    "current_user = 'x'",
    "txid_current() > 1",
    "pg_sleep(10) IS NULL",
    "hash(shot_id) > 1",
    "error('x') IS NULL",
    "getvariable('x') IS NULL",
    "CAST('2026-01-01' AS TIMESTAMPTZ) > '2026-01-01'",
    "shot_id COLLATE de < 'a'",
    "read_text('/etc/passwd') IS NOT NULL",
    "nextval('x') > 1",
)


@pytest.mark.parametrize("keep", [*BOMBS, *MOODS])
def test_what_may_grow_or_change_its_mind_is_no_part_of_a_rule(keep: str) -> None:
    with pytest.raises(PolicyError, match="rule 'r': "):
        check_policy(policy("shots", keep))
    with pytest.raises(PolicyError, match="rule 'r': "):  # nor where the rule is asked and nobody checked it before
        decision_sql(policy("shots", keep), "shots")


def test_rules_that_are_too_many_to_be_asked_together_are_refused() -> None:
    keep = " AND ".join(["abs(duration_s) > 1"] * 400)
    rules = [{"id": f"r{n}", "on": "shots", "step": "quality", "keep": keep} for n in range(13)]
    many = parse_policy({"name": "x", "rules": rules}, "x.yaml")
    for ask in (check_policy, lambda p: decision_sql(p, "shots")):
        with pytest.raises(PolicyError, match="5200 functions and operators together"):
            ask(many)


@pytest.mark.parametrize(
    "keep",
    [
        "coalesce(emotions IS NULL OR list_has_any(emotions, ['joy', 'calm']), true)",
        "len(string_split(text, ' ')) >= 4 AND text NOT LIKE '%[%' AND regexp_matches(text, '^[A-Z]')",
        "md5(segment_id) < '8' AND lower(trim(state)) IN ('speak', 'listen')",
        "round(abs(duration_s - 5.5), 1) <= 2.5 AND greatest(confidence, 0.1) > 0.2 AND duration_s % 2 < 1.9",
        "CASE WHEN state = 'speak' THEN confidence > 0.5 ELSE TRY(CAST(session AS DOUBLE)) > 0 END",
        "year(try_cast(left(source_license, 10) AS DATE)) >= 2020 OR crop_xywh[1] > 0.1",
        "state IN (" + ", ".join(f"'{n:016x}'" for n in range(4000)) + ")",
        "confidence > 0 AND " + " AND ".join(["duration_s > 0"] * 400),
    ],
)
def test_what_rules_ask_of_a_unit_is_there(keep: str) -> None:
    check_policy(policy("segments", keep))


def test_what_a_rule_may_call_is_there_and_always_answers_alike() -> None:
    with duck.connect() as con:
        steady = "bool_and(stability = 'CONSISTENT' OR stability IS NULL)"
        sql = f"SELECT function_name, list(DISTINCT function_type), {steady} FROM duckdb_functions() GROUP BY 1"
        rows = con.execute(sql).fetchall()
    known = {name: (set(kinds), steady) for name, kinds, steady in rows}
    there = {n: known[n] for n in FUNCTIONS - {"ifnull"}}  # which the parser itself turns into coalesce
    assert {n: kinds for n, (kinds, _) in there.items() if kinds - {"scalar", "macro"}} == {}
    assert [n for n, (_, steady) in there.items() if not steady] == []


def test_times_are_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        with duck.connect() as con:
            assert con.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_values_that_a_rule_cannot_read_and_rules_that_take_too_long_are_told_of() -> None:
    asked = policy("shots", "CAST(shot_id AS INTEGER) > 1")
    check_policy(asked)
    shots = SHOTS.from_rows([row(SHOTS, shot_id="s1", source_id="s", duration_s=1.0)])
    with pytest.raises(PolicyError, match=r"policy x: a rule cannot be asked of .* try_cast"):
        evaluate_kind(asked, {"shots": shots}, "shots")
    asked = policy("shots", "TRY(CAST(shot_id AS INTEGER)) > 1")
    (decision,) = evaluate_kind(asked, {"shots": shots}, "shots").values()
    assert decision.undecidable
    said = r"policy x: .* took longer than 0.01 s"
    with duck.connect() as con, pytest.raises(PolicyError, match=said), judging(con, asked, max_s=0.01):
        con.execute("SELECT pg_sleep(600)")


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
