"""Objects of an s3:// prefix that are written only where they are as expected: what keeps two writers apart.

Arrow's file system writes whatever is there; If-Match and If-None-Match take boto3 (`openlpm[s3]`). The store decides,
so no delay of a writer, however long, comes between the look and the write. Costs one request a write.
"""

from __future__ import annotations

import email.utils
import importlib.util
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from schemas.files.places import StoreError

_ELSE = ("NoSuchKey", "404", "PreconditionFailed", "412", "409", "ConditionalRequestConflict")
"""The object is not there, or not as expected."""
_PAUSES_S = (0.1, 0.4, 1.6)
"""Between questions whose answers broke off."""


class Conditional:
    """The objects under one prefix. Raises StoreError where the store cannot be reached, or boto3 is not installed."""

    def __init__(self, uri: str, root: str) -> None:
        self._root, self._client = root, _client(uri)
        self._bucket, _, self._prefix = root.partition("/")

    def read(self, name: str) -> tuple[bytes, str, float] | None:
        """Return an object's bytes, its tag and its age in s by the store's own clock; None where there is none."""
        found = self._get(name)
        if found is None:
            return None
        data, answer = found
        now = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return data, str(answer["ETag"]), (now - answer["LastModified"]).total_seconds()

    def small(self, name: str, most: int) -> tuple[bytes, bool, str] | None:
        """Return the first `most` bytes of an object, whether these are all, and its tag; None = no such object.

        By one request, where Arrow asks for the size first.
        """
        found = self._get(name, Range=f"bytes=0-{most - 1}")
        if found is None:
            return None
        data, answer = found
        whole = len(data) == int(str(answer.get("ContentRange", len(data))).rpartition("/")[2])
        return data, whole, str(answer["ETag"])

    def write(self, name: str, data: bytes, tag: str | None = None) -> str | None:
        """Write an object and return its new tag, or None where it is not as expected.

        Args:
            name: relative to the prefix.
            data: its bytes.
            tag: the one that it must have; "" = there must be no such object; None = whatever is there.
        """
        if tag is None:
            answer = self._ask("put_object", name, Body=data)
        elif tag:
            answer = self._ask("put_object", name, Body=data, IfMatch=tag)
        else:
            answer = self._ask("put_object", name, Body=data, IfNoneMatch="*")
        if answer is not None:
            return str(answer["ETag"])
        if tag is not None and (found := self.read(name)) is not None and found[0] == data:
            return found[1]  # it was done, its answer lost, and then asked for again
        return None

    def first(self, most: int) -> list[str]:
        """Return the names of at most so many objects under the prefix, by one request."""
        within = self._key("")
        found = self._request("list_objects_v2", "", Prefix=within, MaxKeys=most + 1)  # one may be the folder itself
        names = [str(entry["Key"]).removeprefix(within) for entry in found.get("Contents", [])]
        return [name for name in names if name][:most]

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store. Raises StoreError where it is not there."""
        source = {"Bucket": self._bucket, "Key": self._key(name)}
        self._ask("copy", to, sure=True, CopySource=source)  # in parts where it is large

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _get(self, name: str, **more: Any) -> tuple[bytes, Any] | None:
        """Return an object's bytes and what else was answered; None where it is not there.

        An answer that breaks off is asked for again: the library itself does so only until the bytes begin.
        """
        import botocore.exceptions as b

        for pause_s in (*_PAUSES_S, None):
            answer = self._ask("get_object", name, **more)
            try:
                return None if answer is None else (answer["Body"].read(), answer)
            except b.BotoCoreError as e:
                if pause_s is None:
                    raise StoreError(f"cannot reach s3://{self._root}/{name}: {e}") from e
                time.sleep(pause_s)
        return None

    def _ask(self, what: str, name: str, *, sure: bool = False, **more: Any) -> Any:
        """Make one request; None where the object is not there, or not as expected, unless it has to be."""
        return self._request(what, name, none=() if sure else _ELSE, Key=self._key(name), **more)

    def _request(self, what: str, name: str, *, none: tuple[str, ...] = (), **more: Any) -> Any:
        """Make one request; None where it is refused with one of the codes in `none`."""
        import botocore.exceptions as b

        try:
            return getattr(self._client, what)(Bucket=self._bucket, **more)
        except b.ClientError as e:
            code = e.response["Error"]["Code"]
            if code in none:
                return None
            if code == "NoSuchBucket":
                raise StoreError(
                    f"the bucket {self._bucket!r} of s3://{self._root} does not exist; create it, or name another"
                ) from e
            raise StoreError(f"cannot reach s3://{self._root}/{name}: {e}") from e
        except b.BotoCoreError as e:
            raise StoreError(f"cannot reach s3://{self._root}/{name}: {e}") from e


def boto3_there() -> bool:
    """Say whether the library is installed, which readers do without."""
    return importlib.util.find_spec("boto3") is not None


def _client(uri: str) -> Any:
    try:
        import boto3
    except ImportError as e:
        raise StoreError(
            "to write a dataset on s3:// takes boto3, for the conditional writes that keep two writers apart: "
            "`pip install 'openlpm[s3]'`"
        ) from e
    asked = {key: values[0] for key, values in parse_qs(urlsplit(uri).query).items()}
    endpoint = None
    if "endpoint_override" in asked:
        endpoint = f"{asked.get('scheme', 'https')}://{asked['endpoint_override']}"
    return boto3.client("s3", endpoint_url=endpoint, region_name=asked.get("region"))
