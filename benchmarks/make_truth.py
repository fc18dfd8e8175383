"""More ground truth: re-edits real footage into conversations whose states are known by construction.

    python benchmarks/make_truth.py SOURCE_MEDIA_DIR OUT_DIR [--seed N] [--only NAME] [--voices DIR]

Split screens, shot and reverse shot, unheard and dubbed faces, shifted sound, noise, music, quiet speech, off-screen
voices, backchannels, pauses, sessions. Writes NAME.mp4 and NAME.truth.json, which `benchmarks/accuracy.py OUT_DIR`
reads; deterministic for a seed (room tone, noise, music). `--only` makes the clips whose name starts so. `--voices`
adds clips with off-screen voices from a folder with female_1.wav and male_1.wav, e.g. made by a speech synthesiser.
Five minutes of footage cost about three minutes on one core. Nothing it makes belongs into a repository.

Where SOURCE_MEDIA_DIR holds conversations with hand-made truth (a people.json beside them), these are cut, mixed and
re-voiced instead: voices laid over, interruptions, off-screen questions, listeners of another voice, swapped voices
(`revoiced_clips.py`); their truth follows from the hand-made one (`truth_revoice.py`).
"""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import record
from revoiced_clips import Maker
from truth_media import Clip, Panel, Sound, Way, render, to_and_fro
from truth_people import read_truths
from truth_revoice import revoiced_truth
from truth_states import truth_of

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 0.5, 1.0)
RED, CALM = "listen_woman_red", "expressive_woman_silent"
PHONE = "telephone_two_speakers"
DUELS: list[tuple[str, str, list[float]]] = [
    ("generated_9", "generated_13", [3.5, 7.0]), ("generated_11", "generated_15", [2.5, 5.0, 7.4]),
    ("generated_7", "generated_l2", [3.4, 6.0]), ("generated_l4", "generated_13", [6.4]),
    ("generated_17", "generated_5", [2.2, 4.4, 6.6]), ("generated_3", "generated_9", [6.0]),
    ("generated_5", "generated_11", [2.6, 6.4]), ("generated_13", "generated_11", [6.4]),
    ("generated_15", "generated_17", [1.6, 4.0, 6.4]), ("generated_12", "generated_l4", [3.0, 6.2]),
]  # fmt: skip
"""Two faces that both speak on, and whose voice is heard until when, in turn: like voices, dubbed over each other."""


def take(person: str, from_s: float, length_s: float, side: str = "full", at_s: float = 0.0) -> Panel:
    """Return a person's footage played on from one time."""
    return Panel(person, [(at_s, from_s), (at_s + length_s, from_s + length_s)], side, _rect(side))


def still(person: str, low_s: float, high_s: float, length_s: float, side: str = "full", at_s: float = 0.0) -> Panel:
    """Return a person's still stretch, to and fro."""
    return Panel(person, to_and_fro(at_s, low_s, high_s, at_s + length_s), side, _rect(side))


def _rect(side: str) -> tuple[float, float, float, float]:
    return {"left": LEFT, "right": RIGHT}.get(side, (0.0, 0.0, 1.0, 1.0))


def own(panel: Panel, gain_db: float = 0.0) -> Sound:
    """Return the sound that belongs to a panel played straight on."""
    (t, s), (end, _) = panel.way[0], panel.way[-1]
    return Sound(panel.person, t, s, end - t, gain_db)


def listening(length_s: float, who: str, side: str = "full", at_s: float = 0.0) -> Panel:
    """Return one of the people of whom there is still footage, listening or idle."""
    low, high = {
        RED: (1.0, 21.0), CALM: (1.8, 9.5), "generated_makeup": (9.3, 12.3), "generated_film": (6.88, 7.85),
        "generated_l2": (6.32, 7.0),
    }[who]  # fmt: skip
    return still(who, low, high, length_s, side, at_s)


