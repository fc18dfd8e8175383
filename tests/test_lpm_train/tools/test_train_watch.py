"""Training that can be seen: the run's page, its videos with sound beside the data, and what a killed run keeps."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
import pytest
import train_data_case as case
from browser import browser, path_of_browser

from lpm_train.batch import KINDS
from lpm_train.config import Config, ConfigError, override
from lpm_train.data import make
from lpm_train.data.clip import read_record, read_video, to_pixels
from lpm_train.data.loader import Loader
from lpm_train.data.order import Bucket
from lpm_train.proof.synthetic_shards import write_dataset
from lpm_train.resolve import resolve
from lpm_train.session import make_encoders, run_stage
from lpm_train.tools import clips
from lpm_train.tools.provenance import SOURCE_TYPE
from lpm_train.tools.watch import watching
from lpm_train.tools.watch.composing import mixed, side_by_side
from lpm_train.tools.watch.curves import Curve, chart, lanes, thinned, ticks
from lpm_train.tools.watch.page import page, poster
from lpm_train.tools.watch.watching import Watch, choose, name_of, runs_of, watch
from lpm_train.training.checkpoint import path_of
from lpm_train.training.log import read_log
from schemas.samples.sample import SAMPLES_PER_FRAME, EventRef, Sample

FRAMES = 16
SETTINGS = [
    f"data.frames={FRAMES}", "data.height=32", "data.width=32", "data.batch=2", "data.workers=1", "data.prefetch=1",
    "data.codec.stride=[4, 8, 8]", "data.audio.steps_per_frame=1", "data.audio.n_mels=16", "data.text.width=16",
    "model.width=24", "model.depth=1", "model.heads=2", "flow.steps=2", "run.steps=4", "run.eval_every=2",
    "run.save_every=4", "run.device=cpu", "watch.clips=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("puppets")
    write_dataset(out, identities=3, held_out=3, clips=2, n_frames=FRAMES)
    return out


def settings(root: Path, *changes: str) -> Config:
    return resolve("toy", str(root), None, [*SETTINGS, *changes])


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, looked at before the first and after each second."""
    out = tmp_path_factory.mktemp("runs") / "seen"
    run_stage(settings(root), out, watch=watch)
    return out


def addresses(out: Path) -> list[str]:
    return re.findall(r'<video [^>]*src="([^"]*)"', (out / "index.html").read_text())


def test_the_page_names_every_clip_and_plays_what_lies_beside_it(run: Path) -> None:
    text, clips = (run / "index.html").read_text(), json.loads((run / "watch" / "clips.json").read_text())
    assert len(clips) == 3 and len(addresses(run)) == 9 == len(list((run / "watch").glob("*.mp4")))
    for clip in clips.values():
        ((told, start, end),) = clip["told"]  # the caption, throughout
        assert f"<h3>{clip['sample_id']}</h3>" in text and f"<p>{told}</p>" in text and clip["split"] == "val"
        assert (start, end) == (0, pytest.approx(FRAMES / 25)) and clip["references"][0][0] in KINDS
        assert sum(end - start for _, start, end in clip["runs"]) == pytest.approx(FRAMES / 25) == clip["seconds"]
    for title in ("Training loss", "Held-out loss", "Learning rate", "Gradient norm"):
        assert f'aria-label="{title}"' in text
    for address in addresses(run):
        assert (run / address).is_file()
    assert "<script" not in text and not re.search(r'(?:src|href)="(?:https?:|//|/)', text)
    assert "&#34;heldout_loss&#34;" in text  # the configuration
    assert not list(run.rglob(".tmp-*"))


