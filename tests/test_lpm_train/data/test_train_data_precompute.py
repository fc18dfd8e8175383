"""Precomputed latents and the doctor: the same batches as without, refusals, damage found by sample."""

from __future__ import annotations

import io
import json
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from train_data_case import BUCKET, copy, data, dataset, encoders, loader, same

from lpm_train import parts
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.data.precomputed import array_of
from lpm_train.data.shards import Shards
from lpm_train.extras.codec_tiny import TinyConfig, TinyVideoAE
from lpm_train.parts import provenance
from lpm_train.session import make_encoders
from lpm_train.storage import DataError
from lpm_train.tools.cli import codec as run_codec
from lpm_train.tools.cli import doctor as run_doctor
from lpm_train.tools.cli import parse_buckets
from lpm_train.tools.cli import precompute as run_precompute
from lpm_train.tools.precompute import precompute

ENCODERS = {
    "settings": [
        "data.codec=patch", "data.codec.stride=[4, 8, 8]", "data.audio.n_mels=16", "data.frames=16", "data.height=32",
        "data.text=hashed-words", "data.text.width=8", "data.text.length=12", "data.width=32",
    ]
}  # fmt: skip


def test_batches_are_those_without(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    counts = precompute(root, "a", encoders(), [BUCKET], hop_frames=4, dtype="float32")
    assert counts["samples"] == 24 and counts["shards"] == 2
    with loader(root, precomputed="a") as fast, loader(root, hop_frames=4) as slow:
        for _ in range(8):
            assert same(next(fast), next(slow))
    again = precompute(root, "a", encoders(), [BUCKET], hop_frames=4, dtype="float32")
    assert (again["samples"], again["kept"]) == (0, 24)


def test_a_codec_that_looks_back_gives_windows_of_their_own(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    torch.manual_seed(0)
    made = Encoders(TinyVideoAE(TinyConfig(stride=(4, 8, 8), channels=4, width=8, blocks=1)), *_rest())
    precompute(root, "tiny", made, [BUCKET], hop_frames=8, dtype="float32", workers=1)
    with (
        Loader(data(root, precomputed="tiny"), made) as fast,
        Loader(data(root, hop_frames=8), made) as slow,
    ):
        assert same(next(fast), next(slow))


def _rest():
    e = encoders()
    return e.audio, e.text


def test_another_codec_other_data_or_other_buckets_are_refused(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    with pytest.raises(DataError, match=r"no precomputed/a in this dataset: run `lpm train precompute"):
        loader(root, precomputed="a")
    precompute(root, "a", encoders(), [BUCKET])
    with pytest.raises(DataError, match=r"other encoders \(codec.settings.stride: stored .*mix two latent spaces"):
        Loader(data(root, precomputed="a"), encoders((2, 8, 8)))
    with pytest.raises(DataError, match="other settings"):
        precompute(root, "a", encoders((2, 8, 8)), [BUCKET])
    with pytest.raises(DataError, match="24 of 24 samples are not in precomputed/a"):
        loader(root, precomputed="a", bucket=(8, 32, 32))
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    rows[5]["caption"] = "new words"
    pq.write_table(pq.read_table(root / "manifest.parquet").from_pylist(rows), root / "manifest.parquet")
    with pytest.raises(DataError, match=f"1 of 24 .* {rows[5]['segment_id']}"):
        loader(root, precomputed="a")
    precompute(root, "a", encoders(), [BUCKET])
    loader(root, precomputed="a").close()


def test_selections_add_up(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    n = len(Shards(root, "state = 'speak'"))
    assert precompute(root, "a", encoders(), [BUCKET], where="state = 'speak'")["samples"] == n
    loader(root, precomputed="a", where="state = 'speak'").close()
    with pytest.raises(DataError, match="not in precomputed/a"):
        loader(root, precomputed="a")
    told: list[tuple[int, int]] = []
    precompute(root, "a", encoders(), [BUCKET], where="state <> 'speak'", report=lambda *said: told.append(said))
    assert told[-1] == (24 - n, 24 - n) and told == sorted(set(told))
    with loader(root, precomputed="a") as source:
        assert next(source).x_BFCHW.shape == (4, 4, 768, 4, 4)
    with tarfile.open(next((root / "precomputed" / "a").glob("*.tar"))) as tar:
        assert any(n.endswith(".latents_0.npy") for n in tar.getnames())


def test_half_precision_is_near(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    precompute(root, "h", encoders(), [BUCKET])
    with loader(root, precomputed="h") as fast, loader(root, hop_frames=16) as slow:
        a, b = next(fast), next(slow)
        assert a.x_BFCHW.dtype == torch.float32
        torch.testing.assert_close(a.x_BFCHW, b.x_BFCHW, atol=1e-3, rtol=0)


def test_commands_and_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy(tmp_path / "d")
    assert run_precompute(str(root), name="x", **ENCODERS) == 0
    said = capsys.readouterr()
    assert "24 samples of 2 shards written" in said.out and said.err.splitlines()[-1] == "24/24 samples"
    sheet, report = tmp_path / "sheet.png", tmp_path / "report.json"
    code = run_doctor(
        str(root), sheet=str(sheet), report=str(report), precomputed="x", workers=1, batches=2, **ENCODERS
    )
    assert code == 0 and "healthy" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["healthy"] and found["samples"] == 24 and found["frames"] == 24 * 24
    assert min(found["read_mb_s"], found["decode_fps"], found["loader"]["samples_s"]) > 0
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] == (4 + 8) * 128 and picture[18:146, 512:].std() > 20
    with pytest.raises(DataError, match="FRAMESxHEIGHTxWIDTH"):
        parse_buckets("64x32")


def _rewrite(root: Path, change) -> list[str]:
    """Replace members of the first shard by `change(name, data)`; sizes in the manifest follow."""
    manifest = root / "manifest.parquet"
    table = pq.read_table(manifest)
    rows = table.to_pylist()
    shard = sorted({r["shard"] for r in rows})[0]
    old = (root / "shards" / shard).read_bytes()
    out = io.BytesIO()
    changed = []
    with tarfile.open(fileobj=out, mode="w") as tar:
        for row in rows:
            for member in row["members"] if row["shard"] == shard else ():
                data = old[member["offset"] : member["offset"] + member["size"]]
                new = change(member["name"], data)
                changed += [row["segment_id"]] if new != data else []
                info = tarfile.TarInfo(member["name"])
                info.size = len(new)
                tar.addfile(info, io.BytesIO(new))
                member["offset"], member["size"] = tar.offset - -(-len(new) // 512) * 512, len(new)
    (root / "shards" / shard).write_bytes(out.getvalue())
    pq.write_table(table.from_pylist(rows, schema=table.schema), manifest)
    return changed


def test_the_doctor_names_damaged_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy(tmp_path / "d")
    ids = [r for r in Shards(root).ids if Shards(root)[r].shard == sorted(set(Shards(root).column("shard")))[0]]
    rng = np.random.default_rng(0)
    damage = {
        f"{ids[0]}.mp4": lambda d: d[: len(d) // 2],
        f"{ids[1]}.speak.flac": lambda d: rng.bytes(len(d)),
        f"{ids[2]}.json": lambda d: d.replace(ids[2].encode(), ids[3].encode()),
    }
    changed = _rewrite(root, lambda n, d: damage.get(n, lambda x: x)(d))
    assert sorted(changed) == sorted(ids[:3])
    report = tmp_path / "r.json"
    assert run_doctor(str(root), report=str(report), workers=1, **ENCODERS) == 1
    found = json.loads(report.read_text())
    assert sorted(found["problems"]) == sorted(ids[:3]) and not found["loader"]
    assert "changed under its manifest" in found["problems"][ids[2]]
    assert "3 of 24 samples must not be trained on" in capsys.readouterr().out


def test_sound_of_another_length_is_found(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    shards = Shards(root)
    first = next(r for r in shards if r.shard == min(shards.column("shard")))
    longer = shards.read(first, ["speak.flac"])["speak.flac"]
    wave, rate = soundfile.read(io.BytesIO(longer))
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate([wave, np.zeros(7)]), rate, format="FLAC")
    _rewrite(root, lambda n, d: buffer.getvalue() if n == f"{first.segment_id}.speak.flac" else d)
    report = tmp_path / "r.json"
    assert run_doctor(str(root), report=str(report), workers=1, **ENCODERS) == 1
    problems = json.loads(report.read_text())["problems"]
    assert list(problems) == [first.segment_id] and "drift apart" in problems[first.segment_id]


def test_a_codec_is_trained_on_a_dataset_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, bucket = tmp_path / "codec.pt", "8x32x32"
    shape = {"stride": "2x4x4", "channels": 8, "width": 12, "bucket": bucket, "steps": 20, "batch": 2, "lr": 2e-3}
    assert run_codec(str(dataset()), str(out), **shape) == 0
    said = capsys.readouterr().out
    assert "training (the split val is empty)" in said
    first, last = (float(line.split("loss ")[1]) for line in (said.splitlines()[0], said.splitlines()[-2]))
    assert last < first
    tiny = data(bucket=parse_buckets(bucket)[0], batch=8, codec=parts.codec("tiny", path=str(out)))
    with Loader(tiny, make_encoders(tiny)) as source:
        assert next(source).x_BFCHW.shape == (8, 4, 8, 8, 8)
    again = tmp_path / "again.pt"
    run_codec(str(dataset()), str(again), **{**shape, "steps": 2})
    run_codec(str(dataset()), str(out), **{**shape, "steps": 2})
    made = [provenance(parts.codec("tiny", path=str(file)).build()) for file in (out, again)]
    assert made[0] == made[1]


def test_two_threads_never_read_a_header_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's parser, by which NumPy reads it, may fail then."""
    stored, inside, most, plain = io.BytesIO(), [], [], np.load

    def load(*given: Any, **how: Any) -> Any:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return plain(*given, **how)

    np.save(stored, np.arange(6, dtype=np.float16).reshape(2, 3))
    monkeypatch.setattr(np, "load", load)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(array_of, [stored.getvalue()] * 40))
    assert len(most) == 40 and max(most) == 1
    assert all(x.dtype == torch.float32 and x.tolist() == [[0, 1, 2], [3, 4, 5]] for x in found)
