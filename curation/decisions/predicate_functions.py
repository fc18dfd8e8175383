"""What a policy's predicate may hold: a short list of functions, whose answers follow from the unit and stay small.

A policy may come from anybody. No function here looks at another unit, a clock, a file or a setting, none gives text or
a list that is longer than what it is given, and none takes longer than to read that: whatever a rule says of a unit
takes memory and time in proportion to the rule and the unit. What is not listed is refused, so that a function of a
later DuckDB is too until somebody has looked at it. Costs microseconds a rule.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

_NUMBERS = frozenset(
    {
        "+", "-", "*", "/", "//", "%", "**", "^", "@", "abs", "acos", "add", "asin", "atan", "atan2", "cbrt", "ceil",
        "ceiling", "cos", "cot", "degrees", "divide", "even", "exp", "fdiv", "floor", "fmod", "greatest", "isfinite",
        "isinf", "isnan", "least", "ln", "log", "log10", "log2", "mod", "multiply", "pi", "pow", "power", "radians",
        "round", "sign", "signbit", "sin", "sqrt", "subtract", "tan", "trunc",
    }
)  # fmt: skip
_TEXT = frozenset(
    {
        "!~~", "!~~*", "^@", "~~", "~~*", "~~~", "ascii", "char_length", "character_length", "contains", "ends_with",
        "ilike_escape", "instr", "lcase", "left", "length", "like_escape", "lower", "ltrim", "md5", "nfc_normalize",
        "not_ilike_escape", "not_like_escape", "ord", "position", "prefix", "regexp_extract", "regexp_full_match",
        "regexp_matches", "right", "rtrim", "sha256", "split_part", "starts_with", "strip_accents", "strlen", "strpos",
        "substr", "substring", "suffix", "trim", "ucase", "unicode", "upper",
    }
)  # fmt: skip
_DATES = frozenset(
    {
        "date_diff", "date_part", "date_trunc", "datediff", "datepart", "datetrunc", "day", "dayofweek", "dayofyear",
        "epoch", "hour", "make_date", "minute", "month", "quarter", "second", "strptime", "to_days", "to_hours",
        "to_minutes", "to_months", "to_seconds", "to_years", "try_strptime", "week", "year",
    }
)  # fmt: skip
_OF_LISTS = frozenset(
    {
        "array_contains", "array_has", "array_has_all", "array_has_any", "array_length", "array_position", "element_at",
        "len", "length", "list_any_value", "list_avg", "list_bool_and", "list_bool_or", "list_contains", "list_count",
        "list_extract", "list_element", "list_first", "list_has", "list_has_all", "list_has_any", "list_indexof",
        "list_last", "list_max", "list_median", "list_min", "list_position", "list_sum", "list_unique",
    }
)  # fmt: skip
"""They take a list and give one value."""
_LISTS = frozenset(
    {"list_value", "regexp_extract_all", "regexp_split_to_array", "split", "str_split", "string_split"}
)  # fmt: skip
"""They make a list, which becomes longer text where it is taken for text: only what takes lists may ask for them."""
FUNCTIONS = _NUMBERS | _TEXT | _DATES | _OF_LISTS | _LISTS | {"if", "ifnull", "nullif", "struct_extract"}
"""Functions and operators that a predicate may call, beside comparisons, AND, OR, NOT, IN, CASE, CAST and COALESCE."""
_TYPES = frozenset(
    {
        "BIGINT", "BOOL", "BOOLEAN", "DATE", "DECIMAL", "DOUBLE", "FLOAT", "FLOAT4", "FLOAT8", "INT", "INT4", "INT8",
        "INTEGER", "INTERVAL", "NUMERIC", "REAL", "SMALLINT", "TEXT", "TIME", "TIMESTAMP", "TINYINT", "VARCHAR",
    }
)  # fmt: skip
_CLASSES = frozenset({
    "BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE",
})  # fmt: skip
_OPERATORS = frozenset(
    {
        "ARRAY_EXTRACT", "ARRAY_SLICE", "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE", "OPERATOR_IS_NOT_NULL",
        "OPERATOR_IS_NULL", "OPERATOR_NOT", "OPERATOR_TRY", "STRUCT_EXTRACT",
    }
)  # fmt: skip
_SAID = {
    "SUBQUERY": "a rule is one predicate without subqueries",
    "STAR": "a rule names its columns; it cannot ask of all of them (*, COLUMNS)",
    "LAMBDA": "a rule is one predicate without functions of its own (lambda, ->)",
    "PARAMETER": "a rule has its numbers in it; nothing fills in a parameter",
}
MOST_CHARACTERS = 100_000
"""Of a predicate: room for some thousands of ids in an IN."""
MOST_STEPS = 500
"""Functions, casts, cases and other operators of one predicate: each holds its answers for 2,048 units at a time."""
MOST_TOGETHER = 5_000
"""Of them, in all the rules on one kind of unit, which are asked together."""


def refusal(tree: Any) -> str | None:
    """Return why a parsed predicate (`json_serialize_sql`) may not be asked of a unit; None where it may."""
    for node, outer in walk_within(tree):
        kind, name = str(node.get("class", "")), str(node.get("function_name", ""))
        if kind == "WINDOW":
            return f"{name}() looks at several units, and a rule at one"
        if kind not in _CLASSES | {""}:
            return _SAID.get(kind, f"a rule is made of comparisons and functions, and has no place for {kind.lower()}")
        if kind == "OPERATOR" and node.get("type") not in _OPERATORS:
            return f"a rule has no place for the operator {node.get('type')}"
        if kind == "TYPE" and str(node.get("type_name")).upper() not in _TYPES:
            return f"a rule makes nothing {node.get('type_name')} of a value: it casts to numbers, text, dates, BOOLEAN"
        if kind == "FUNCTION" and (why := _against(name, outer)):
            return why
    if (n := steps(tree)) > MOST_STEPS:
        return f"a rule has at most {MOST_STEPS} functions and operators, and this one {n}; make two rules of it"
    return None


def steps(tree: Any) -> int:
    """Return how many functions, casts, cases and other operators a parsed predicate has."""
    return sum(node.get("class") in ("CASE", "CAST", "FUNCTION", "OPERATOR") for node in walk(tree))


def _against(name: str, outer: str) -> str | None:
    if name not in FUNCTIONS:
        near = difflib.get_close_matches(name, sorted(n for n in FUNCTIONS if n.isidentifier()), 2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return (
            f"{name.replace('count_star', 'count')}() is not among the functions of rules, whose answer follows from "
            f"the unit alone and grows no larger than it{hint}"
        )
    if name in _LISTS and outer not in _OF_LISTS:
        return f"{name}() makes a list, which only len(), list_contains() and their like may take; use IN, or ask them"
    return None


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement, outer before inner, in the order in which they are written."""
    return (found for found, _ in walk_within(node))


def walk_within(node: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every object as `walk` does, each with the name of the function whose argument it is, or ""."""
    todo: list[tuple[Any, str]] = [(node, "")]
    while todo:  # a predicate may be deeper than Python calls itself
        node, outer = todo.pop()
        if isinstance(node, dict):
            yield node, outer
            inner = str(node.get("function_name", "")) if "class" in node else outer
            todo += [(value, inner) for value in reversed(node.values())]
        elif isinstance(node, list):
            todo += [(value, outer) for value in reversed(node)]
