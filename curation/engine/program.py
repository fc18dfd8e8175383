"""What a workflow's stages would be on this machine, told without importing one: that takes seconds.

What determines their outputs follows from the workflow, the user's modules, our own files, the libraries that are
installed and the model files. As long as none of these was touched, what was found out with them is still true.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from curation.engine.user_code import Code, modules, words
from schemas.files.model_files import cache_directory, model_directories
from schemas.settings.use import OURS
from schemas.settings.workflow import Workflow


def stamp(workflow: Workflow, code: Code) -> str | None:
    """Return what changes whenever a stage might be another than before.

    None where that cannot be told: where a stage or back-end is in a package that is neither ours nor among `code`.
    """
    said = workflow.model_dump(mode="json")
    texts = list(words(said))
    if any(m.split(".")[0] not in OURS and f"{m.replace('.', '/')}.py" not in code for m in modules(texts)):
        return None
    digest = hashlib.sha256(json.dumps([said, dict(code)], sort_keys=True).encode())
    pythons = sorted({s.python for s in workflow.stages.values() if s.python})
    for path in _files(texts, pythons):
        with contextlib.suppress(OSError):
            facts = path.stat()
            digest.update(f"\0{path}\0{facts.st_size}\0{facts.st_mtime_ns}".encode())
    return digest.hexdigest()


def _files(texts: Iterable[str], pythons: Iterable[str]) -> Iterator[Path]:
    ours = Path(__file__).parents[2]
    for package in sorted(OURS):
        for folder, inner, names in os.walk(ours / package):
            inner[:] = sorted(set(inner) - {"__pycache__"})
            yield from (Path(folder, name) for name in sorted(names))
    # The time of such a folder changes when a package is installed or removed.
    yield from (Path(p) for p in sys.path if p.endswith(("site-packages", "dist-packages")))
    for models in (*model_directories(), cache_directory()):
        with contextlib.suppress(OSError):
            yield from sorted(models.iterdir())
    for python in pythons:
        yield from sorted(Path(python).parents[1].glob("lib/python*/site-packages"))
    for path in (Path(text) for text in texts if len(text) < 256 and "\0" not in text):
        yield from [path] if path.is_file() else sorted(path.glob("*.onnx"))
