"""The loader over packed shards: exact resume, refusal of changed data, one sample's choices, object storage."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_data_case import BUCKET, copy, data, dataset, encoders, loader, same

from lpm_train.batch import Batch
from lpm_train.config import ConfigError, Data
from lpm_train.data.loader import Loader
from lpm_train.data.make import choose_references, window_starts
from lpm_train.data.shards import Shards
from lpm_train.data.sizes import choose_bucket
from lpm_train.storage import DataError, Storage
from lpm_train.tools.precompute import precompute
from schemas.files.places import StoreError
from schemas.samples.sample import ReferenceRef

ALL = {"max_refs": 3, "silence": 0.5}


def take(n: int, **settings_) -> list[Batch]:
    with loader(**settings_) as source:
        return [next(source) for _ in range(n)]


def test_every_sample_once_an_epoch_over_ranks() -> None:
    ids = sorted(i for rank in range(2) for b in take(6, rank=rank, world_size=2) for i in b.sample_ids)
    assert ids == sorted(Shards(dataset()).ids)


def test_resume_equals_uninterrupted_also_with_other_workers_and_ranks() -> None:
    whole = take(10, **ALL)
    with loader(**ALL) as source:
        for _ in range(4):
            next(source)
        state = json.loads(json.dumps(source.state()))
    assert (state["epoch"], state["cursor"]) == (0, 4)
    with loader(workers=1, prefetch=5, **ALL) as source:
        next(source)
        source.restore(state)
        assert all(same(next(source), b) for b in whole[4:])
        assert source.state()["epoch"] == 1
    ranks = [loader(rank=r, world_size=2, **ALL) for r in range(2)]
    for source in ranks:
        source.restore(state)
    for b in whole[4:]:
        assert same(Batch.cat([next(source) for source in ranks]), b)
    assert ranks[0].state() == ranks[1].state()
    for source in ranks:
        source.close()


def test_what_a_sample_becomes_does_not_depend_on_its_company() -> None:
    with loader(batch=24, **ALL) as wide, loader(batch=2, **ALL) as narrow:
        rows = {i: wide_batch.select([k]) for wide_batch in [next(wide)] for k, i in enumerate(wide_batch.sample_ids)}
        for _ in range(3):
            batch = next(narrow)
            assert all(same(batch.select([k]), rows[i]) for k, i in enumerate(batch.sample_ids))


def test_changed_data_or_settings_are_refused(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    with loader(root) as source:
        state = source.state()
    with loader(root) as source:
        source.restore(state)
    for change, word in [({"batch": 8}, "global batch"), ({"seed": 1}, "seed"), ({"where": "n_frames > 1"}, "")]:
        with loader(root, **change) as source:
            if word:
                with pytest.raises(DataError, match=word):
                    source.restore(state)
            else:
                source.restore(state)  # a clause that selects the same rows is the same data
    with Loader(data(root), encoders((2, 8, 8))) as source, pytest.raises(DataError, match="the codec of this run was"):
        source.restore(state)
    with loader(root) as source:
        source.restore({**state, "fingerprint": {k: v for k, v in state["fingerprint"].items() if k != "encoders"}})
    rows = pq.read_table(root / "manifest.parquet").to_pylist()
    rows[3]["caption"] = "something else"
    pq.write_table(pq.read_table(root / "manifest.parquet").from_pylist(rows), root / "manifest.parquet")
    with loader(root) as source, pytest.raises(DataError, match="not the one this run was training on"):
        source.restore(state)
    root = copy(tmp_path / "e")
    shard = next((root / "shards").glob("*.tar"))
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with loader(root) as source, pytest.raises(DataError, match="not the one this run was training on"):
        source.restore(state)
    shard.unlink()
    with pytest.raises(DataError, match="missing"):
        loader(root)


def test_a_shard_that_does_not_match_its_manifest_is_an_error_that_names_the_sample(tmp_path: Path) -> None:
    root = copy(tmp_path / "d")
    for shard in (root / "shards").glob("*.tar"):
        shard.write_bytes(shard.read_bytes()[:2000])
    with loader(root) as source, pytest.raises(DataError, match=r"sample \S+: shards/.* ends inside"):
        next(source)


def test_where_selects_and_a_wrong_clause_names_the_columns(tmp_path: Path) -> None:
    with loader(where="state = 'listen'") as source:
        assert source.summary["states"].keys() == {"listen"}
    with pytest.raises(DataError, match=r"columns are: .*duration_s"):
        Shards(dataset(), "no_such_column = 1")
    with pytest.raises(DataError, match="not a valid condition"):
        Shards(dataset(), "state = ")
    with pytest.raises(DataError, match="none of the 24"):
        Shards(dataset(), "duration_s > 1000")
    with pytest.raises(DataError, match="not a valid condition"):
        Shards(dataset(), "segment_id IN (SELECT content FROM read_text('/etc/hostname'))")
    with pytest.raises(DataError, match=r"no manifest\.parquet"):
        Shards(dataset() / "nowhere")
    pq.write_table(pq.read_table(dataset() / "manifest.parquet", columns=["segment_id"]), tmp_path / "manifest.parquet")
    with pytest.raises(DataError, match="lacks the columns"):
        Shards(tmp_path)


def test_shapes_masks_and_states_of_a_batch() -> None:
    with loader(batch=24, max_refs=3, silence=0.0) as source:
        batch = next(source)
        c = batch.cond
        assert batch.x_BFCHW.shape == (24, 4, 3 * 4 * 8 * 8, 4, 4) and c.speak_BTA.shape == (24, 32, 16)
        assert torch.equal(c.speak_on_BF, (batch.state_BF & 1).bool())
        assert torch.equal(c.listen_on_BF, (batch.state_BF & 2).bool())
        assert c.ref_mask_BK.any(1).all() and c.text_mask_BL.any(1).all()
        assert (c.ref_BKCHW[~c.ref_mask_BK] == 0).all() and set(c.ref_kind_BK.unique().tolist()) <= {0, 1, 2}
        # What drives the puppet is loud where its stream is on, and not where it is off.
        on = c.speak_on_BF.repeat_interleave(8, 1)
        assert c.speak_BTA[on].mean() > c.speak_BTA[~on].mean() + 0.3


def test_silence_replaces_null_for_the_chosen_share() -> None:
    with loader(batch=24, silence=1.0) as source:
        batch = next(source)
        off = ~(batch.state_BF & 2).bool()
        assert batch.cond.listen_on_BF.all()
        silent = batch.cond.listen_BTA[off.repeat_interleave(8, 1)]
        assert torch.equal(silent, source.maker.silence_A.expand_as(silent))


def test_too_short_for_every_bucket_and_uneven_ranks_are_refused() -> None:
    with pytest.raises(DataError, match="the longest has 24 frames"):
        loader(bucket=(32, 32, 32))
    with pytest.raises(DataError, match="does not divide among 3 ranks"):
        loader(world_size=3)
    with pytest.raises(ConfigError, match="must lie between 0 and 1"):
        loader(silence=1.5)
    with pytest.raises(DataError, match="18 frames do not fit"):
        loader(bucket=(18, 32, 32))


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 64))
def test_windows_lie_inside_the_clip(n_frames: int, frames: int, hop: int) -> None:
    if frames > n_frames:
        with pytest.raises(DataError):
            window_starts(n_frames, frames, hop)
    else:
        starts = window_starts(n_frames, frames, hop)
        assert starts[0] == 0 and starts[-1] + frames <= n_frames < starts[-1] + frames + hop


def test_bucket_by_aspect_then_length() -> None:
    buckets = [(16, 32, 32), (32, 32, 32), (32, 32, 64)]
    assert choose_bucket(20, 512, 512, buckets) == (16, 32, 32)
    assert choose_bucket(40, 554, 512, buckets) == (32, 32, 32)
    assert choose_bucket(40, 1280, 720, buckets) == (32, 32, 64)
    assert choose_bucket(10, 512, 512, buckets) is None


def reference(i: int, *, overlaps: bool = False, kind: str = "view", time_s: float = 0.0) -> ReferenceRef:
    return ReferenceRef.model_validate({
        "member": f"ref_{kind}_{i}.jpg", "kind": kind, "source_id": "src", "time_s": time_s, "distance": 0.1,
        "view": "frontal", "expression": "neutral", "quality": 1.0, "overlaps_clip": overlaps,
    })  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 99), st.integers(1, 5))
def test_references_come_from_outside_the_clip_where_there_are_any(inside: list[bool], seed: int, k: int) -> None:
    refs = [reference(i, overlaps=o, kind="global" if i == 0 else "view", time_s=i) for i, o in enumerate(inside)]
    chosen = choose_references(refs, (2.0, 4.0), "src", Data(max_refs=k), np.random.default_rng(seed))
    assert 1 <= len(chosen) <= k and len(set(chosen)) == len(chosen)
    if not all(inside):
        assert not any(inside[i] for i in chosen)
        assert inside[0] or 0 in chosen, "the global picture is always there"
    elif len(inside) not in (3, 4):
        assert all(not 2.0 <= refs[i].time_s < 4.0 for i in chosen)
    assert choose_references([], (2.0, 4.0), "src", Data(), np.random.default_rng(0)) == []
    only = [reference(0, overlaps=True, time_s=3.0)]
    assert choose_references(only, (2.0, 4.0), "src", Data(), np.random.default_rng(0)) == [0]


def test_any_fsspec_url_will_do() -> None:
    fsspec.filesystem("memory").pipe("/lpm-test/x.bin", b"0123456789")
    storage = Storage("memory://lpm-test")
    assert storage.read("x.bin", 2, 3) == b"234" and storage.read("x.bin", 5) == b"56789"
    assert storage.sizes(["x.bin", "y"]) == {"x.bin": 10, "y": -1}


def test_storage_refuses_to_leave_its_root(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for name in ("../x", "/etc/hostname", "a/../../b"):
        with pytest.raises(StoreError, match="unsafe"):
            storage.read(name)
    with pytest.raises(StoreError, match="cannot open"):
        Storage("nosuchscheme://x")
    storage.write("a/b", b"0123456789")
    assert storage.read("a/b", 3, 4) == b"3456"
    storage.write("a/b", b"abcdefghij")
    assert storage.read("a/b", 3, 4) == b"defg" and storage.sizes(["a/b", "a/c"]) == {"a/b": 10, "a/c": -1}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # the server's own
def test_object_storage_gives_the_same_batches(bucket: str) -> None:
    root = f"s3://{bucket}/some/dataset"
    remote = Storage(root)
    for file in [dataset() / "manifest.parquet", *(dataset() / "shards").glob("*.tar")]:
        remote.write(str(file.relative_to(dataset())), file.read_bytes())
    with loader(root) as far, loader() as near:
        assert far.state() == near.state()
        assert same(next(far), next(near))
    precompute(root, "a", encoders(), [BUCKET], dtype="float32")
    with loader(root, precomputed="a") as far, loader(hop_frames=16) as near:
        assert same(next(far), next(near))
    with pytest.raises(DataError, match="no manifest"):
        Shards(f"s3://{bucket}/other")