def test_videos_show_the_data_at_the_left_with_sound_of_their_length(run: Path, root: Path) -> None:
    clip = next(iter(json.loads((run / "watch" / "clips.json").read_text()).values()))["sample_id"]
    file = run / "watch" / f"step_00000004-{clip}.mp4"
    with av.open(str(file)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt, sound.codec_context.name) == (
            "h264", "yuv420p", "aac",
        )  # fmt: skip
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        container.seek(0)
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(frames) == FRAMES and 0 <= len(heard) - FRAMES * SAMPLES_PER_FRAME < 3 * 1024
    assert np.abs(heard).max() > 0.01
    with case.loader(root, bucket=(FRAMES, 32, 32), where=f"segment_id = '{clip}'") as loader:
        mp4 = loader.shards.read(loader.shards[clip], ["mp4"])["mp4"]
    data = read_video(mp4, (32, 32)).permute(0, 2, 3, 1).numpy().astype(int)
    left = np.stack(frames)[:, -256:, :256].reshape(FRAMES, 32, 8, 32, 8, 3).mean((2, 4))
    right = np.stack(frames)[:, -256:, -256:].reshape(FRAMES, 32, 8, 32, 8, 3).mean((2, 4))
    assert np.abs(left - data).mean() < 3 < 20 < np.abs(right - data).mean()  # a model of four steps shows noise
    assert file.read_bytes().count(SOURCE_TYPE.encode()) == 2  # marked as generated


