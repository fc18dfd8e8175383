"""Write puppet clips as a dataset: the same members, sidecar, manifest and layout that the pipeline packs.

The trainer cannot tell the two apart, so everything that is proved on the puppet is proved of the code that reads real
shards. Pictures are coded almost without loss, because a wrong pixel here would be charged to the model.
About 25 ms a clip of 64 frames on one core.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import soundfile

from lpm_train.proof.synthetic import F32, SIZE, U8, Scene, draw_scene, identity, reference_pictures, render, tracks
from lpm_train.tools.media import write_mp4
from schemas.samples import sample as s
from schemas.samples.manifest import manifest_row
from schemas.samples.members import FIRST, reference_members
from schemas.tables.output import MANIFEST, ManifestRow
from schemas.tables.pairing import SegmentRow
from schemas.tables.performance import CaptionRow
from schemas.time import PACKED_AUDIO_HZ


def write_dataset(
    root: Path, *, identities: int = 64, held_out: int = 16, clips: int = 4, n_frames: int = 64, hold: int = 4,
    seed: int = 0, samples_per_shard: int = 128,
) -> Path:  # fmt: skip
    """Write a dataset of `identities + held_out` people with `clips` clips each; held-out people form the split val.

    Returns:
        The manifest's path.
    """
    if identities < 1 or held_out < 0 or clips < 1 or n_frames < 8:
        raise ValueError("a dataset needs at least one identity, one clip each, and 8 frames a clip")
    (root / "shards").mkdir(parents=True, exist_ok=True)
    rows: list[ManifestRow] = []
    people = {"train": range(identities), "val": range(identities, identities + held_out)}
    for split, members in people.items():
        keys = [(person, clip) for person in members for clip in range(clips)]
        np.random.default_rng([seed, len(split)]).shuffle(keys)
        for number in range(0, len(keys), samples_per_shard):
            name = f"{split}-{number // samples_per_shard:06d}.tar"
            with tarfile.open(root / "shards" / name, "w", format=tarfile.USTAR_FORMAT) as tar:
                for person, clip in keys[number : number + samples_per_shard]:
                    rows.append(_add(tar, name, split, person, clip, n_frames, hold, seed))
    path = root / "manifest.parquet"
    pq.write_table(MANIFEST.from_rows(rows), path)
    return path


def scene_of(sample_id: str, n_frames: int, hold: int = 4, seed: int = 0) -> Scene:
    """Return the factors behind a sample that `write_dataset` wrote with the same arguments."""
    person, clip = (int(part[1:]) for part in sample_id.split("-")[1:])
    return draw_scene(_clip_seed(seed, person, clip), n_frames, identity(_person_seed(seed, person)), hold=hold)


def _person_seed(seed: int, person: int) -> int:
    return seed * 1_000_003 + person


def _clip_seed(seed: int, person: int, clip: int) -> int:
    return (seed * 1_000_003 + person) * 1009 + clip + 1


def _add(
    tar: tarfile.TarFile, shard: str, split: str, person: int, clip: int, n_frames: int, hold: int, seed: int
) -> ManifestRow:
    who = identity(_person_seed(seed, person))
    scene = draw_scene(_clip_seed(seed, person, clip), n_frames, who, hold=hold)
    key = f"puppet-p{person:05d}-c{clip:03d}"
    speak, listen = tracks(scene)
    pictures = reference_pictures(who, scene.seed)
    refs = [
        s.ReferenceRef(
            member=f"ref_{kind}_0.jpg" if i else FIRST, kind=kind, source_id=f"puppet{person:05d}",
            time_s=1000.0 + clip, distance=0.0, view=name if kind == "view" else "front",
            expression="open mouth" if kind == "expression" else "neutral", quality=1.0, overlaps_clip=False,
        )
        for i, (kind, name, _) in enumerate(pictures)
    ]  # fmt: skip
    sample = _sample(key, split, person, clip, scene, refs)
    shown = [(r.member, _jpeg(p)) for r, (_, _, p) in zip(refs, pictures, strict=True)]
    members = [
        (f"{key}.mp4", encode_mp4(render(scene))),
        (f"{key}.speak.flac", _flac(speak)),
        (f"{key}.listen.flac", _flac(listen)),
        (f"{key}.json", sample.model_dump_json(indent=1).encode()),
        *((f"{key}.{suffix}", data) for suffix, data in reference_members(shown)),
    ]
    index = []
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        at = tar.offset + tarfile.BLOCKSIZE
        tar.addfile(info, io.BytesIO(data))
        index.append((name, at, len(data)))
    return manifest_row(sample, "synthetic", shard, index)


_CLASS = {"speak": "Speak", "listen": "Listen_dialogue", "idle": "Silence", "both": "Conversation"}


def _sample(key: str, split: str, person: int, clip: int, scene: Scene, refs: Sequence[s.ReferenceRef]) -> s.Sample:
    runs, start = [], 0
    lengths: dict[s.State, int] = {}
    for state, group in groupby(scene.states):
        stop = start + len(list(group))
        lengths[state] = lengths.get(state, 0) + stop - start
        runs.append(
            s.StateRun(state=state, start_s=start / s.FPS, end_s=stop / s.FPS, confidence=1.0, reason="synthetic")
        )
        start = stop
    main = max(lengths, key=lengths.__getitem__)
    start_s = clip * scene.n_frames / s.FPS  # a person's clips follow each other
    spoken = sum(state in ("speak", "both") for state in scene.states) / scene.n_frames
    return s.Sample(
        sample_id=key, state=main, category=_CLASS[main], split=split,
        identity_id=f"puppet-{person:05d}", text="", language=None,
        source=s.SourceRef(
            source_id=f"puppet{person:05d}", sha256="0" * 64, name="synthetic", start_s=start_s,
            end_s=start_s + scene.n_frames / s.FPS, shot_id=f"{key}-s", track_id=f"puppet-p{person:05d}",
        ),
        rights=s.Rights(license="CC0-1.0", rights_holder="none: synthetic", consent="not a person"),
        video=s.Video(
            width=SIZE, height=SIZE, fps=s.FPS, n_frames=scene.n_frames, crop_xywh=[0.0, 0.0, SIZE, SIZE],
            median_face_px=2 * scene.identity.width,
        ),
        audio=s.Audio.of({}, rate_hz=PACKED_AUDIO_HZ, n_samples=scene.n_frames * s.SAMPLES_PER_FRAME, shift_ms=0.0),
        words=[], states=runs,
        performance=s.Performance.of({
            CaptionRow.caption: scene.caption, CaptionRow.gaze: "camera", CaptionRow.shot_type: "close-up",
            CaptionRow.body_motion: scene.caption, CaptionRow.annotator: "synthetic",
        }),
        references=list(refs),
        scores=s.Scores.of({
            SegmentRow.speech_ratio: spoken, SegmentRow.visible_ratio: 1.0,
            SegmentRow.overlap_ratio: sum(x == "both" for x in scene.states) / scene.n_frames,
        }, state_confidence=1.0),
        annotators={}, policy_id="synthetic",
    )  # fmt: skip


def encode_mp4(frames: U8, crf: float = 4) -> bytes:
    """Write uint8 RGB [T, H, W, 3] at 25 fps, almost without loss; the file's bytes."""
    buffer = io.BytesIO()
    write_mp4(buffer, frames, crf=crf)
    return buffer.getvalue()


def _flac(samples: F32) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, PACKED_AUDIO_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _jpeg(rgb: U8) -> bytes:
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 97, *sampling])
    if not done:
        raise ValueError(f"a picture of shape {rgb.shape} cannot be written as JPEG")
    return bytes(data.tobytes())
