"""`lpm perform` as its users start it: what comes of a recording of two voices, and what is said where nothing can."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import perform_case as case
import pytest
import soundfile
import torch
from speech_media import need

from annotators.speech.speaker_segmentation import SEGMENTATION_WEIGHT
from annotators.speech.voices import CAMPPLUS_WEIGHT
from curation.media import audio as audio_module
from lpm_train.data.clip import read_video
from lpm_train.tools.perform import Performed
from lpm_train.tools.provenance import SOURCE_TYPE
from schemas.samples.sample import SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ
from workflows import cli
from workflows.performing import command, hearing
from workflows.performing.voices import read_voices

FRAMES = -(-round(case.SECONDS * 1000) // 40)
FILES = ["a.mp4", "b.mp4", "both.mp4", "performance.json", "voices.json", "voices.rttm"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums come in the same order, so that equal inputs give equal bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint `run`, faces, the recording `talk.wav` and its true turns `talk.rttm`."""
    folder = tmp_path_factory.mktemp("perform")
    case.write_checkpoint(folder / "run")
    case.write_faces(folder)
    case.write_talk(folder / "talk.wav")
    case.write_rttm(folder / "talk.rttm")
    return folder


def lpm(here: Path, out: Path, *more: object, recording: str = "talk.wav", run: str = "run") -> int:
    """Run the command in this process and return its exit code."""
    faces = ["--image-a", here / "a.png", "--image-b", here / "b.png"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["perform", *map(str, [here / recording, here / run, *faces, "--out", out, *more])])
    return int(ended.value.code or 0)


def videos(out: Path, names: Sequence[str] = ("a", "b", "both")) -> dict[str, Any]:
    return {n: read_video((out / f"{n}.mp4").read_bytes(), (16, 32 if n == "both" else 16)) for n in names}


def sound(file: Path) -> Any:
    """Decode the sound of a performance, [N]."""
    with av.open(str(file)) as container:
        return np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])


