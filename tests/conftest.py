"""Shared fixtures: where the real footage is, where model weights are found, and object storage on this machine."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

# The same commit has the same outcome; `pytest --hypothesis-profile=search` draws other examples each time.
hypothesis.settings.register_profile("repeatable", derandomize=True, max_examples=50)
hypothesis.settings.register_profile("search", print_blob=True)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]
MEDIA = Path(os.environ.get("OPENLPM_TEST_MEDIA", ROOT.parent / "shared" / "media"))
_MODELS = ROOT.parent / "shared" / "models"

# A checkout that has a models directory beside it uses it, unless the user has named another one.
if "OPENLPM_MODELS" not in os.environ and _MODELS.is_dir():
    os.environ["OPENLPM_MODELS"] = str(_MODELS)


def _names(marker: str, file: Path) -> bool:
    """Tell whether a test file may hold tests with a marker; those of the reviewing page share theirs."""
    text = file.read_text(encoding="utf-8")
    return marker in text or "review_page" in text


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file for tests that it does not hold: all of them take ten seconds of each worker."""
    marker = config.option.markexpr
    asked = collection_path.suffix == ".py" and marker in ("slow", "full")
    return True if asked and not _names(marker, collection_path) else None


def _limit_s(item: pytest.Item) -> float:
    """Return the time limit that a test names for itself, 0 for none."""
    named = item.get_closest_marker("timeout")
    return float(named.args[0]) if named and named.args else 0.0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Make sure of what the hook before takes to be so; of slow files begin with those of the longest time limits."""
    if config.option.markexpr == "slow":  # one that begins last leaves the other core idle
        longest: dict[Path, float] = {}
        for item in items:
            longest[item.path] = max(longest.get(item.path, 0.0), _limit_s(item))
        items.sort(key=lambda item: -longest[item.path])
    for item in items:
        hidden = [m for m in ("slow", "full") if item.get_closest_marker(m) and not _names(m, item.path)]
        if hidden:
            raise pytest.UsageError(f"{item.nodeid} is {hidden[0]}, and its file does not say so")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test of the full set fail where it would be skipped for want of anything but footage or model files."""
    report = yield
    if report.skipped and item.get_closest_marker("full") and not hasattr(report, "wasxfail"):
        _, _, why = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        if not any(absent in why for absent in ("no footage", "no model files")):
            report.outcome, report.longrepr = "failed", f"skipped, which the full set may not be: {why}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let a file that skips itself fail in a run of the full set."""
    report = yield
    if report.skipped and collector.config.option.markexpr == "full":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def media() -> Path:
    """The directory of real footage with ground truth, or a skip that says how to provide it."""
    if not MEDIA.is_dir():
        pytest.skip(f"no footage at {MEDIA}: set OPENLPM_TEST_MEDIA to a directory of clips with truth files")
    return MEDIA


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an empty bucket on an S3-speaking server of this machine, to which the environment points."""
    import boto3  # here, since other tests need neither it nor the server
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    # The server's state is the process's: without this a bucket holds what another server of this process was given.
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=30).close()
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="lpm")
    yield "lpm"
    server.stop()
