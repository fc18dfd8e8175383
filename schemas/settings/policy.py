"""Policy: which units are kept, as an ordered list of SQL predicates with reason codes.

Stages measure; a policy decides. `step` names the paper's funnel step, so that a report can be laid beside the
published 100 / 56.82 / 26.11 / 11.52 %. Changing a policy re-decides without decoding a frame.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas.settings import yaml12
from schemas.settings.use import first_wrong

UnitKind = Literal["sources", "shots", "tracks", "segments"]
Step = Literal["rights", "single_shot", "human_presence", "quality", "overlay", "cropping", "av_sync", "conversation"]

STEPS: tuple[Step, ...] = (
    "rights", "single_shot", "human_presence", "quality", "overlay", "cropping", "av_sync", "conversation",
)  # fmt: skip
"""Funnel steps in the paper's order (arXiv 2604.07823, data funnel); `rights` is ours and comes first."""

PAPER_LEFT_PERCENT: dict[str, float] = {"raw": 100.0, "single_shot": 56.82, "cropping": 26.11, "conversation": 11.52}
"""Share of raw clips left after a step, as printed on the paper's funnel figure."""

PAPER_STATES_PERCENT: dict[str, float] = {"speak": 8.50, "listen": 2.02, "idle": 1.01}
"""Share of raw clips by category at the end; `listen` is the paper's "Conversation & Listen"."""


class PolicyError(ValueError):
    """A policy that cannot be used; the message names the file, the rule and the way out."""


class Rule(BaseModel):
    """One predicate: units for which it is false are filtered; null means that it could not be decided."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="reason code")
    on: UnitKind = Field(description="kind of unit the rule looks at")
    step: Step = Field(description="funnel step it belongs to")
    keep: str = Field(min_length=1, description="SQL predicate over the unit's view; true = keep")
    says: str = Field(default="", description="what is wrong with a unit that it leaves out, for people to read")
    why: str = Field(default="", description="where the threshold comes from")


Subject = tuple[str, str]
"""What a precision is of: a kind (`kept`, `state`, `rule`, or an aspect of a kept clip) and a name, or ''."""

SUBJECTS = ("kept", "state", "person", "cut", "caption", "reference", "crop", "rule")
NAMED = ("state", "rule")
"""Kinds of subjects of which there are several, by name."""


class Policy(BaseModel):
    """An ordered list of rules; a unit is filtered by the first rule that is false for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    rules: tuple[Rule, ...]
    audit: dict[str, float] = Field(
        default={},
        description="least precision by people's verdicts, for `lpm status --gate`: of `kept`, `state`, "
        "`state.listen`, `rule`, `rule.no_text`, `person`, `cut`, `caption`, `reference`, `crop`; decides nothing",
    )

    @field_validator("audit")
    @classmethod
    def _bounds(cls, bounds: dict[str, float]) -> dict[str, float]:
        for key, bound in bounds.items():
            kind, _, name = key.partition(".")
            if kind not in SUBJECTS or (name and kind not in NAMED):
                raise ValueError(f"{key!r} has no precision; there are {', '.join(SUBJECTS)}, state.NAME and rule.NAME")
            if not 0 < bound < 1:
                raise ValueError(f"{key}: {bound:g} is no bound that verdicts can reach: give one between 0 and 1")
        return bounds

    @model_validator(mode="after")
    def _unique(self) -> Policy:
        repeated = [i for i, n in Counter(r.id for r in self.rules).items() if n > 1]
        if repeated:
            raise ValueError(f"rule ids repeat: {repeated}")
        named = {key.removeprefix("rule.") for key in self.audit if key.startswith("rule.")}
        if strange := sorted(named - {r.id for r in self.rules}):
            raise ValueError(f"audit: there is no rule {strange[0]!r}")
        return self

    @property
    def policy_id(self) -> str:
        """First 12 hex digits of the SHA-256 over the rules' ids, units, steps and predicates."""
        rules = [(r.id, r.on, r.step, r.keep) for r in self.rules]
        return hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:12]

    def bound(self, subject: Subject) -> float | None:
        """Return the least precision that the policy asks of a subject, by its own name before its kind's."""
        kind, name = subject
        return self.audit.get(f"{kind}.{name}", self.audit.get(kind))

    def on(self, unit: UnitKind) -> tuple[Rule, ...]:
        """Return the rules for one kind of unit, in order."""
        return tuple(r for r in self.rules if r.on == unit)


def parse_policy(data: Any, origin: str) -> Policy:
    """Validate parsed YAML as a policy; `origin` (a file name) goes into error messages."""
    try:
        return Policy.model_validate(data)
    except ValidationError as e:
        raise PolicyError(f"{origin}: {_first_problem(e, data)}") from e


def load_policy(path: Path) -> Policy:
    """Read a policy file (YAML).

    Raises:
        PolicyError: the file is missing, is not YAML, or a rule is malformed.
    """
    try:
        data = yaml12.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise PolicyError(f"no policy file {path}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise PolicyError(f"{path}: not valid YAML: {e}") from e
    return parse_policy(data, str(path))


def _first_problem(e: ValidationError, data: Any) -> str:
    place, said = first_wrong(e, Policy)
    where = ".".join(str(p) for p in place) or "policy"
    if len(place) > 1 and place[0] == "rules" and isinstance(place[1], int):
        rule = data["rules"][place[1]]
        name = rule.get("id", f"number {place[1] + 1}") if isinstance(rule, dict) else str(rule)
        where = f"rule {name!r}, {'.'.join(str(p) for p in place[2:]) or 'whole'}"
    return f"{where}: {said}"
