"""A rule with another threshold: the predicate, the policy's text, and what the review says it would do."""

from __future__ import annotations

from pathlib import Path

import pytest
import review_case as case
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curation.audit.audits import Said, judge
from curation.decisions.rules import thresholds_of
from curation.decisions.tune import moved, policy_text, with_rule, written
from curation.report.status import policy_in_force
from curation.review.tune import Chosen, Tuner, tunable
from schemas.settings import yaml12
from schemas.settings.policy import PolicyError, Rule, parse_policy
from workflows import catalog


def rule(keep: str) -> Rule:
    return Rule(id="r", on="segments", step="quality", keep=keep)


@pytest.mark.parametrize(
    ("keep", "n", "value", "becomes"),
    [("duration_s >= 3", 0, 2.5, "duration_s >= 2.5"),
     ("duration_s BETWEEN 3 AND 8.05", 1, 9, "duration_s BETWEEN 3 AND 9"),
     ("duration_s BETWEEN 3 AND 3", 1, 4, "duration_s BETWEEN 3 AND 4"),
     ("level_db > -40.5", 0, -30, "level_db > -30"), ("level_db > -40", 0, 5, "level_db > 5"),
     ("0.5 <= confidence AND framing <> 'tight 0.5'", 0, 0.75, "0.75 <= confidence AND framing <> 'tight 0.5'"),
     ("state <> 'idle' OR digital_silence_ratio <= 0.1", 0, 0.00005,
      "state <> 'idle' OR digital_silence_ratio <= 0.00005")],
)  # fmt: skip
def test_one_number_is_moved(keep: str, n: int, value: float, becomes: str) -> None:
    assert moved(rule(keep), n, value).keep == becomes


@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_a_written_number_is_read_back(value: float) -> None:
    assert float(written(value)) == value
    assert thresholds_of(moved(rule("level_db >= 3"), 0, value))[0].value == value


def test_what_is_no_threshold_is_refused() -> None:
    with pytest.raises(PolicyError, match="none numbered 3"):
        moved(rule("duration_s >= 3"), 3, 1.0)


def test_every_threshold_of_the_built_in_policies_moves_and_keeps_the_text() -> None:
    for name in ("default", "demo"):
        policy = catalog.policy(name)
        origin = catalog.text_of(policy)
        assert origin is not None and tunable(policy)
        for told in tunable(policy)[:: 1 if name == "demo" else 6]:
            old = next(r for r in policy.rules if r.id == told["rule"])
            new = moved(old, int(str(told["n"])), 0.125)
            text = policy_text(policy, new, origin)
            assert parse_policy(yaml12.load(text), "x") == with_rule(policy, new)
            assert text.count("#") == origin.count("#"), "comments are kept"


def test_a_policy_without_a_file_is_written_whole() -> None:
    policy = parse_policy(case.POLICY, "case")
    text = policy_text(policy, moved(policy.rules[2], 0, 4.5), "name: something else")
    assert yaml.safe_load(text)["rules"][2]["keep"] == "duration_s >= 4.5"


def test_what_would_come_in_and_go_out(tmp_path: Path) -> None:
    data = case.dataset(tmp_path / "data", {"a.mp4": tmp_path / "a.mp4"})
    policy = policy_in_force(data)
    assert policy is not None
    text, longer = Chosen(policy.rules[0], 0), Chosen(policy.rules[2], 0)
    kept, lost = (f"{case.source_id_of('a.mp4')}-{x}" for x in ("t0000-00000000", "t0001-00008000"))
    judge(data, "segments", kept, Said("right"), "ann")
    judge(data, "segments", lost, Said("wrong", ["filter"]), "ann")
    tuner = Tuner(data)
    found = tuner.move(policy, text, 0.05, None, None, True)
    assert found["enters"] == [lost] and found["leaves"] == []
    assert found["counts"]["enters"]["n"] == 1 and found["judged"]["enters"]["good"] == 1
    assert sum(found["histogram"]["in"]) == 4 and sum(found["histogram"]["out"]) == 1
    found = tuner.move(policy, longer, 4.5, 0.0, 10.0, True)
    assert found["counts"]["leaves"]["n"] == 4 and kept in found["leaves"] and found["keep"] == "duration_s >= 4.5"
    assert (found["judged"]["leaves"]["good"], found["judged"]["leaves"]["n"]) == (1, 1)
    assert tuner.move(policy, longer, 3.0, 0.0, 10.0, False)["counts"]["stays"]["n"] == 4
    with pytest.raises(PolicyError, match="a number"):
        tuner.move(policy, longer, float("nan"), None, None, False)
    tuner.close()
