"""Files that come under their names when all of them are whole, and not at all where anything fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lpm_train.config import ConfigError


@contextmanager
def whole(*files: Path) -> Iterator[list[Path]]:
    """Yield the names to write files under, beside their own; what was there stays until all are written.

    Raises:
        ConfigError: a file is a folder or a device, or its folder cannot be made.
    """
    for file in files:
        if file.is_dir():
            raise ConfigError(f"{file} is a folder: name a file to write")
        if file.exists() and not file.is_file():
            raise ConfigError(f"{file} is no regular file, and would be replaced by one: name another")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"{file} cannot be written: {e.strerror} ({e.filename})") from e
    partial = [file.with_name(f".{file.name}.partial") for file in files]
    try:
        yield partial
        for made, file in zip(partial, files, strict=True):
            made.replace(file)
    finally:
        for made in partial:
            with suppress(OSError):
                made.unlink(missing_ok=True)