def split_screens() -> list[Clip]:
    def pair(name: str, talk: Panel, other: str, **kw: Any) -> Clip:
        length = talk.way[-1][0]
        side = "right" if talk.place == "left" else "left"
        return Clip(name, length, [talk, listening(length, other, side)], [own(talk)], **kw)

    mhm = [Sound(PHONE, 2.2, 6.69, 0.43, -6), Sound(PHONE, 5.1, 18.15, 0.42, -6)]
    back = pair("backchannel_split", take("generated_5", 0.1, 8.0, "left"), RED)
    back.sounds += mhm
    three = pair("three_faces", take("generated_3", 2.5, 7.0, "left"), RED, fps="30")
    for panel, rect in zip(three.panels, ((0.0, 0.0, 0.38, 1.0), (0.62, 0.0, 0.38, 1.0)), strict=True):
        panel.rect = rect
    small = listening(7.0, "generated_l2")
    small.place, small.rect, small.scored = "middle", (0.38, 0.3, 0.24, 0.5), False
    three.panels.append(small)
    return [
        pair("split_1", take("generated_13", 0.3, 8.0, "left"), RED),
        pair("split_2", take("generated_l3", 5.4, 7.0, "right"), CALM, fps="30", codec="libx265"),
        pair("split_3", take("real_may", 0.32, 4.6, "left"), "generated_makeup", fps="24", audio=(44_100, "mono")),
        pair("lowrate_split", take("generated_17", 0.6, 6.0, "right"), RED, bitrate=120_000, size=(640, 360)),
        back, three,
    ]  # fmt: skip


def two_talkers() -> list[Clip]:
    def clip(name: str, a: tuple[str, float], b: tuple[str, float], turns: list[float], **kw: Any) -> Clip:
        end = turns[-1]
        panels = [take(*a, end, "left"), take(*b, end, "right")]
        sounds = []
        for i, (t0, t1) in enumerate(zip([0.0, *turns[:-1]], turns, strict=True)):
            who, first = (a, b)[i % 2]
            sounds.append(Sound(who, t0, first + t0, t1 - t0))
        return Clip(name, end, panels, sounds, **kw)

    return [
        clip("two_1", ("generated_5", 0.2), ("generated_12", 0.9), [4.0, 8.0]),
        clip("two_2", ("generated_3", 6.6), ("generated_l4", 0.3), [3.0, 5.9, 8.2], fps="29.97"),
        clip("two_3", ("generated_7", 5.5), ("generated_l3", 5.4), [3.6, 7.0], audio=(16_000, "mono")),
        *(clip(f"duel_{n}", (a, 0.3), (b, 0.3), turns) for n, (a, b, turns) in enumerate(DUELS, 1)),
    ]


def conversations() -> list[Clip]:
    film, l2, makeup, jacket = "generated_film", "generated_l2", "generated_makeup", "real_red_jacket"
    # Each way joins speech to the still stretch that follows or precedes it in the same take, without a jump.
    a: Way = [(0.0, 0.3), (7.5, 7.8), *to_and_fro(7.5, 6.88, 7.8, 14.0, 7.8)[1:]]
    swing, turn = 7.0 - 6.32, 6.78
    b: Way = [(turn - i * swing, 7.0 if i % 2 == 0 else 6.32) for i in range(9, -1, -1)]
    b = [(0.0, 6.32 + b[0][0]), *b, (14.0, 7.0 + 14.0 - turn)]
    gap = Clip(
        "conversation_split_gap", 14.0,
        [Panel(film, a, "left", LEFT), Panel(l2, b, "right", RIGHT)],
        [Sound(film, 0.0, 0.3, 6.55), Sound(l2, turn, 7.0, 14.0 - turn)], fps="25",
    )  # fmt: skip
    c: Way = [(0.0, 0.05), *to_and_fro(3.1, 2.82, 3.15, 6.2, 3.15)]
    d: Way = [(0.0, 2.3), (0.75, 3.05), (1.25, 2.55), (1.75, 3.05), (4.95, 6.25), (6.2, 7.5)]
    overlap = Clip(
        "conversation_split_overlap", 6.2,
        [Panel(jacket, c, "left", LEFT), Panel(makeup, d, "right", RIGHT)],
        [Sound(jacket, 0.0, 0.05, 2.8), Sound(makeup, 1.75, 3.05, 4.45)], fps="30",
    )  # fmt: skip
    x, y = take(film, 0.2, 3.2), take(l2, 0.15, 3.12, at_s=6.8)
    shots = Clip(
        "conversation_shots_1", 12.8,
        [x, listening(3.6, l2, at_s=3.2), y, listening(2.88, film, at_s=9.92)],
        [Sound(film, 0.0, 0.2, 6.45), Sound(l2, 6.8, 0.15, 6.0)],
    )  # fmt: skip
    p, q = take("generated_9", 1.4, 3.6), take("generated_l3", 5.3, 3.4, at_s=7.0)
    more = Clip(
        "conversation_shots_2", 13.6,
        [p, listening(3.4, RED, at_s=3.6), q, listening(3.2, CALM, at_s=10.4)],
        [Sound("generated_9", 0.0, 1.4, 7.3), Sound("generated_l3", 7.0, 5.3, 6.4)], fps="30", codec="libx265",
    )  # fmt: skip
    return [gap, overlap, shots, more]


