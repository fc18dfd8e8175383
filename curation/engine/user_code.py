"""Modules of a user's own beside a workflow's YAML: found, recorded with the dataset, and taken along to workers.

No PYTHONPATH is needed, and nothing of ours or of what is installed can be shadowed: a user's module is what is looked
for last. The dataset keeps a copy under code/, so that later commands find the code that made it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from curation.storage.store import Store, StoreError
from schemas.settings.use import OURS, imports

Code = Mapping[str, str]
"""Python files: name relative to their folder -> text."""

FOLDER = "code"
_USE = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_][\w.]*")


def collect(folder: Path, uses: Iterable[str]) -> dict[str, str]:
    """Return the files of a folder that hold the modules of `uses` (module:Class) and those which they import."""
    found: dict[str, str] = {}
    todo = modules(uses)
    while todo:
        module = todo.pop()
        for name in _files(module):
            file = folder / name
            if name in found or not file.is_file() or _elsewhere(module, folder):
                continue
            found[name] = file.read_text(encoding="utf-8")
            todo += imports(found[name])
    return dict(sorted(found.items()))


def modules(uses: Iterable[str]) -> list[str]:
    """Return the modules of the texts that are of the form module:Class."""
    return [m.group(1) for m in map(_USE.fullmatch, uses) if m]


def words(data: Any) -> Iterator[str]:
    """Yield every text inside plain data."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from words(value)
    elif isinstance(data, Sequence):
        for value in data:
            yield from words(value)


def install(code: Code, origin: str = FOLDER) -> None:
    """Make modules importable in this process, in place of those of the same names from another dataset."""
    for name, loaded in sys.modules.copy().items():  # at once, whatever another thread imports
        loader = getattr(loaded, "__loader__", None)
        if isinstance(loader, _Text) and loader.file in code and code[loader.file] != loader.text:
            del sys.modules[name]
    _FINDER.files |= {name: (text, f"{origin}/{name}") for name, text in code.items()}
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)


def record(store: Store, code: Code) -> None:
    """Keep the code in the dataset, and nothing of former code."""
    for name in list(store.names(FOLDER)):
        if name.removeprefix(f"{FOLDER}/") not in code:
            store.delete(name)
    for name, text in code.items():
        store.write(f"{FOLDER}/{name}", text.encode())


def recorded(store: Store) -> dict[str, str]:
    """Return the code that a dataset keeps: name -> text. Raises StoreError where a file holds none."""
    out = {}
    for name in sorted(store.names(FOLDER)):
        try:
            out[name.removeprefix(f"{FOLDER}/")] = store.read(name).decode()
        except UnicodeDecodeError as e:
            raise StoreError(f"{name} in {store.uri} is no text in UTF-8: {e}; put the file there again") from e
    return out


def _files(module: str) -> list[str]:
    """Return the files that importing a module reads, relative to where it lies: its packages' and its own."""
    parts = module.split(".")
    outer = ["/".join(parts[: n + 1]) + "/__init__.py" for n in range(len(parts))]
    return [*outer, "/".join(parts) + ".py"]


def _elsewhere(module: str, folder: Path) -> bool:
    """Say whether a module is ours or installed: then that one is meant, whatever lies in the folder."""
    top = module.split(".")[0]
    if top in OURS or top in sys.stdlib_module_names:
        return True
    loaded = sys.modules.get(top)
    if loaded is not None and isinstance(getattr(loaded, "__loader__", None), _Text):
        return False
    spec = importlib.machinery.PathFinder.find_spec(top)
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(folder.absolute())


class _Text(importlib.abc.InspectLoader):
    """Loads one module from its text."""

    def __init__(self, file: str, text: str, origin: str) -> None:
        self.file, self.text, self.origin = file, text, origin

    def get_source(self, fullname: str) -> str:
        return self.text

    def is_package(self, fullname: str) -> bool:
        return self.file.endswith("__init__.py")

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self.text, self.origin, "exec")
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that were installed."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, str]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for file in _files(fullname)[-2:]:
            if file in self.files:
                loader = _Text(file, *self.files[file])
                spec = importlib.util.spec_from_loader(fullname, loader, origin=loader.origin)
                if spec is not None:
                    spec.has_location = True
                return spec
        return None


_FINDER = _Finder()
