"""A generated video says that it is one, where players and archives look, and stays a video."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import torch
from torch import nn

from lpm_train.data.clip import read_video
from lpm_train.tools.media import write_mp4
from lpm_train.tools.provenance import SOURCE_TYPE, add_xmp, model_fingerprint, tags


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the top-level boxes of an MP4 as (kind, content)."""
    out, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        out.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    assert at == len(data)
    return out


def test_marks_are_found_and_the_video_is_whole(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (10, 32, 32, 3), np.uint8)
    plain, marked = tmp_path / "plain.mp4", tmp_path / "marked.mp4"
    write_mp4(plain, frames)
    write_mp4(marked, frames, np.zeros(19200, np.float32), tags=tags("abc"))
    add_xmp(marked, 'a"<b')
    with av.open(str(marked)) as container:
        assert SOURCE_TYPE in container.metadata["comment"] and "model abc" in container.metadata["comment"]
        assert len(list(container.decode(audio=0))) > 15
    assert torch.equal(read_video(marked.read_bytes(), (32, 32)), read_video(plain.read_bytes(), (32, 32)))
    kind, content = boxes(marked.read_bytes())[-1]
    assert kind == b"uuid" and content[:16].hex() == "be7acfcb97a942e89c71999491e3afac"
    root = ElementTree.fromstring(content[16:].decode())
    description = next(e for e in root.iter() if e.tag.endswith("Description"))
    assert SOURCE_TYPE in description.attrib.values() and 'OpenLPM, model a"<b' in description.attrib.values()


def test_a_model_is_known_by_its_weights() -> None:
    one, same, other = (nn.Linear(3, 4) for _ in range(3))
    same.load_state_dict(one.state_dict())
    assert model_fingerprint(one) == model_fingerprint(same) != model_fingerprint(other)
    assert len(model_fingerprint(one)) == 16
