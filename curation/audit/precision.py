"""How often the dataset is right by people's verdicts: for every state, rule and aspect, with a 95 % interval.

A verdict is about what was claimed when it was given. It counts for a claim of now where it tells whether that is
right: a state judged right speaks against any other state of the same clip; a caption or crop that was made anew is
not judged. Of several verdicts on one unit each author's newest counts; of several authors' the newest that is sure.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from curation.audit.follow import Present, followed
from curation.audit.interval import kappa, wilson
from curation.dataset import Dataset
from schemas import tables as t
from schemas.settings.policy import SUBJECTS, Policy, Subject
from schemas.tables.audits import AuditRow

KEPT: Subject = ("kept", "")
STATE, RULE = "state", "rule"
CLAIMS = ("person", "cut", "caption", "reference", "crop")
"""Aspects whose claim an audit keeps."""


@dataclass(frozen=True, slots=True)
class Precision:
    """The share of right ones among the judged, with its Wilson interval; `bound` is what the policy asks for.

    Of the subject `kept` it is the share of kept clips in which nothing is wrong; of a rule the share of what it left
    out rightly, so that `lost` is the share of good ones lost.
    """

    subject: Subject
    right: int
    judged: int
    unsure: int
    population: int
    """how many units there are of which it speaks"""
    bound: float | None = None

    @property
    def name(self) -> str:
        """The subject in words."""
        return " ".join(filter(None, self.subject))

    @property
    def share(self) -> float | None:
        """Return right / judged; None where nothing was."""
        return self.right / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return wilson(self.right, self.judged)

    @property
    def lost(self) -> tuple[float, float, float] | None:
        """Of a rule: the share of good ones lost, and its interval."""
        if self.subject[0] != RULE or self.share is None:
            return None
        low, high = self.interval
        return 1 - self.share, 1 - high, 1 - low

    @property
    def holds(self) -> bool:
        """The interval's lower end reaches the bound, or there is none."""
        return self.bound is None or self.interval[0] >= self.bound


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two readers agree on the units that both judged, unsure ones left out."""

    first: str
    second: str
    units: int
    agreed: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Audit:
    """All that verdicts say of a dataset."""

    precisions: list[Precision]
    agreements: list[Agreement]
    readers: dict[str, int]
    """units that each author judged"""
    adrift: int
    """verdicts whose units are no more"""


def audit(dataset: Dataset, policy: Policy | None) -> Audit:
    """Count a dataset's verdicts; costs the audited sources' tables and one look at all decisions."""
    by_unit: dict[tuple[str, str], dict[str, tuple[AuditRow, Present]]] = defaultdict(dict)
    adrift = 0
    rows = t.AUDITS.rows(dataset.table(t.AUDITS)) if dataset.files(t.AUDITS) else []
    for row, now in followed(dataset, sorted(rows, key=lambda r: (r.judged_at, r.audit_id))):
        if now is None:
            adrift += 1
        else:
            by_unit[now.unit, now.unit_id][row.author] = (row, now)
    right, judged, unsure = Counter[Subject](), Counter[Subject](), Counter[Subject]()
    readers: Counter[str] = Counter()
    for verdicts in by_unit.values():
        readers.update(verdicts.keys())
        newest = sorted(verdicts.values(), key=lambda v: (v[0].verdict != "unsure", v[0].judged_at))
        row, now = newest[-1]
        if row.verdict == "unsure":
            unsure.update(_about(now))
        for subject, said in answers(row, now).items():
            judged[subject] += 1
            right[subject] += said
    people = population(dataset) if rows or (policy is not None and policy.audit) else {}
    subjects = sorted(
        {*people, *judged}, key=lambda s: (SUBJECTS.index(s[0]), -people.get(s, 0), s[1])
    )  # what a rule left out most comes first
    return Audit(
        [
            Precision(s, right[s], judged[s], unsure[s], people.get(s, 0), None if policy is None else policy.bound(s))
            for s in subjects
        ],
        _agreements([{a: row for a, (row, _) in v.items()} for v in by_unit.values()]),
        dict(sorted(readers.items())),
        adrift,
    )


def answers(row: AuditRow, now: Present) -> dict[Subject, bool]:
    """Return of which of the dataset's present claims about a unit a verdict says that they are right, or wrong."""
    if row.verdict == "unsure":
        return {}
    kept = row.outcome == "kept"
    if now.outcome == "filtered":
        if now.rule is None:
            return {}
        subject: Subject = (RULE, now.rule)
        if "filter" in row.what:
            return {subject: kept}
        if row.verdict == "right":
            return {subject: not kept}
        return {}  # something else is wrong with it, and whether it should be in was not said
    if now.outcome != "kept":
        return {}
    if not kept:
        # It was rightly left out then; where it was not, nobody has judged what it claims.
        return {KEPT: False} if row.verdict == "right" else {}
    out: dict[Subject, bool] = {}
    state = _state(row, now)
    if state is not None and now.state is not None:
        out[STATE, now.state] = state
    then: Mapping[str, object] = json.loads(row.claimed)
    asked = [a for a in CLAIMS if now.claims.get(a) is not None]
    for aspect in asked:
        if then.get(aspect) == now.claims[aspect]:
            out[aspect, ""] = aspect not in row.what
    if "filter" in row.what or not all(out.values()):
        out[KEPT] = False
    elif len(out) == len(asked) + (now.state is not None):
        out[KEPT] = True
    return out


def _state(row: AuditRow, now: Present) -> bool | None:
    """Say whether the present state is right by a verdict; None where that is not known."""
    if row.true_state is not None:
        return now.state == row.true_state
    if "state" not in row.what:
        return now.state == row.state
    return False if now.state == row.state else None


def _about(now: Present) -> Iterable[Subject]:
    """Return the subjects that a verdict on a unit could speak of."""
    if now.outcome == "filtered" and now.rule is not None:
        return [(RULE, now.rule)]
    if now.outcome == "kept":
        return [KEPT, *([(STATE, now.state)] if now.state else [])]
    return []


def population(dataset: Dataset) -> dict[Subject, int]:
    """Return how many units each precision speaks of: kept segments, these by state, units left out by each rule."""
    out: Counter[Subject] = Counter()
    for part in dataset.slices(times=3):
        con = dataset.connect(tables=[t.DECISIONS, t.SEGMENTS], part=part)
        sql = (
            "SELECT state, count(*) FROM segments s JOIN decisions d ON d.unit_id = s.segment_id "
            "WHERE d.unit = 'segments' AND d.outcome = 'kept' GROUP BY 1"
        )
        for state, n in con.execute(sql).fetchall():
            out[STATE, state] += n
            out[KEPT] += n
        sql = "SELECT rule, count(*) FROM decisions WHERE outcome = 'filtered' AND rule IS NOT NULL GROUP BY 1"
        for rule, n in con.execute(sql).fetchall():
            out[RULE, rule] += n
        con.close()
    if out[KEPT]:
        out.update({(a, ""): out[KEPT] for a in CLAIMS})
    return {s: n for s, n in out.items() if n}


def _agreements(units: list[dict[str, AuditRow]]) -> list[Agreement]:
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for verdicts in units:
        sure = {a: r.verdict for a, r in verdicts.items() if r.verdict != "unsure"}
        for a, b in combinations(sorted(sure), 2):
            pairs[a, b].append((sure[a], sure[b]))
    return [
        Agreement(a, b, len(said), sum(x == y for x, y in said), kappa(said)) for (a, b), said in sorted(pairs.items())
    ]
