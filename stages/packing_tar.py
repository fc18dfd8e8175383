"""One clip's members as a tar whose bytes depend on the members alone: no dates, owners or directories."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping


def clip_tar(members: Mapping[str, bytes]) -> bytes:
    """Return a USTAR archive of the members in order of name; equal members give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(members.items()):
            info = tarfile.TarInfo(name)  # its defaults: mtime 0, uid and gid 0, mode 0644, no names
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
