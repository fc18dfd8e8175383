"""Where commands write: looked at before their work, and files that come under their names when all are whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lpm_train.config import ConfigError


def must_write(*files: str | Path | None) -> None:
    """Make the folders of files that will be written; None is no file.

    Raises:
        ConfigError: a file is a folder, its folder cannot be made, or one of them cannot be written to.
    """
    for file in (Path(f) for f in files if f is not None):
        try:
            if file.is_dir():
                raise ConfigError(f"{file} is a folder: name a file to write")
            if file.is_file():
                with file.open("ab"):
                    pass
            if file.is_file() or not file.exists():  # else a device, such as /dev/stdout
                file.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=file.parent):
                    pass
        except OSError as e:
            raise ConfigError(f"{file} cannot be written: {e.strerror} ({e.filename}); name another file") from e


def same_file(a: Path, b: Path) -> bool:
    """Tell whether two paths name one file, by whatever links; it need not be there."""
    try:
        return a.samefile(b)
    except OSError:  # one of them is not there
        return a.resolve() == b.resolve()


def must_spare(inputs: Iterable[Path | None], *files: Path) -> None:
    """See that no file that will be written is one that is read; None is no file.

    Raises:
        ConfigError: one is.
    """
    given = [file for file in inputs if file is not None]
    for file in files:
        if any(same_file(file, one) for one in given):
            raise ConfigError(f"{file} is an input, and what is made would overwrite it: write to another place")


def must_hold(folder: Path) -> None:
    """See that a folder that will be made can be, or written to where it is there; nothing is made.

    Raises:
        ConfigError: it is a file, or lies in one, or cannot be written to.
    """
    try:
        there = next(p for p in (folder, *folder.parents) if p.exists())
    except OSError as e:
        raise ConfigError(f"{folder} cannot be written to: {e.strerror} ({e.filename}); name another folder") from e
    if not there.is_dir():
        raise ConfigError(f"{there} is a file: name a folder to write to")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{there} cannot be written to: name another folder")


@contextmanager
def whole(*files: Path) -> Iterator[list[Path]]:
    """Yield the names to write files under, beside their own; what was there stays until all are written.

    Raises:
        ConfigError: as `must_write`, and where a file is a device.
    """
    must_write(*files)
    if devices := [file for file in files if file.exists() and not file.is_file()]:
        raise ConfigError(f"{devices[0]} is no regular file, and would be replaced by one: name another")
    partial = [file.with_name(f".{file.name}.partial") for file in files]
    try:
        yield partial
        for made, file in zip(partial, files, strict=True):
            made.replace(file)
    finally:
        for made in partial:
            with suppress(OSError):
                made.unlink(missing_ok=True)