def test_a_killed_run_keeps_its_videos_and_goes_on(
    root: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its second look and before its first checkpoint, then after one; videos are made once."""
    out, look = tmp_path / "run", Watch.look

    def killed(self: Watch, stage: Any, step: int, ended: bool = False) -> None:
        look(self, stage, step, ended)
        if step == 6:
            raise KeyboardInterrupt

    longer = settings(root, "run.steps=8", "watch.clips=1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Watch, "look", killed)
        run_stage(longer, out, watch=watch)
    assert path_of(out, 4).exists() and not path_of(out, 6).exists()
    before = {f.name: f.stat().st_mtime_ns for f in (out / "watch").glob("*.mp4")}
    (out / "watch" / "step_00000007-stale.mp4").write_bytes(b"of a step that is no evaluation any more")
    (out / "watch" / ".tmp-1").write_bytes(b"half")
    run_stage(longer, out, watch=watch)
    after = {f.name: f.stat().st_mtime_ns for f in (out / "watch").glob("*.mp4")}
    assert {int(n[5:13]) for n in after} == {0, 2, 4, 6, 8} and len(after) == 5 == len(addresses(out))
    assert all(after[n] == t for n, t in before.items() if int(n[5:13]) <= 4)
    assert not list(out.rglob(".tmp-*")) and "of 8 steps" in (out / "index.html").read_text()
    same = "step_00000004-{}.mp4".format(next(iter(json.loads((out / "watch" / "clips.json").read_text()))))
    theirs, ours = (read_video((r / "watch" / same).read_bytes(), (280, 516)) for r in (run, out))
    # The same noise and weights: the same pictures in every run, but for the last bits of sums.
    assert (theirs[:, :, 24:].float() - ours[:, :, 24:].float()).abs().mean() < 0.5


def test_showing_costs_nothing_where_it_is_not_wanted_and_its_failure_ends_no_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_stage(settings(root, "watch.every=0", "run.steps=2"), tmp_path / "blind", watch=watch)
    assert not (tmp_path / "blind" / "watch").exists() and not (tmp_path / "blind" / "index.html").exists()

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watching, "write_mp4", full)
    run_stage(settings(root, "run.steps=2"), tmp_path / "full", watch=watch)
    assert "could not be shown at step 2" in capsys.readouterr().out and path_of(tmp_path / "full", 2).exists()
    with pytest.raises(ConfigError, match="must not be negative"):
        settings(root, "watch.clips=-1")


def test_every_nth_evaluation_and_the_ends_are_shown(root: Path, tmp_path: Path) -> None:
    changes = ("run.eval_every=1", "run.steps=5", "watch.every=2", "watch.clips=1")
    run_stage(settings(root, *changes), tmp_path, watch=watch)
    assert [step for step, _, _ in watching.videos(tmp_path)] == [0, 2, 4, 5]
    assert [r["step"] for r in read_log(tmp_path) if "evaluation" in r] == [0, 1, 2, 3, 4, 5]


def test_clips_are_chosen_by_seed_and_name_alone_and_states_take_turns() -> None:
    bucket: Bucket = (24, 32, 32)
    samples = {f"s{i}": (bucket, "speak" if i < 8 else "listen") for i in range(10)}
    chosen = choose(samples, 4, 0)
    assert chosen == choose(dict(reversed(samples.items())), 4, 0) and {d.turn for d in chosen} == {0}
    assert [samples[d.sample_id][1] for d in chosen] == ["speak", "listen", "speak", "listen"]
    assert {d.sample_id for d in chosen} != {d.sample_id for d in choose(samples, 4, 1)}
    assert len(choose(samples, 99, 0)) == 10
    assert name_of("a-b_c.1") == "a-b_c.1" and re.fullmatch("[0-9a-f]{16}", name_of("../ä"))
    assert runs_of(np.array([1, 1, 2], np.int8)) == [("speak", 0, 0.08), ("listen", 0.08, 0.12)]


def test_what_stands_in_the_data_is_no_markup(tmp_path: Path) -> None:
    said = {"sample_id": "<i>", "told": [["<script>alert(1)</script>", 0, 1]], "runs": [["idle", 0, 1]], "seconds": 1.0,
            "size": [4, 4], "references": [["<b>", "data:,"]], "split": "val"}  # fmt: skip
    text = page(override(settings(tmp_path), ["data.where=a < 2"]), tmp_path, {"x": said}, [(0, "x", "watch/x.mp4")], 0)
    assert "<script" not in text and "&lt;script&gt;" in text and "<i>" not in text and "a &lt; 2" in text
    assert "reference picture, &lt;b&gt;" in text and "<b>" not in text.partition('class="refs"')[2].split("</div>")[0]
    assert poster(tmp_path / "none.mp4") == ""


def test_pictures_of_odd_sizes_are_laid_side_by_side_in_even_ones() -> None:
    one = np.zeros((271, 301, 3), np.uint8)
    frame = next(side_by_side([one], [one + 255], ("a", "b")))
    assert frame.shape == (296, 606, 3) and frame[150, 10].max() == 0 and frame[150, -10].min() == 255
    with pytest.raises(ValueError, match="shorter"):
        list(side_by_side([one, one], [one], ("a", "b")))
    loud, soft = np.array([0.9, -0.3], np.float32), np.array([0.1, 0.1], np.float32)
    assert np.abs(mixed(loud, loud)).max() == 1.0 and mixed(soft, soft).tolist() == pytest.approx([0.2, 0.2])


def test_the_page_shows_what_the_model_is_told_and_given(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that change with time, and the very pictures that are chosen for the model, at the size that it sees."""
    events = [EventRef(event="smile", kind="facial_action", start_s=0.0, end_s=0.2, confidence=1.0)]

    def eventful(data: bytes, sample_id: str) -> Sample:
        return read_record(data, sample_id).model_copy(update={"events": events, "states": [], "state": "speak"})

    for module in (make, clips):
        monkeypatch.setattr(module, "read_record", eventful)
    changes = (
        "data.prompts=timed",
        "data.prompt_latents=2",
        "stream.block=2",
        "stream.window=8",
        "run.steps=1",
        "watch.clips=1",
        "data.hop_frames=16",
    )
    config = settings(root, *changes)
    run_stage(config, tmp_path, watch=watch)
    (said,) = json.loads((tmp_path / "watch" / "clips.json").read_text()).values()
    (first, *one), (second, *two) = said["told"]
    assert first == f"{second} Now: smile." and one == [0, pytest.approx(0.32)] and two == [pytest.approx(0.32), 0.64]
    text = (tmp_path / "index.html").read_text()
    assert f"<li>{first}</li><li>{second}</li>" in text and 'aria-label="texts over time"' in text
    with Loader(config.data, make_encoders(config.data), seed=config.run.seed) as loader:
        (draw,) = [d for d in choose(loader.order.samples, 99, 0) if d.sample_id == said["sample_id"]]
        given, kinds = loader.maker(draw).cond, {n: name for name, n in KINDS.items()}
        codec = loader.encoders.codec
        seen = [codec.decode(given.ref_BKCHW[:, k : k + 1])[0][0, 0] for k in range(int(given.ref_mask_BK.sum()))]
    assert len(seen) == len(said["references"]) > 0
    for (kind, uri), number, want in zip(said["references"], given.ref_kind_BK[0].tolist(), seen, strict=False):
        assert kind == kinds[number] and f'<img src="{uri}"' in text
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)[
            ..., ::-1
        ]
        assert np.abs(picture.astype(int) - to_pixels(want[None])[0]).mean() < 6  # JPEG


