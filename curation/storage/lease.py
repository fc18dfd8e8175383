"""Who writes a dataset on object storage: one lease, taken and renewed by conditional writes, as a lock is for a disk.

`lease.json` names its holder and a token that only grows. It is created only where there is none, and replaced only
where it is as it was read, so of two that try at once one is refused by the store. Whoever holds it renews it; one that
was not renewed for `TTL_S` seconds of the store's own clock may be taken over. A holder that finds another in its place
writes nothing more. Costs three requests a command, and one every `TTL_S / 3` seconds.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from curation.storage import written
from curation.storage.store import Store, StoreError

FILE = "lease.json"
TTL_S = 90.0
"""A lease that was not renewed for so long is nobody's (s)."""
POLL_S = 2.0
"""Who waits looks again after so long (s)."""


class HeldError(StoreError):
    """Another command is writing the dataset."""


@contextlib.contextmanager
def leased(store: Store, *, wait: bool = False) -> Iterator[None]:
    """Hold the lease of a dataset under s3://.

    Raises:
        HeldError: somebody else holds it, and we do not `wait`.
        StoreError: the storage cannot be reached, or boto3 is not installed.
    """
    lease = _Lease(store.uri, store.root)
    while not lease.take():
        if not wait:
            raise HeldError(
                f"another run is writing {store.uri}: {lease.held_by}; wait for it (`lpm run --wait`), choose another "
                f"dataset, or, if it was killed, run again in {TTL_S:.0f} s"
            )
        time.sleep(POLL_S)
    with lease:
        yield


class _Lease(contextlib.AbstractContextManager["_Lease"]):
    """The object, and a thread that renews it while it is held."""

    def __init__(self, uri: str, root: str) -> None:
        self._root, self._client = root, _client(uri)
        self._bucket, _, prefix = root.partition("/")
        self._key = f"{prefix}/{FILE}" if prefix else FILE
        self._me, self._token, self._etag, self.held_by = uuid.uuid4().hex, 0, "", ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def take(self) -> bool:
        """Try once; `held_by` says who was in the way."""
        found = self._read()
        if found is None:
            self._token = 1
            return self._put({"IfNoneMatch": "*"})
        facts, etag, age_s = found
        self._token = int(facts.get("token", 0)) + 1
        if not facts.get("released") and age_s <= float(facts.get("ttl_s", TTL_S)):
            self.held_by = f"process {facts.get('pid')} on {facts.get('host')}, since {facts.get('since')}"
            return False
        return self._put({"IfMatch": etag})

    def __enter__(self) -> _Lease:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        written.allow(self._root)
        with contextlib.suppress(StoreError):
            self._put({"IfMatch": self._etag}, released=True)

    def _renew(self) -> None:
        failed_since: float | None = None
        while not self._over.wait(TTL_S / 3):
            try:
                lost = not self._put({"IfMatch": self._etag})
                failed_since = None
            except StoreError:
                failed_since = failed_since or time.monotonic()
                lost = time.monotonic() - failed_since > TTL_S / 2
            if lost:
                written.forbid(self._root, "another command took the dataset over, as this one did not answer for long")
                return

    def _read(self) -> tuple[dict[str, Any], str, float] | None:
        answer = self._ask("get_object")
        if answer is None:
            return None
        try:
            facts = json.loads(answer["Body"].read())
        except ValueError:
            facts = {}
        now = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return facts, str(answer["ETag"]), (now - answer["LastModified"]).total_seconds()

    def _put(self, condition: dict[str, str], *, released: bool = False) -> bool:
        """Write the object if it is as expected; say whether it was."""
        facts = {
            "owner": self._me, "token": self._token, "host": platform.node(), "pid": os.getpid(), "ttl_s": TTL_S,
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "released": released,
        }  # fmt: skip
        answer = self._ask("put_object", Body=json.dumps(facts).encode(), **condition)
        if answer is None:
            self.held_by = self.held_by or "it began at the same moment"
            return False
        self._etag = str(answer["ETag"])
        return True

    def _ask(self, what: str, **more: Any) -> Any:
        """Make one request; None where the object is not there, or not as expected."""
        import botocore.exceptions as b

        try:
            return getattr(self._client, what)(Bucket=self._bucket, Key=self._key, **more)
        except b.ClientError as e:
            if e.response["Error"]["Code"] in ("NoSuchKey", "404", "PreconditionFailed", "412", "409", _BUSY):
                return None
            raise StoreError(f"cannot lease s3://{self._root}: {e}") from e
        except b.BotoCoreError as e:
            raise StoreError(f"cannot lease s3://{self._root}: {e}") from e


_BUSY = "ConditionalRequestConflict"


def _client(uri: str) -> Any:
    try:
        import boto3
    except ImportError as e:
        raise StoreError(
            "to write a dataset on s3:// takes boto3, for the lease that keeps two writers apart: "
            "`pip install 'openlpm[s3]'`"
        ) from e
    asked = {key: values[0] for key, values in parse_qs(urlsplit(uri).query).items()}
    options: dict[str, Any] = {}
    if "endpoint_override" in asked:
        options["endpoint_url"] = f"{asked.get('scheme', 'https')}://{asked['endpoint_override']}"
    if "region" in asked:
        options["region_name"] = asked["region"]
    return boto3.client("s3", **options)
