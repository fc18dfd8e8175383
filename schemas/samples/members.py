"""The files of a packed sample: the same six for each, whatever it has, as readers that infer columns ask for.

`mp4` (25 fps, no sound), `speak.flac` and `listen.flac` (48 kHz mono), `json` (`schemas.samples.sample`), `ref.jpg`
(the reference image to use where one is used; a grey pixel where there is none) and `refs.tar` (a plain tar of the
further references, without a file where there are none). A tar, since whoever reads shards has a reader of tars, and
every reader hands bytes on whose suffix it does not know. Samples of before held each reference as a member of its own.
"""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence

from schemas.samples.tar import tar_bytes

MEMBERS = ("mp4", "speak.flac", "listen.flac", "json", "ref.jpg", "refs.tar")
"""Suffixes of every sample's members, in the order in which they lie in a shard."""
FIRST, FURTHER = "ref.jpg", "refs.tar"

NO_REFERENCE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBk"
    "eFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAABAAED"
    "ASIAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/xAAUAQEAAAAAAAAAAAAAAAAAAAAA/8QAFBEBAAAA"
    "AAAAAAAAAAAAAAAAAP/aAAwDAQACEQMRAD8AAA//2Q=="
)
"""One grey pixel: what `ref.jpg` holds where a sample has no reference, since every decoder of pictures reads it."""


def reference_members(pictures: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the two members (suffix, bytes) that hold reference images (name, JPEG): the first one stands alone."""
    return [(FIRST, pictures[0][1] if pictures else NO_REFERENCE), (FURTHER, tar_bytes(pictures[1:]))]


def pictures(members: Mapping[str, bytes], names: Iterable[str]) -> dict[str, bytes]:
    """Return reference images by the names that a sample's JSON gives them, from its members by suffix.

    Raises:
        KeyError: there is no image of a name.
        tarfile.TarError: `refs.tar` is none.
    """
    wanted = list(names)
    inner = {} if all(n in members for n in wanted) else _files(members[FURTHER])
    return {n: members[n] if n in members else inner[n] for n in wanted}


def holders(names: Iterable[str], members: Collection[str]) -> set[str]:
    """Return which members hold the images of these names."""
    return {n if n in members else FURTHER for n in names}


def _files(tar: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as files:
        found = ((info.name, files.extractfile(info)) for info in files)
        return {name: file.read() for name, file in found if file is not None}