def dubs_and_silences(synthetic: bool) -> list[Clip]:
    def dub(name: str, face: str, a: float, other: str, b: float, length: float, **kw: Any) -> Clip:
        return Clip(name, length, [take(face, a, length)], [Sound(other, 0.0, b, length)], **kw)

    def alone(name: str, who: str, length: float, sound: list[Sound], **kw: Any) -> Clip:
        return Clip(name, length, [listening(length, who)], sound, **kw)

    quiet_pair = [listening(6.0, RED, "left"), listening(6.0, CALM, "right")]
    made = [
        dub("dubbed_women", "generated_11", 3.4, "generated_12", 0.9, 7.0),
        dub("dubbed_men", "generated_l3", 5.4, "generated_7", 5.5, 6.8, fps="24"),
        dub("dubbed_other_gender", "generated_5", 0.2, "generated_l4", 0.2, 7.0, fps="29.97", codec="mpeg4"),
        dub("dubbed_real", "real_red_jacket", 0.05, "generated_9", 4.0, 2.6 + 2.2),
        Clip("lips_1", 6.0, [take("generated_l4", 0.3, 6.0)], room_db=-50),
        Clip("lips_music", 6.0, [take("generated_13", 0.3, 6.0)], music_snr_db=0.0),
        alone("offscreen_reader", "generated_makeup", 6.0, [Sound("generated_3", 0.0, 6.6, 6.0)], fps="24"),
        alone("offscreen_phone", RED, 7.0, [Sound(PHONE, 0.0, 14.6, 7.0)]),
        Clip("idle_pair", 6.0, quiet_pair, room_db=-45),
        alone("idle_one", "generated_makeup", 5.0, [], fps="30", room_db=-50),
    ]
    if synthetic:
        made += [
            dub("dubbed_synthetic", "generated_9", 1.4, "female_1", 0.3, 6.5),
            alone("offscreen_synthetic", CALM, 7.0, [Sound("male_1", 0.0, 0.2, 7.0)], fps="30"),
        ]
    return made


def hard_sound() -> list[Clip]:
    def one(name: str, who: str, a: float, length: float, gain: float = 0.0, **kw: Any) -> Clip:
        panel = take(who, a, length)
        return Clip(name, length, [panel], [own(panel, gain)], **kw)

    back = one("backchannel_full", "generated_l4", 0.3, 7.0)
    back.sounds.append(Sound(PHONE, 3.0, 6.69, 0.43, -6))
    return [
        one("quiet_20", "generated_9", 1.4, 6.0, -20, room_db=-75),
        one("quiet_30", "generated_12", 0.9, 5.2, -30, room_db=-75),
        one("noise_10", "generated_11", 3.4, 6.0, noise_snr_db=10.0),
        one("noise_0", "generated_l3", 5.4, 6.0, noise_snr_db=0.0),
        one("music_10", "generated_12", 0.9, 7.0, music_snr_db=10.0),
        one("music_3", "real_map", 0.2, 4.6, music_snr_db=3.0),
        one("music_0", "generated_l4", 0.3, 6.0, music_snr_db=0.0, fps="30"),
        one("music_20", "talk_woman_garden", 0.4, 6.0, music_snr_db=20.0),
        one("pause_makeup", "generated_makeup", 3.4, 10.4, fps="30"),
        one("pause_news", "real_newsreader_offset", 2.6, 9.0, size=(640, 640)),
        one("lowrate", "generated_15", 2.0, 6.0, bitrate=90_000, size=(360, 360)),
        one("late_minus_480", "generated_13", 0.4, 6.0, late_s=-0.48),
        one("late_plus_600", "generated_17", 0.6, 6.0, late_s=0.6),
        one("late_plus_200", "generated_11", 3.4, 6.0, late_s=0.2, fps="30"),
        one("late_minus_280", "real_map", 0.2, 4.6, late_s=-0.28),
        back,
    ]


