"""A foreign dataset with known faults, cut from footage with truth: clean clips beside ones with a planted defect each.

Part of `check_foreign.py`. Two sets of the same plan: `chosen_on`, a folder of clips with metadata.jsonl, from the
footage on which limits were chosen, and `left_out`, a WebDataset tar, from real people who had no say in them.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg

LENGTH_S = 5.0

Take = tuple[str, float]
"""A file of the footage, and the second from which on it is used."""

CHOSEN_ON: dict[str, list[Take]] = {
    "anna": [("talk_woman_garden.mp4", 0.0), ("talk_woman_garden.mp4", 5.0)],
    "bea": [("talkers/generated_11.mp4", 0.0), ("talkers/generated_11.mp4", 6.0)],
    "carl": [("talkers/generated_3.mp4", 0.0), ("talkers/generated_3.mp4", 6.0)],
    "dora": [("talkers/generated_l2.mp4", 0.0), ("talkers/generated_l2.mp4", 6.0)],
}
LEFT_OUT: dict[str, list[Take]] = {
    "ines": [("selfie_outdoor.mp4", 0.0), ("selfie_outdoor.mp4", 7.0)],
    "jun": [("zh_greeting.mp4", 1.0), ("zh_greeting.mp4", 9.0)],
    "kurt": [("tv_interview.mp4", 0.2), ("tv_interview.mp4", 1.0)],
    "lena": [("presenter_cutaways.mp4", 5.0), ("presenter_cutaways.mp4", 14.75)],
}
"""Stretches without a cut and with one face, by the hand-made truth."""


@dataclass
class Planted:
    """One clip of the set: its files by tail, its metadata, what is wrong, and what follows from that."""

    name: str
    files: dict[str, Path]
    facts: dict[str, Any]
    wrong: str = ""
    follows: tuple[str, ...] = ()


@dataclass
class Kitchen:
    """Cuts and spoils clips with ffmpeg."""

    roots: list[Path]
    folder: Path
    made: list[Planted] = field(default_factory=list)

    def find(self, name: str) -> Path:
        return next(r / name for r in self.roots if (r / name).is_file())

    def ffmpeg(self, *arguments: str, out: str) -> Path:
        target = self.folder / out
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *arguments, str(target)]
        if not target.is_file():
            subprocess.run(command, check=True)
        return target

    def clean(self, take: Take, out: str) -> Path:
        """Cut a clip: 25 frames a second, 48 kHz stereo, whole frames from zero."""
        file, at = self.find(take[0]), str(take[1])
        return self.ffmpeg(
            "-ss", at, "-t", str(LENGTH_S), "-i", str(file), "-vf", "fps=25,scale=-2:'min(540,ih)'", "-af", "apad",
            "-shortest", "-t", str(LENGTH_S), *_CODE, out=out,
        )  # fmt: skip


_CODE = (
    "-c:v", "libx264", "-preset", "fast", "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", "-ar",
    "48000", "-ac", "2",
)  # fmt: skip
_SOUND = ("-c:v", "copy", "-c:a", "aac", "-b:a", "128k", "-ar", "48000", "-ac", "2")


def planted(roots: list[Path], people: dict[str, list[Take]], folder: Path) -> list[Planted]:
    """Cut the clips of a set into `folder` and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    k = Kitchen(roots, folder)
    names = list(people)
    clips = {(who, n): k.clean(take, f"{who}{n}.mp4") for who, takes in people.items() for n, take in enumerate(takes)}

    def add(name: str, who: str, wrong: str, *follows: str, fps: float = 25.0, **files: Path) -> None:
        tails = {tail.replace("_", "."): path for tail, path in files.items()}
        k.made.append(Planted(name, tails, {"fps": fps, "person_id": who}, wrong, follows))

    for (who, n), clip in clips.items():
        add(f"{who}{n}_clean", who, "", mp4=clip)
    a, b, c, d = names

    def first(who: str) -> str:
        return str(clips[who, 0])

    for who in (a, b):
        muted = k.ffmpeg("-i", first(who), "-af", "volume=0", *_SOUND, out=f"{who}_muted.mp4")
        add(f"{who}_muted", who, "silent_track", "duplicate", mp4=muted)
        late = k.ffmpeg("-i", first(who), "-af", "adelay=200:all=1,apad", "-t", "5", *_SOUND, out=f"{who}_late.mp4")
        add(f"{who}_late", who, "offset", "duplicate", mp4=late)
        small = ("-vf", "scale=trunc(iw*3/8)*2:trunc(ih*3/8)*2")
        copy = k.ffmpeg("-i", first(who), *small, *_CODE[:4], "-crf", "28", *_CODE[6:], out=f"{who}_copy.mp4")
        add(f"{who}_copy", who, "duplicate", mp4=copy)
    early = k.ffmpeg("-i", first(c), "-af", "atrim=start=0.2,asetpts=PTS-STARTPTS,apad", "-t", "5", *_SOUND,
                     out=f"{c}_early.mp4")  # fmt: skip
    add(f"{c}_early", c, "offset", "duplicate", mp4=early)
    for who, other in ((c, a), (d, b)):
        dub = k.ffmpeg("-i", first(who), "-i", str(clips[other, 1]), "-map", "0:v", "-map", "1:a", *_SOUND,
                       out=f"{who}_dubbed.mp4")  # fmt: skip
        add(f"{who}_dubbed", who, "dubbed", "duplicate", mp4=dub)
    for who, other in ((a, c), (b, b)):
        joined = k.ffmpeg(
            "-t", "2.6", "-i", first(who), "-ss", "2", "-t", "2.4", "-i", str(clips[other, 1]), "-filter_complex",
            _same_size() + ";[a][0:a][b][1:a]concat=n=2:v=1:a=1[v][s]", "-map", "[v]", "-map", "[s]",
            *_CODE, out=f"{who}_cut.mp4",
        )  # fmt: skip
        add(f"{who}_cut", who, "cut", "two_people", mp4=joined)
    for who, rate in ((c, 30), (d, 24)):
        stamp = ("-itsscale", str(25 / rate), "-i", first(who), "-i", first(who))
        fast = k.ffmpeg(*stamp, "-map", "0:v", "-map", "1:a", "-c", "copy", out=f"{who}_stamped.mp4")
        add(f"{who}_stamped", who, "wrong_rate", "dubbed", "offset", "duplicate", fps=rate, mp4=fast)
    add(f"{d}_declared", d, "wrong_rate", "duplicate", fps=30.0, mp4=clips[d, 0])
    beside = k.ffmpeg(
        "-i", first(a), "-i", first(d), "-filter_complex",
        "[0:v]crop='min(iw,ih)':'min(iw,ih)',scale=480:480,setsar=1[l];"
        "[1:v]crop='min(iw,ih)':'min(iw,ih)',scale=480:480,setsar=1[r];[l][r]hstack[v]",
        "-map", "[v]", "-map", "0:a", *_CODE, out="beside.mp4",
    )  # fmt: skip
    add("beside", a, "two_people", "dubbed", mp4=beside)  # the other face speaks as well
    for who, label in ((a, b), (b, a)):  # the second clips of two people once more, later, under each other's label
        file, at = people[who][1]
        late_take = k.clean((file, at - 0.4), f"{who}_label.mp4")
        add(f"{who}_label", label, "wrong_identity", "duplicate", mp4=late_take)
    broken = folder / "broken.mp4"
    broken.write_bytes(clips[b, 1].read_bytes()[:20_000])
    add("broken", b, "unreadable", mp4=broken)
    _tracks(k, clips, (b, c), add)
    return k.made


