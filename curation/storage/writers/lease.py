"""Who writes a dataset on object storage: one lease, taken and renewed by conditional writes, as a lock is for a disk.

`lease.json` names its holder and a token that only grows. It is created only where there is none, and replaced only
where it is as it was read, so of two that try at once one is refused by the store. Whoever holds it renews it; one that
was not renewed for `TTL_S` seconds of the store's own clock may be taken over. A holder that finds another in its place
writes nothing more; one that has not renewed it for half of that time (its process was stopped, its machine slept, its
network was gone) renews it before it writes anything. Costs three requests a command, and one every `TTL_S / 3` s.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from curation.storage.store import Store, StoreError
from curation.storage.writers import written
from curation.storage.writers.lock import lock_holder, me, who

FILE = "lease.json"
TTL_S = 90.0
"""A lease that was not renewed for so long is nobody's (s)."""
POLL_S = 2.0
"""Who waits looks again after so long (s)."""

TAKEN = "another command took the dataset over, as this one did not answer for long"


class HeldError(StoreError):
    """Another command is writing the dataset."""


@contextlib.contextmanager
def leased(store: Store, *, wait: bool = False) -> Iterator[int]:
    """Hold the lease of a dataset under s3://, and yield its token.

    Raises:
        HeldError: somebody else holds it, and we do not `wait`.
        StoreError: the storage cannot be reached, or boto3 is not installed.
    """
    lease = _Lease(store)
    while not lease.take():
        if not wait:
            raise HeldError(
                f"another run is writing {store.uri}: {lease.held_by}; wait for it (`lpm run --wait`), choose another "
                f"dataset, or, if it was killed, run again in {TTL_S:.0f} s"
            )
        time.sleep(POLL_S)
    with lease:
        yield lease.token


def holder(store: Store) -> str | None:
    """Return who writes a dataset now, None where nobody does, or where that cannot be told (`gs://` and its like).

    Asks without a word to the holder: on a disk by taking the lock beside others who ask, for a moment, which who wants
    it alone waits for; on object storage by the age of the lease, as this machine's clock tells it.
    """
    if store.local:
        return lock_holder(store)
    try:
        facts = store.read_json(FILE)
    except StoreError:
        return None
    if not isinstance(facts, dict) or facts.get("released"):
        return None
    ((_, at),) = (found for found in store.times("", recursive=False) if found[0] == FILE)
    return who(facts) if time.time() - at <= float(facts.get("ttl_s", TTL_S)) else None


class _Lease(contextlib.AbstractContextManager["_Lease"]):
    """The object, and a thread that renews it while it is held."""

    def __init__(self, store: Store) -> None:
        self._root, self._objects = store.root, store.conditional()
        self._me, self._etag, self.token, self.held_by = uuid.uuid4().hex, "", 0, ""
        self._renewed = 0.0
        self._one = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> bool:
        """Try once; `held_by` says who was in the way."""
        found = self._objects.read(FILE)
        if found is None:
            self.token = 1
            return self._put("")
        data, etag, age_s = found
        facts = _facts(data)
        self.token = int(facts.get("token", 0)) + 1
        if not facts.get("released") and age_s <= float(facts.get("ttl_s", TTL_S)):
            self.held_by = who(facts)
            return False
        return self._put(etag)

    def __enter__(self) -> _Lease:
        written.guard(self._root, self._still_mine)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        written.allow(self._root)
        with contextlib.suppress(StoreError):
            self._put(self._etag, released=True)

    def _still_mine(self) -> None:
        """Renew the lease before a write, where that was not done for long. Raises StoreError where it cannot be."""
        if _now() - self._renewed > TTL_S / 2:
            self._renew()

    def _renew(self) -> None:
        """Renew it, or let nothing be written any more. Raises StoreError where the store cannot be asked."""
        with self._one:
            if not self._put(self._etag):
                written.forbid(self._root, TAKEN)

    def _keep(self) -> None:
        while not self._over.wait(TTL_S / 3) and written.forbidden(self._root) is None:
            with contextlib.suppress(StoreError):  # who writes asks again
                self._renew()

    def _put(self, tag: str, *, released: bool = False) -> bool:
        """Write the object if it is as expected; say whether it was."""
        facts = {**me(), "owner": self._me, "token": self.token, "ttl_s": TTL_S, "released": released}
        asked = _now()
        etag = self._objects.write(FILE, json.dumps(facts).encode(), tag)
        if etag is None:
            self.held_by = self.held_by or "it began at the same moment"
            return False
        self._etag, self._renewed = etag, asked
        return True


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _now() -> float:
    """Return seconds that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
