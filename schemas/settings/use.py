"""One idiom for everything that can be exchanged: `use: module:Class`, with the constructor's arguments as settings.

Stages, back-ends and the trainer's codecs are all named and checked here. What is named is imported, nothing is built.
Costs the import of the module that is named.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from schemas.settings import yaml12

OURS = frozenset({"annotators", "curation", "lpm_train", "schemas", "stages", "workflows"})
"""Packages whose classes a version tells apart; code of others is known by its hash."""


FINITE = "write a finite number"


class UseError(ValueError):
    """A `use:` or a setting that cannot be used; the message says what to write instead."""


def near(word: str, known: Iterable[str]) -> str:
    """Say which known word was meant, by the whole or by its last part, or else name them all."""
    known = list(known)
    tails = {k.rpartition(".")[2]: k for k in reversed(known)}
    found = difflib.get_close_matches(word, known, 1) or [
        tails[t] for t in difflib.get_close_matches(word.rpartition(".")[2], list(tails), 1)
    ]
    return f"did you mean {found[0]!r}?" if found else f"there are: {', '.join(known) or 'none'}"


def first_wrong(e: ValidationError, model: type[BaseModel]) -> tuple[tuple[int | str, ...], str]:
    """Return where the first fault of a file's content lies, and what it is; of an unknown key, the nearest known one.

    Unknown keys come first: a misspelt one is why the right one is missing.
    """
    errors = e.errors()
    unknown = next((x for x in errors if x["type"] == "extra_forbidden"), None)
    if unknown is None:
        return errors[0]["loc"], errors[0]["msg"]
    *place, key = unknown["loc"]
    return tuple(place), f"there is no key {str(key)!r}; {near(str(key), _keys(model, place))}"


def _keys(model: Any, place: Iterable[int | str]) -> list[str]:
    """Return the keys of the model that lies at a place inside another: a field's, or one of a dict or list of such."""
    for part in place:
        if inspect.isclass(model) and issubclass(model, BaseModel):
            model = model.model_fields[str(part)].annotation
        else:
            model = next(a for a in get_args(model) if inspect.isclass(a) and issubclass(a, BaseModel))
    return list(model.model_fields)


def load(use: str) -> Callable[..., Any]:
    """Import what `module:Class` (or `module:Class.method`) names. Raises UseError."""
    module, colon, path = use.partition(":")
    if not (module and colon and path):
        raise UseError(f"{use!r} names no class; write module:Class")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name == module:
            where = "beside the workflow's YAML file, or where Python finds it"
            raise UseError(f"there is no module {module!r} (for {use}); put {module}.py {where}") from e
        raise UseError(f"{use} cannot be imported: {e}; install what it needs") from e
    for name in path.split("."):
        if not hasattr(found, name):
            own = [n for n, v in vars(found).items() if inspect.isclass(v) and v.__module__ == module]
            raise UseError(f"{use}: {getattr(found, '__name__', module)} has no {name}; {near(name, own)}")
        found = getattr(found, name)
    if not inspect.isclass(owner(found)):
        raise UseError(f"{use} is no class: it cannot be built")
    return found  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Shared:
    """Marks a setting that stages have in common: the workflow's block `shared` gives it, under this name."""

    name: str


def read_setting(text: str) -> tuple[list[str], Any]:
    """Return path and value of `section.name=value`; the value is YAML, or a Python literal such as 1e-3 or (1, 2).

    Raises UseError where it is not of that form.
    """
    path, eq, value = text.partition("=")
    names = path.strip().split(".")
    if not eq or len(names) < 2 or not all(names):
        raise UseError(f"--set {text!r}: write it as section.setting=value, e.g. scan.portrait_px=256 or optim.lr=1e-3")
    try:
        read = yaml12.load(value)
    except yaml.YAMLError as e:
        why = getattr(e, "problem", None) or e
        raise UseError(f"--set {text!r}: {value!r} is no YAML value: {why}; close what is open, or quote it") from e
    with contextlib.suppress(ValueError, SyntaxError, TypeError):
        read = ast.literal_eval(read) if isinstance(read, str) else read
    return names, read


