"""Training on a precomputed set reads no weights of a public text encoder, and refuses another one all the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import wan_pipeline as pipeline
from train_data_case import BUCKET, copy, data, encoders, same

from lpm_train import parts
from lpm_train.data.loader import Loader
from lpm_train.data.make import Encoders
from lpm_train.encoders.deferred import files_hash
from lpm_train.extras.text_public import PublicText
from lpm_train.storage import DataError
from lpm_train.tools.precompute import precompute

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries' own


def told(directory: str, **settings: str) -> Encoders:
    """Return encoders of which that of words is an umT5, not yet read."""
    made = parts.text("umt5", directory=directory, length=24, **settings).build()
    assert isinstance(made, PublicText) and not made.loaded
    return replace(encoders(), text=made)


def read(made: Encoders) -> bool:
    assert isinstance(made.text, PublicText)
    return made.text.loaded


@pytest.fixture
def words(tmp_path: Path) -> str:
    return pipeline.of_words(tmp_path)


@pytest.fixture
def root(tmp_path: Path, words: str) -> Path:
    """A dataset with a set `a`."""
    out, made = copy(tmp_path / "d"), told(words)
    precompute(out, "a", made, [BUCKET], hop_frames=4, dtype="float32")
    assert read(made)
    return out


def change(words: str, at: float) -> None:
    """Change one value of the weights, as far into their file."""
    file = Path(words) / "model.safetensors"
    held = bytearray(file.read_bytes())
    held[int(at * len(held))] ^= 1
    file.write_bytes(bytes(held))


def test_batches_and_states_are_those_of_weights_that_were_read(root: Path, words: str) -> None:
    unread, whole = told(words), told(words)
    assert isinstance(whole.text, PublicText)
    whole.text.load()
    with (
        Loader(data(root, precomputed="a"), unread) as fast,
        Loader(data(root, precomputed="a"), whole) as slow,
        Loader(data(root, hop_frames=4), told(words)) as live,
    ):
        for _ in range(3):
            batch = next(fast)
            assert same(batch, next(slow)) and same(batch, next(live)) and batch.cond.text_mask_BL.any()
        assert fast.state() == slow.state()
        fast.restore(slow.state())
    assert not read(unread)


def test_without_weights_a_set_is_trained_on_and_clips_are_not(root: Path, words: str) -> None:
    with Loader(data(root, precomputed="a"), told(words)) as whole:
        wanted, state = next(whole), whole.state()
    (Path(words) / "model.safetensors").unlink()
    with Loader(data(root, precomputed="a"), told(words)) as fast:
        assert same(next(fast), wanted) and fast.state() == state
    with (
        Loader(data(root, hop_frames=4), told(words)) as live,
        pytest.raises(DataError, match=r"sample .*no UMT5EncoderModel in .*text_encoder.*model\.safetensors"),
    ):
        next(live)
    with pytest.raises(DataError, match="no UMT5EncoderModel in"):
        precompute(root, "b", told(words), [BUCKET])


def test_other_weights_or_settings_are_refused(root: Path, words: str) -> None:
    with pytest.raises(DataError, match=r"text\.settings\.name"):
        Loader(data(root, precomputed="a"), told(words, dtype="bfloat16"))
    with pytest.raises(DataError, match=r"text\.class: stored .*PublicText"):
        Loader(data(root, precomputed="a"), encoders())
    change(words, 0.9)
    with pytest.raises(DataError, match=r"text\.weights"):
        Loader(data(root, precomputed="a"), told(words))


def test_files_that_say_the_same_otherwise_are_read_and_known_by_their_weights(root: Path, words: str) -> None:
    """A set of before that says nothing of files, and files that were written anew."""
    meta = root / "precomputed" / "a" / "meta.json"
    kept = json.loads(meta.read_text())
    config = Path(words) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"made_by": "another version"}))
    meta_files = kept.pop("files")
    for stored in (kept | {"files": meta_files}, kept):
        meta.write_text(json.dumps(stored))
        made = told(words)
        with Loader(data(root, precomputed="a"), made) as loader:
            next(loader)
        assert read(made)
    assert precompute(root, "a", told(words), [BUCKET], hop_frames=4, dtype="float32")["kept"] == 24
    made = told(words)
    Loader(data(root, precomputed="a"), made).close()
    assert not read(made)  # going on with the set has noted the files


def test_a_hash_of_files_sees_any_of_them(tmp_path: Path) -> None:
    assert files_hash(str(tmp_path / "none")) is None and files_hash(str(tmp_path)) == ""
    (tmp_path / "config.json").write_text("{}")
    assert files_hash(str(tmp_path)) == ""
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(torch.arange(3000, dtype=torch.int64).numpy().tobytes())
    before = files_hash(str(tmp_path))
    assert before and len(before) == 64
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert files_hash(str(tmp_path / "copy")) == before
    for at in (0, 12_345, 23_999):
        held = bytearray((tmp_path / "b.safetensors").read_bytes())
        held[at] ^= 1
        (tmp_path / "b.safetensors").write_bytes(bytes(held))
        assert files_hash(str(tmp_path)) != before
        held[at] ^= 1
        (tmp_path / "b.safetensors").write_bytes(bytes(held))
    (tmp_path / "config.json").write_text('{"d_model": 8}')
    assert files_hash(str(tmp_path)) != before