def test_curves() -> None:
    assert ticks(0, 10) == [0, 5, 10] and ticks(0.1, 0.35) == [0.1, 0.2, 0.3] and ticks(3, 3) == [3]
    assert thinned([(float(i), 2.0 * i) for i in range(1000)], 10)[0] == (49.5, 99.0) and thinned([]) == []
    falling = Curve("a & b", [(0, 100.0), (1, 1.0), (2, float("nan"))])
    assert "a &amp; b <b>1</b>" in (drawn := chart("loss", [falling], 2)) and "logarithmic" in drawn
    assert "nan" not in drawn and "logarithmic" not in chart("loss", [falling], 2, linear=True)
    assert chart("none", [Curve("x", [])], 5) == "" and "<circle" in chart("one", [Curve("x", [(0, 0.0)])], 0)
    assert 'class="listen"' in lanes([("listen", 0, 1.5), ("idle", 1.5, 2)], 2, "states")


def test_tensorboard_is_asked_for_by_name(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings(root, "log.tensorboard=true", "run.steps=2", "watch.every=0")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'openlpm\[tensorboard\]'"):
        run_stage(asked, tmp_path / "none")
    assert not (tmp_path / "none").exists()

    told: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append((Path(folder).name, purge_step))

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            told.append((tag, step))

        def close(self) -> None:
            told.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    run_stage(asked, tmp_path / "some")
    assert told[0] == ("tensorboard", 1) and told[-1] == "closed"
    assert {("train/loss", 1), ("train/lr", 2), *(("evaluation/heldout_loss", i) for i in (0, 2))} < set(told)
    run_stage(override(asked, ["run.steps=3"]), tmp_path / "some")
    assert ("tensorboard", 3) in told


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_the_run_wrote(root: Path, tmp_path: Path) -> None:
    """Its own reader, on the files of a run that went on: every number of the log, each step once."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    asked = settings(root, "log.tensorboard=true", "run.steps=2", "watch.every=0")
    run_stage(asked, tmp_path)
    run_stage(override(asked, ["run.steps=3"]), tmp_path)
    read = reading.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    steps = [line for line in read_log(tmp_path) if "evaluation" not in line]
    assert [e.step for e in read.Scalars("train/loss")] == [1, 2, 3]
    for name in ("loss", "lr"):
        assert [e.value for e in read.Scalars(f"train/{name}")] == pytest.approx([s[name] for s in steps], rel=1e-6)
    assert {e.step for e in read.Scalars("evaluation/heldout_loss")} >= {0, 2}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(path_of_browser() is None, reason="no Chromium on the path")
def test_the_page_plays_in_a_browser_with_sound_and_fits_a_phone(run: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        for width in (390, 1440):
            tab.size(width, 900)
            tab.open((run / "index.html").as_uri())
            assert tab.eval("document.documentElement.scrollWidth <= innerWidth")
            tab.eval("document.querySelector('video').play()")
            tab.until("document.querySelector('video').currentTime > 0.3")
            assert tab.eval("document.querySelector('video').webkitAudioDecodedByteCount > 0")
        assert tab.errors == []