def assign(settings: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set `a.b = value` in nested settings, in place; a part that is named by a word alone keeps it as its `use`."""
    *outer, last = path
    for name in outer:
        inner = settings.get(name)
        settings[name] = settings = (
            dict(inner) if isinstance(inner, Mapping) else {} if inner is None else {"use": inner}
        )
    settings[last] = value


def owner(builder: Callable[..., Any]) -> Any:
    """Return the class that a class or one of its class methods builds."""
    made = getattr(builder, "__self__", builder)
    return builder if inspect.ismodule(made) else made


def arguments(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a builder's arguments by name, with their annotations evaluated where that is possible."""
    try:
        found = inspect.signature(builder, eval_str=True)
    except NameError:  # a name that is imported for the type checker alone
        found = inspect.signature(builder)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in found.parameters.items() if p.kind in kinds}


def checked(builder: Callable[..., Any], given: Mapping[str, Any], offered: Sequence[str] = ()) -> dict[str, Any]:
    """Return `given` as the builder's argument types want them.

    Args:
        builder: what will be called with them.
        given: settings as they were written.
        offered: arguments that come from elsewhere when it is built.

    Raises:
        UseError: a setting that the builder does not take, one of a wrong type, or one that is missing.
    """
    known = arguments(builder)
    name = owner(builder).__name__
    unknown = [k for k in given if k not in known]
    if unknown:
        raise UseError(f"{name} has no setting {unknown[0]!r}; {near(unknown[0], known)}")
    missing = [n for n, p in known.items() if p.default is p.empty and n not in given and n not in offered]
    if missing:
        raise UseError(f"{name} needs {', '.join(missing)}")
    out = {}
    for key, value in given.items():
        try:
            out[key] = _adapter(known[key].annotation).validate_python(value)
        except ValidationError as e:
            more = ": write a value" if value is None else ""  # what nothing behind an = is read as
            raise UseError(f"{name}, {key}: {e.errors()[0]['msg']} (got {value!r}{more})") from e
        if (wrong := not_finite(out[key])) is not None and wrong != known[key].default:
            raise UseError(f"{name}, {key}: {FINITE} (got {value!r})")
    return out


def not_finite(value: Any) -> float | None:
    """Return the first number of a setting's value, however deep, that is infinite or none; None where there is none.

    YAML reads `.nan` and `.inf`, and most bounds let one of them through; what is computed with them tells nothing.
    """
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    inner = value if isinstance(value, (list, tuple, set, frozenset)) else ()
    return next((found for v in inner if (found := not_finite(v)) is not None), None)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return TypeAdapter(Any)
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a model or a dataclass brings its own configuration
        return TypeAdapter(annotation)


def code_sha256(module: str) -> str | None:
    """Return the hash of a module that is not ours and of the modules beside it that it imports; None for ours."""
    if module.split(".")[0] in OURS:
        return None
    digest = hashlib.sha256()
    for name, text in sorted(_sources(module, Path(getattr(sys.modules[module], "__file__", None) or module).parent)):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def _sources(module: str, folder: Path) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        text = None if name in found else _source(name, folder)
        if text is not None:
            found[name] = text
            todo += imports(text)
    return list(found.items())


def _source(module: str, folder: Path) -> str | None:
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if loaded is None or file is None or not Path(file).is_relative_to(folder):
        return None
    with contextlib.suppress(OSError, ImportError, AttributeError):
        text: str | None = loaded.__loader__.get_source(module)  # type: ignore[union-attr]
        return text
    return None


@functools.lru_cache(maxsize=256)  # each stage of a module asks, several times a run
def imports(source: str) -> frozenset[str]:
    """Return the names of the modules that a source text imports, relative ones left out."""
    out = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            out |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return frozenset(out)