@pytest.fixture(scope="module")
def made(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    assert lpm(here, out, "--voices", here / "talk.rttm", "--text-a", "nods", "--seed", 4) == 0
    return out


@pytest.fixture
def no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything be done but the generation."""

    def generate(asked: object, config: object, recording: object, voices: object, heard_T: np.ndarray) -> Performed:
        return Performed(len(heard_T), "0" * 16, 1.0, [{}, {}])

    monkeypatch.setattr(command, "_generate", generate)


def test_a_recording_becomes_two_performances(made: Path, here: Path) -> None:
    assert sorted(p.name for p in made.iterdir()) == FILES
    for name, shown in videos(made).items():
        assert len(shown) == FRAMES
        data = (made / f"{name}.mp4").read_bytes()
        assert data.count(SOURCE_TYPE.encode()) == 2  # in the tags and in the XMP packet
        heard = sound(made / f"{name}.mp4")
        want = np.pad(case.tracks().sum(axis=0), (0, 4096))[: len(heard)]
        assert 0 <= len(heard) - FRAMES * SAMPLES_PER_FRAME < 2048
        assert np.corrcoef(heard, want)[0, 1] > 0.98  # the whole recording, in time
    told = json.loads((made / "performance.json").read_text())
    a, b = told["people"]["a"], told["people"]["b"]
    assert (told["frames"], told["seconds"], told["overlap_s"]) == (FRAMES, FRAMES / 25, 0.4)
    assert a["speak_s"] == b["listen_s"] and b["speak_s"] == a["listen_s"] == 1.12
    assert a["both_s"] == b["both_s"] == 0.4 and a["idle_s"] == b["idle_s"]
    assert (a["seed"], b["seed"], a["text"], b["text"]) == (4, 5, "nods", "")
    assert a["mode_changes"] == 5 and a["timing"]["real_time_factor"] > 0 and told["real_time_factor"] > 0
    assert len(told["model"]) == 16 and told["stage"] == "causal" and told["heard_by"]["voices"].endswith("talk.rttm")


def test_what_was_written_is_taken_back_and_gives_the_same(made: Path, here: Path, tmp_path: Path) -> None:
    """By the JSON, in other chunks of decoding; and without both.mp4.

    Sound is the same to the sample. Pictures are to a level here and there: in a process that has computed much else,
    sums round otherwise now and then. Another seed changes them by far more.
    """
    before = {p: (sound(made / f"{p}.mp4"), videos(made, p)[p].short()) for p in "ab"}
    for n, chunk_s in enumerate((1, 7)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(audio_module, "CHUNK_S", chunk_s)
            options = ("--voices", made / "voices.json", "--text-a", "nods", "--seed", 4, "--no-both")
            assert lpm(here, tmp_path / str(n), *options) == 0
        for p, (heard, shown) in before.items():
            assert np.array_equal(sound(tmp_path / str(n) / f"{p}.mp4"), heard)
            apart = (videos(tmp_path / str(n), p)[p].short() - shown).abs().float()
            assert apart.mean() < 0.5
    assert not (tmp_path / "0" / "both.mp4").exists()


def test_words_seeds_and_who_is_who_show(made: Path, here: Path, tmp_path: Path) -> None:
    before = videos(made, "ab")
    assert lpm(here, tmp_path, "--voices", made / "voices.rttm", "--speakers", "b,a", "--seed", 4, "--no-both") == 0
    after = videos(tmp_path, "ab")
    assert (before["a"] != after["a"]).any() and (before["b"] != after["b"]).any()
    told = [json.loads((d / "performance.json").read_text())["people"] for d in (made, tmp_path)]
    assert told[0]["a"]["speak_s"] == told[1]["b"]["speak_s"]


def test_a_stretch_of_the_recording(here: Path, tmp_path: Path, no_frames: None) -> None:
    assert lpm(here, tmp_path, "--voices", here / "talk.rttm", "--start", 1.7, "--end", 4.5) == 0
    told = json.loads((tmp_path / "performance.json").read_text())
    assert (told["frames"], told["start_s"], told["people"]["b"]["speak_s"]) == (70, 1.7, pytest.approx(1.12, abs=0.05))
    assert [t.start_s for t in read_voices(tmp_path / "voices.rttm")] == [0.3, 2.4, 3.5]  # of the whole recording


def by_level(audio: np.ndarray, start_s: float, settings: object) -> hearing.Heard:
    """Stand in for the diarizer: the two made voices by their pitch, known from the case."""
    turns = [hearing.Turn(a, b, f"speaker_{who}") for who, a, b in case.TURNS]
    return hearing.Heard(turns, {"diarizer": "made"}, [])


def test_who_speaks_is_heard_and_can_be_corrected(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_frames: None
) -> None:
    monkeypatch.setattr(hearing, "diarized", by_level)
    assert lpm(here, tmp_path) == 0
    assert [t.speaker for t in read_voices(tmp_path / "voices.rttm")] == ["a", "b", "a"]
    assert json.loads((tmp_path / "voices.json").read_text())["by"] == {"diarizer": "made"}
    corrected = (tmp_path / "voices.rttm").read_text().replace("2.400 1.500", "2.000 1.900")
    (tmp_path / "voices.rttm").write_text(corrected)
    assert lpm(here, tmp_path, "--voices", tmp_path / "voices.rttm") == 0
    assert (tmp_path / "voices.rttm").read_text() == corrected
    assert json.loads((tmp_path / "voices.json").read_text())["seconds"]["b"] == 1.9


def test_what_was_heard_is_written_where_it_will_not_do(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], no_frames: None
) -> None:
    def three(*_: object) -> hearing.Heard:
        heard = by_level(*_)  # type: ignore[arg-type]
        return hearing.Heard([*heard.turns, hearing.Turn(5, 5.4, "speaker_c"), hearing.Turn(0, 0.1, "speaker_c")], {})

    monkeypatch.setattr(hearing, "diarized", three)
    assert lpm(here, tmp_path) == 1
    assert "3 voices were heard" in capfd.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["voices.json", "voices.rttm"]
    assert lpm(here, tmp_path, "--speakers", "speaker_b,speaker_a+speaker_c") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES[3:]
    monkeypatch.setattr(hearing, "diarized", lambda *_: hearing.Heard([hearing.Turn(0, 1, "speaker_0")], {}))
    assert lpm(here, tmp_path / "one") == 1
    assert "one voice was heard (speaker_0 1.0 s), and a performance has two" in capfd.readouterr().err


def test_overlaps_are_taken_apart_where_that_is_asked_for(
    here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], no_frames: None
) -> None:
    need(CAMPPLUS_WEIGHT)
    asked = ("--voices", here / "talk.rttm", "--separator", "{use: perform_case:Quarters}")
    assert lpm(here, tmp_path, *asked) == 0
    assert "both talk for 0.4 s (of it 0.4 s taken apart)" in capfd.readouterr().out
    told = json.loads((tmp_path / "performance.json").read_text())["separated"]
    assert (told["separated_s"], told["separator"]) == (0.4, "quarters")


def test_a_channel_each(here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], no_frames: None) -> None:
    soundfile.write(here / "two.wav", case.tracks().T, PACKED_AUDIO_HZ)
    assert lpm(here, tmp_path, "--voices", here / "talk.rttm", "--channels", recording="two.wav") == 0
    assert "each channel is one person's" in capfd.readouterr().out
    need("silero_vad_v6.onnx")
    assert lpm(here, tmp_path, "--channels", "--speakers", "b,a", recording="two.wav") == 1
    assert "exchange the pictures" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recording": "none.wav"}, "no file at"),
        ({"recording": "talk.rttm"}, "is no recording that can be read"),
        ({"recording": "a.png"}, "is no recording that can be read|has no sound"),
        ({"recording": "empty.wav"}, "has zero bytes"),
        ({"recording": "silent.mp4"}, "has no sound: give a recording of two people"),
        ({"run": "nothing"}, "no checkpoint in"),
        ({"run": "both_ways"}, "sees both directions and cannot stream: give a causal or distilled checkpoint"),
        (["--image-b", "talk.rttm"], "talk.rttm is no picture"),
        (["--image-a", "none.png"], "cannot read the picture"),
        (["--voices", "late.rttm"], "speak until 9 s, but the recording ends at 5.50 s"),
        (["--voices", "alone.rttm"], "one voice was heard"),
        (["--voices", "a.png"], "cannot read the voices"),
        (["--start", "6"], "are no stretch of talk.wav, which lasts 5.50 s"),
        (["--start", "3", "--end", "2"], "are no stretch of talk.wav"),
        (["--end", "99"], "are no stretch of talk.wav"),
        (["--speakers", "a"], "name two voices"),
        (["--diarizer", "clusterin"], "--diarizer: .*clustering"),
        (["--diarizer", "{use: "], "--diarizer .*write a name"),
        (["--separator", "tasnet"], "--separator: .*conv_tasnet"),
        (["--device", "cuda:99x"], "--device 'cuda:99x'"),
        (["--set", "stream.step=2"], "did you mean"),
        (["--channels"], "talk.wav has 1 channels"),
        (["--set", "model.width=8"], "not what was trained"),
        (["--separator", "{use: conv_tasnet, model: none.pt}"], "none.pt|torchaudio"),
        (["--ref-a", "b.png", "--ref-a", "b.png"], "at most 2"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    change: dict[str, str] | list[str], said: str, here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "empty.wav").write_bytes(b"")
    (here / "late.rttm").write_text("SPEAKER x 1 1 1 <NA> <NA> a\nSPEAKER x 1 8 1 <NA> <NA> b\n")
    (here / "alone.rttm").write_text("SPEAKER x 1 1 1 <NA> <NA> a\n")
    if not (here / "both_ways").exists():
        case.write_checkpoint(here / "both_ways", "pretrain")
        case.write_silent(here / "silent.mp4")
    named = change if isinstance(change, dict) else {}
    options = [here / o if (here / o).suffix in (".png", ".rttm") else o for o in (change if named != change else [])]
    if "--voices" not in options:
        options += ["--voices", here / "talk.rttm"]
    assert lpm(here, tmp_path / "out", *options, **named) == 1
    err = capfd.readouterr().err
    assert err.startswith("lpm: ") and re.search(said, " ".join(err.split())) and "Traceback" not in err, err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("a.mp4", "recording"), ("both.mp4", "recording"), ("b.mp4", "--image-a"), ("performance.json", "--voices"),
        ("both.mp4", "--ref-b"), ("voices.json", "recording"), ("voices.rttm", "--image-b"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_read_is_not_written_over(
    name: str, option: str, linked: bool, here: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even by an earlier performance's file that goes; through links as well."""
    source = {"recording": "talk.wav", "--voices": "talk.rttm"}.get(option, "a.png")
    file, out = tmp_path / name, tmp_path
    file.write_bytes((here / source).read_bytes())
    if linked:
        out = tmp_path / "link"
        out.symlink_to(tmp_path)
    voices = [] if option == "--voices" else ["--voices", here / "talk.rttm"]
    more = {"recording": str(file)} if option == "recording" else {}
    given = f"view:{file}" if option == "--ref-b" else file
    assert lpm(here, out, *voices, *([] if more else [option, given]), "--no-both", **more) == 1
    err = capfd.readouterr().err
    assert err.startswith("lpm: ") and "is an input, and what is made would overwrite it" in err
    assert file.read_bytes() == (here / source).read_bytes()
    assert {p.name for p in tmp_path.iterdir()} <= {name, "link"}


@pytest.mark.slow
def test_a_real_call_is_performed(here: Path, tmp_path: Path, media: Path) -> None:
    need(SEGMENTATION_WEIGHT, CAMPPLUS_WEIGHT)
    call = media / "telephone_two_speakers.wav"
    assert lpm(here, tmp_path, recording=str(call)) == 0
    told = json.loads((tmp_path / "performance.json").read_text())
    assert told["frames"] == 750 and told["heard_by"]["diarizer"] == "segmentation-3.0+ahc+pieces"
    assert all(told["people"][p]["speak_s"] > 8 for p in "ab") and told["overlap_s"] > 0.5
    assert len(videos(tmp_path)["both"]) == 750