def _same_size() -> str:
    """Return the filter that brings two pictures to one size."""
    size = "scale=480:480:force_original_aspect_ratio=increase,crop=480:480,setsar=1,fps=25"
    return f"[0:v]{size}[a];[1:v]{size}[b]"


def _tracks(k: Kitchen, clips: dict[tuple[str, int], Path], who: tuple[str, str], add: Any) -> None:
    """Add clips with separate tracks: a talker, right and swapped, and a talker who then hears another, likewise."""
    talker, other = who
    for name, person in (("solo", talker), ("turns", other)):
        source = str(clips[person, 1])
        cut = LENGTH_S if name == "solo" else 2.4
        partner = str(clips[talker if person == other else other, 0])
        picture = ["-i", source]
        if name == "turns":  # the picture stands still while the other one speaks
            hold = f"[0:v]trim=0:{cut},setpts=PTS-STARTPTS,tpad=stop_mode=clone:stop_duration={LENGTH_S - cut}[v]"
            picture += ["-filter_complex", hold, "-map", "[v]", *_CODE[:8]]
        else:
            picture += ["-c:v", "copy"]
        mute = k.ffmpeg(*picture, "-an", out=f"{name}_picture.mp4")
        flac = ("-ac", "1", "-ar", "48000", "-c:a", "flac")
        own = k.ffmpeg("-i", source, "-af", f"volume=0:enable='gt(t,{cut})'", *flac, out=f"{name}_own.flac")
        heard = k.ffmpeg("-i", partner, "-af", f"volume=0:enable='lt(t,{cut})'", *flac, out=f"{name}_heard.flac")
        add(f"{name}_tracks", person, "", "duplicate", mp4=mute, speak_flac=own, listen_flac=heard)
        add(f"{name}_swapped", person, "swapped_tracks", "duplicate", mp4=mute, speak_flac=heard, listen_flac=own)


def as_folder(made: list[Planted], target: Path) -> Path:
    """Lay the clips into a folder with metadata.jsonl."""
    target.mkdir(parents=True, exist_ok=True)
    lines = []
    for clip in made:
        for tail, path in clip.files.items():
            (target / f"{clip.name}.{tail}").write_bytes(path.read_bytes())
        lines.append(json.dumps({"file_name": f"{clip.name}.mp4", **clip.facts}))
    (target / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def as_tar(made: list[Planted], target: Path) -> Path:
    """Write the clips as a WebDataset tar, their metadata as JSON members."""
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target / "set-000000.tar", "w") as tar:
        for clip in made:
            for tail, path in clip.files.items():
                tar.add(path, f"{clip.name}.{tail}")
            text = json.dumps(clip.facts).encode()
            member = tarfile.TarInfo(f"{clip.name}.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return target
