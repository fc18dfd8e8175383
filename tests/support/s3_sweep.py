"""A fault at request n of a command on a dataset on object storage, for any n, and the same command again."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import packed_toy
from engine_case import GOOD, policy
from faulty_s3 import Fault, FaultyS3
from toy import write_sources

from curation import Dataset
from curation.decisions import account
from curation.engine.engine_local import LocalEngine
from curation.engine.register import expand
from curation.engine.run import Job, locked, run
from curation.forget.forget import find, forget
from curation.pack.pack import pack
from curation.storage.store import Store
from curation.storage.writers import lease
from curation.verify import certify
from workflows.commands.jobs import answer

BUCKET = "lpm"
CONTENTS: dict[str, bytes] = {}
"""Of the sources, by name."""
_RESULTS = ("tables", "commits", "clips", "manifest.parquet", "shards")


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that writes a dataset: `base` makes what it begins with."""

    name: str
    base: Callable[[str], object]
    act: Callable[[str], object]


def job(out: str, *, strict: bool = False) -> Job:
    """Return the toy job in one process, under its own policy or one that keeps fewer tracks."""
    changed = policy(face_size="median_face_px >= 120.5") if strict else policy()
    return replace(packed_toy.job(out), in_process=True, policy=changed)


def whole(out: str) -> None:
    """Make the dataset."""
    run(job(out), LocalEngine(), expand([f"s3://{BUCKET}/videos/"]), packer=pack)


def decide(out: str) -> None:
    """Decide by the stricter policy, and pack what it keeps."""
    store = Store(out)
    with locked(store):
        account.write(job(out, strict=True).stepper())
        pack(job(out, strict=True))


def forget_one(out: str) -> None:
    """Forget a source by its id, which stays known."""
    forget(job(out), find(Dataset(out), [hashlib.sha256(CONTENTS["b"]).hexdigest()[:16]]), packer=pack)


def nothing(out: str) -> None:
    """Begin without a dataset."""


OPERATIONS = (
    Operation("run", nothing, whole),
    Operation("decide", whole, decide),
    Operation("forget", whole, forget_one),
)


class S3Sweep:
    """One operation: how many requests it makes, what it leaves, and what is left after a fault at any of them."""

    def __init__(self, operation: Operation, server: FaultyS3, upstream: str) -> None:
        """Run it once unhurt. The bucket is there; the environment names the server's endpoint."""
        self._operation, self._server = operation, server
        self._client = boto3.client("s3", endpoint_url=upstream)
        lease.TTL_S, lease.POLL_S = 6.0, 0.5  # a lease that nobody gave back is not waited for long
        with tempfile.TemporaryDirectory() as folder:
            for file in write_sources(Path(folder), a={**GOOD, "duration_s": 6.0}, b=GOOD).iterdir():
                CONTENTS[file.stem] = file.read_bytes()
                self._client.upload_file(str(file), BUCKET, f"videos/{file.name}")
        server.well()
        self._base = f"{operation.name}/base"
        operation.base(self._uri(self._base))
        unhurt = self._copied("unhurt")
        server.well()
        operation.act(unhurt)
        self.requests = server.n
        self._result, self._root = self._left(unhurt), self._certified(unhurt)

    def wrong(self, fault: Fault, at: int) -> tuple[str, str | None]:
        """Put a fault at a request and do the same again; say how the first went, and what is not as it should be.

        Returns:
            "went on" or "said why", and None or what is wrong.
        """
        out = self._copied(f"{fault}-{at}")
        self._server.at(fault, at)
        how = "went on"
        try:
            self._operation.act(out)
        except Exception as e:
            self._server.well()
            if answer(e) is None:
                return "raised", f"ends in no sentence: {type(e).__name__}: {e}"
            how = "said why"
        self._server.well()
        try:
            with lease.leased(Store(out), wait=True):
                pass
            self._operation.act(out)
        except Exception as e:
            return how, f"the same again: {type(e).__name__}: {e}"
        if (left := self._left(out)) != self._result:
            return how, f"other bytes: {sorted(set(left.items()) ^ set(self._result.items()))[:4]}"
        root = self._certified(out)
        self._forget(out)
        return how, None if root == self._root else f"lpm verify says {root}"

    def _uri(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"

    def _copied(self, name: str) -> str:
        """Return a copy of what the operation begins with."""
        self._server.well()
        prefix = f"{self._operation.name}/{name}"
        for key in self._keys(self._base):
            to = f"{prefix}{key[len(self._base) :]}"
            self._client.copy_object(Bucket=BUCKET, Key=to, CopySource={"Bucket": BUCKET, "Key": key})
        return self._uri(prefix)

    def _keys(self, prefix: str) -> list[str]:
        pages: Any = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return [o["Key"] for page in pages for o in page.get("Contents", ()) if not o["Key"].endswith("/")]

    def _left(self, out: str) -> dict[str, str]:
        prefix = out.removeprefix(f"s3://{BUCKET}/")
        found = {}
        for key in self._keys(prefix):
            name = key[len(prefix) + 1 :]
            if name.split("/")[0] in _RESULTS:
                body = self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                found[name] = hashlib.sha256(body).hexdigest()
        return found

    def _forget(self, out: str) -> None:
        for key in self._keys(out.removeprefix(f"s3://{BUCKET}/")):
            self._client.delete_object(Bucket=BUCKET, Key=key)

    def _certified(self, out: str) -> str:
        found = certify(Dataset(out), media=False)
        return " ".join([str(found.root), *(f"{p.check}: {p.what}" for p in found.problems)])


def environment(endpoint: str) -> dict[str, str]:
    """Return the variables that name a server, and tell both clients to try again soon."""
    return {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


def point(server: FaultyS3) -> None:
    """Let the clients of this process ask the faulty server."""
    os.environ.update(environment(server.endpoint))
