"""The linear codec: exact where it keeps everything, best where it does not, and the same after a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpm_train import parts
from lpm_train.proof.codec_principal import PrincipalCodec
from lpm_train.proof.synthetic import draw_scene, identity, read_factors, render
from lpm_train.storage import DataError


def clips(n: int, first: int = 0) -> list[torch.Tensor]:
    scenes = [draw_scene(s, 16, identity(s)) for s in range(first, first + n)]
    return [torch.from_numpy(render(s)).permute(0, 3, 1, 2)[None].float() / 127.5 - 1 for s in scenes]


def test_all_components_lose_nothing() -> None:
    codec = PrincipalCodec.fit([torch.rand(4, 4, 3, 4, 4) * 2 - 1], (2, 2, 2), 24)
    x = torch.rand(1, 4, 3, 4, 4) * 2 - 1
    assert torch.allclose(codec.decode(codec.encode(x))[0], x, atol=1e-5)


def test_the_puppet_survives_twelve_components_and_streams(tmp_path: Path) -> None:
    codec = PrincipalCodec.fit(clips(48), (4, 4, 4), 12)
    x = torch.cat(clips(8, 100))
    z = codec.encode(x)
    assert z.shape == (8, 4, 12, 8, 8) and 0.8 < float(z.std()) < 1.2
    whole, _ = codec.decode(z)
    pieces = [codec.decode(z[:, i : i + 1])[0] for i in range(4)]
    assert torch.equal(torch.cat(pieces, 1), whole)
    for clip, back in zip(x, whole, strict=True):
        a, b = (read_factors(((v.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()) for v in (clip, back))
        assert abs(a.sway - b.sway).max() < 0.5 and abs(a.mouth - b.mouth).max() < 0.15
        assert abs(a.identity - b.identity).max() < 0.08
    codec.save(tmp_path / "codec.pt")
    again = PrincipalCodec.load(tmp_path / "codec.pt")
    assert parts.provenance(again) == parts.provenance(codec) and torch.equal(again.encode(x), z)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no codec at"):
        PrincipalCodec.load(tmp_path / "none.pt")
    with pytest.raises(DataError, match="0 blocks"):
        PrincipalCodec.fit([], (1, 2, 2), 3)