def sessions() -> list[tuple[str, Clip, Clip, float]]:
    """Return name, talker's and listener's clips, and how much later the second file starts."""
    out = []
    for name, who, a, other, late in (
        ("session_1", "generated_13", 0.3, RED, 0.52), ("session_2", "generated_5", 0.1, CALM, 1.24),
    ):  # fmt: skip
        panel = take(who, a, 6.5)
        leak = Sound(who, 0.0, a + late, 6.5 - late, -22)
        talker = Clip(f"{name}_talker", 6.5, [panel], [own(panel)])
        out.append((name, talker, Clip(f"{name}_listener", 6.5 - late, [listening(6.5 - late, other)], [leak]), late))
    return out


def make_revoiced(media: Path, out: Path, names: tuple[str, ...], seed: int) -> None:
    """Make the clips that are composed from conversations with hand-made truth."""
    truths = {truth.clip: truth for truth in read_truths(media).values()}
    for clip in Maker(media).clips():
        if not clip.name.startswith(names):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(clip.name.encode())])
        render(clip, out / f"{clip.name}.mp4", media, None, rng)
        record.write(out / f"{clip.name}.truth.json", revoiced_truth(clip, truths))
        sys.stdout.write(f"{clip.name}: {clip.duration_s:.1f} s\n")
        sys.stdout.flush()


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("media", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", help="make the clips whose names start with one of these, comma-separated"
    )
    parser.add_argument("--voices", type=Path, help="folder with female_1.wav and male_1.wav")
    args = parser.parse_args()
    if not args.media.is_dir():
        sys.exit(f"no directory {args.media}; name the one with the source footage")
    args.out.mkdir(parents=True, exist_ok=True)
    if (args.media / "people.json").is_file():
        make_revoiced(args.media, args.out, tuple(args.only.split(",")), args.seed)
        return
    pairs = sessions()
    clips = [*split_screens(), *two_talkers(), *conversations(), *dubs_and_silences(args.voices is not None)]
    clips += [*hard_sound(), *(c for _, a, b, _ in pairs for c in (a, b))]
    in_session = {c.name for _, a, b, _ in pairs for c in (a, b)}
    for clip in clips:
        if not clip.name.startswith(tuple(args.only.split(","))):
            continue
        rng = np.random.default_rng([args.seed, zlib.crc32(clip.name.encode())])
        render(clip, args.out / f"{clip.name}.mp4", args.media, args.voices, rng)
        if clip.name not in in_session:
            truth = truth_of(clip, args.media, args.voices)
            record.write(args.out / f"{clip.name}.truth.json", truth)
        sys.stdout.write(f"{clip.name}: {clip.duration_s:.1f} s\n")
        sys.stdout.flush()
    for name, a, b, late in pairs:
        if a.name.startswith(tuple(args.only.split(","))):
            files = [f"{a.name}.mp4", f"{b.name}.mp4"]
            states = dict(zip(files, ("speak", "listen"), strict=True))
            truth = {"files": files, "second_starts_after_first_seconds": late, "states": states}
            record.write(args.out / f"{name}.truth.json", truth)


def with_known_memory() -> None:
    """Begin again in a process whose fresh memory always holds the same.

    x264 reads beside pictures whose width is no multiple of 32: what it makes of one, and with it what is measured on a
    third of these clips, would depend on what lay there before.
    """
    if "MALLOC_PERTURB_" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"MALLOC_PERTURB_": "255"})


if __name__ == "__main__":
    with_known_memory()
    main()
