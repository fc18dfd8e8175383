"""Pack each live segment: the person's picture at a constant 25 Hz, and the two sound tracks of equal length.

What clips show is decoded once more (those near in time in one pass), cropped, scaled and encoded without B-frames or
edit lists; frame i shows source time start + i / 25 s (nearest frame of the same shot), sound sample j stands at
start + j / 48000 s, so picture and sound agree to half a frame interval of the source and one sample. Costs about
6 ms a frame at 512 x 512 on one core, and the decoding.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from annotators.parts import Part, part
from annotators.protocols_speech import SourceSeparator, SpeakerEmbedder, SpeechEnhancer
from annotators.shipped import VOICE_EMBEDDERS
from curation.media.audio import AudioReader
from curation.media.encode import ClipEncoder, encode_flac
from curation.pack.shards import tar_bytes
from curation.stage import (
    Exchangeable,
    Gate,
    GateMode,
    Grain,
    Inputs,
    Outputs,
    Rows,
    StageSettings,
    WorkItem,
    each_unit,
)
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME
from schemas.settings.parts import Absent
from schemas.table import Table
from schemas.tables import (
    BINDINGS,
    CLIP_PLANS,
    CLIPS,
    SEGMENTS,
    SHOTS,
    SOURCES,
    SPEAKERS,
    TIMELINE,
    VOICE_TURNS,
)
from schemas.tables.output import ClipRow
from schemas.tables.pairing import SegmentRow, TimelineRow
from schemas.tables.plans import ClipPlanRow
from schemas.time import PACKED_AUDIO_HZ, Interval
from stages.clip_plan.content import encoded_size
from stages.clip_plan.crop import plan_of
from stages.packing.audio import Role, Run, Samples, level_db, offset_shift_s, role_gain
from stages.packing.encoding import ClipPictures, Take
from stages.packing.enhancement import CONTEXT_S, UNCHANGED, Change, change, enhanced
from stages.packing.voices import Bools, Voices, separated, stretches, wrong_energy


class PackingSettings(StageSettings):
    """How clips look and sound."""

    crf: float = Field(17, ge=0, le=51, description="x264 quality; 17 is visually lossless")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = Field(
        "veryfast", description="x264 speed; medium with crf 18 is as good in 8 % fewer bytes for 2.5 times the CPU"
    )
    fade_ms: float = Field(15, ge=0, le=200, description="fades where a sound track sets in or out (ms)")
    correct_offset: bool = Field(True, description="move the sound by the track's measured lip-audio offset")
    min_offset_confidence: float = Field(
        0.2, ge=0, description="surer offsets are corrected, others left alone (nats a frame: dubbed 0.1, own 0.3-0.5)"
    )
    min_offset_ms: float = Field(
        160, ge=0, description="smaller offsets are left alone (ms; ITU-R BT.1359 accepts -185 to +90)"
    )
    max_offset_ms: float = Field(600, ge=0, description="larger offsets are taken for another person's voice (ms)")
    enhancer: Part[SpeechEnhancer | None] = part(
        {"none": Absent("none"), "deepfilternet": "annotators.sound.deepfilter:DeepFilterNet"},
        "takes noise away from the packed sound",
    )
    separator: Part[SourceSeparator | None] = part(
        {"none": Absent("none"), "conv_tasnet": "annotators.sound.conv_tasnet:ConvTasNetSeparator"},
        "takes overlapped voices apart, by a network of your own",
    )
    embedder: Part[SpeakerEmbedder] = part(VOICE_EMBEDDERS, "with a separator: whose voice is which", shared="embedder")
    min_overlap_s: float = Field(0.2, gt=0, description="shorter overlaps are not worth separating (seconds)")

    def parts(self) -> dict[str, Exchangeable]:
        """Return the parts at work: without a separator no voice is embedded."""
        apart = self.separator.at_work
        asked = {"enhancer": self.enhancer.at_work, "separator": apart, "embedder": apart}
        return {name: chosen for name, chosen in super().parts().items() if asked[name]}


@dataclass(frozen=True)
class _Source:
    """What all clips of one source share."""

    plans: Mapping[str, ClipPlanRow]
    shots: Mapping[str, Interval]
    runs: Mapping[str, Sequence[Run]]
    voices: Voices
    audio: AudioReader

    def take(self, segment: SegmentRow) -> Take:
        """Return what a segment's picture is made of. Raises ValueError where it is shorter than a frame."""
        span = Interval(segment.start_s, segment.end_s)
        n_frames = round(span.duration_s * FPS)
        if n_frames < 1:
            raise ValueError(f"segment {segment.segment_id} lasts {span.duration_s:.3f} s: shorter than a frame")
        plan, path = plan_of(segment.segment_id, self.plans)
        size = encoded_size(path, round(plan.packed_short_px))
        return Take(segment.segment_id, self.shots[segment.shot_id], span, n_frames, path, size)


@dataclass(frozen=True, slots=True)
class _Sounds:
    """A clip's two tracks (float32 [n] at 48 kHz, silence without sound), and what is told of them."""

    tracks: dict[Role, Samples]
    shift_s: float = 0.0
    wrong_energy: Mapping[Role, float | None] = field(default_factory=dict)
    overlap_s: float = 0.0
    separated_s: float = 0.0
    change: Change = UNCHANGED


class Packing:
    """Stage: encode the live segments."""

    name: ClassVar[str] = "packing"
    version: ClassVar[int] = 7
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (
        SOURCES, SHOTS, CLIP_PLANS, VOICE_TURNS, SPEAKERS, BINDINGS, TIMELINE, SEGMENTS,
    )  # fmt: skip
    writes: ClassVar[tuple[Table, ...]] = (CLIPS,)
    gate: ClassVar[Gate | None] = "segments"
    gate_mode: ClassVar[GateMode] = "each"
    Settings: ClassVar[type[StageSettings]] = PackingSettings

    def __init__(self, settings: PackingSettings) -> None:
        """Load enhancer and separator where they are configured. Raises what importing or building them raises."""
        self._settings = settings
        self._enhancer = settings.enhancer.build()
        self._separator = settings.separator.build()
        self._embedder = None if self._separator is None else settings.embedder.build()

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Pack the item's segments; one that fails leaves no file."""
        segments = {r.segment_id: r for r in SEGMENTS.rows(inputs.read(SEGMENTS))}
        with AudioReader(inputs.media, PACKED_AUDIO_HZ) as audio:
            shared = _Source(
                plans={r.segment_id: r for r in CLIP_PLANS.rows(inputs.read(CLIP_PLANS))},
                shots={r.shot_id: Interval(r.start_s, r.end_s) for r in SHOTS.rows(inputs.read(SHOTS))},
                runs=_timelines(TIMELINE.rows(inputs.read(TIMELINE))),
                voices=Voices.of(inputs),
                audio=audio,
            )
            takes = _takes([segments[unit] for unit in item.units], shared)
            with ClipPictures(inputs.media, takes, self._encoder) as pictures:
                return each_unit(item.units, lambda unit: self._pack(segments[unit], shared, pictures, inputs))

    def _encoder(self, file: Path) -> ClipEncoder:
        return ClipEncoder(file, fps=FPS, crf=self._settings.crf, preset=self._settings.preset)

    def _pack(self, segment: SegmentRow, source: _Source, pictures: ClipPictures, inputs: Inputs) -> Rows:
        take = source.take(segment)
        video, clip = pictures.take(take.name)
        n_samples = take.n_frames * SAMPLES_PER_FRAME
        sounds = self._sounds(segment, take.span, n_samples, source)
        name = segment.segment_id
        flacs = {f"{name}.{role}.flac": encode_flac(s, PACKED_AUDIO_HZ) for role, s in sounds.tracks.items()}
        tar = tar_bytes(sorted({f"{name}.mp4": video, **flacs}.items()))
        file = f"clips/bucket={segment.source_id[:2]}/{name}.tar"
        plan = source.plans[name]
        row = ClipRow(
            segment_id=name,
            source_id=segment.source_id,
            file=file,
            sha256=hashlib.sha256(tar).hexdigest(),
            width=clip.width,
            height=clip.height,
            n_frames=clip.n_frames,
            n_audio_samples=n_samples,
            audio_shift_ms=1000 * sounds.shift_s,
            crop_xywh=[plan.crop_x, plan.crop_y, plan.crop_w, plan.crop_h],
            speak_level_db=level_db(sounds.tracks["speak"]),
            listen_level_db=level_db(sounds.tracks["listen"]),
            speak_wrong_energy=sounds.wrong_energy.get("speak"),
            listen_wrong_energy=sounds.wrong_energy.get("listen"),
            overlap_s=sounds.overlap_s,
            separated_s=sounds.separated_s,
            enhancer=sounds.change.enhancer,
            snr_before_db=sounds.change.snr_before_db,
            snr_after_db=sounds.change.snr_after_db,
            removed_db=sounds.change.removed_db,
        )
        inputs.save(file, tar)  # last of all: a clip that fails leaves no file
        return {CLIPS: [row]}

    def _sounds(self, segment: SegmentRow, span: Interval, n: int, source: _Source) -> _Sounds:
        s = self._settings
        roles: tuple[Role, Role] = ("speak", "listen")
        if not source.audio.has_audio:
            return _Sounds({role: np.zeros(n, np.float32) for role in roles})
        shift_s = offset_shift_s(
            segment.sync_offset_ms, segment.sync_confidence, s.correct_offset, s.min_offset_confidence,
            s.max_offset_ms, s.min_offset_ms,
        )  # fmt: skip
        first = round((span.start_s + shift_s) * PACKED_AUDIO_HZ)
        names = source.voices.of_segment(segment)
        own, others = source.voices.masks(names, first, n, PACKED_AUDIO_HZ)
        sound, changed = self._heard(source.audio, first, n, own | others)
        overlapped_s = float((own & others).sum()) / PACKED_AUDIO_HZ
        mixed, done_s = self._apart(sound, names, own, others, source.voices)
        runs = source.runs[segment.track_id]
        start_s = first / PACKED_AUDIO_HZ
        tracks = {
            role: mixed[role] * role_gain(runs, role, start_s, n, PACKED_AUDIO_HZ, s.fade_ms / 1000) for role in roles
        }
        wrong = {role: wrong_energy(tracks[role], role, own, others) for role in roles}
        return _Sounds(tracks, shift_s, wrong, overlapped_s, done_s, changed)

    def _heard(self, audio: AudioReader, first: int, n: int, speech: Bools) -> tuple[Samples, Change]:
        """Return a clip's sound [n] from sample `first` on, its noise taken away where that is asked for."""
        sound = audio.read_samples(first, first + n)
        if self._enhancer is None:
            return sound, UNCHANGED
        lead = CONTEXT_S * PACKED_AUDIO_HZ
        cleaned = enhanced(audio.read_samples(first - lead, first + n + lead), self._enhancer)[lead : lead + n]
        return cleaned, change(self._enhancer, sound, cleaned, stretches(speech))

    def _apart(
        self, sound: Samples, names: frozenset[str], own: Bools, others: Bools, voices: Voices
    ) -> tuple[dict[Role, Samples], float]:
        """Return the sound for each track, overlaps taken apart where that is possible, and for how long it was.

        Separated stretches are taken out of `own` and `others`, in place: no wrong voice is known to be left there.
        """
        known = [e for v, e in voices.embeddings.items() if v in names]
        strangers = [e for v, e in voices.embeddings.items() if v not in names]
        overlaps = stretches(own & others, round(self._settings.min_overlap_s * PACKED_AUDIO_HZ))
        if self._separator is None or self._embedder is None or not (known and strangers and overlaps):
            return {"speak": sound, "listen": sound}, 0.0
        fade_s = self._settings.fade_ms / 1000
        out = separated(sound, PACKED_AUDIO_HZ, overlaps, known, strangers, self._separator, self._embedder, fade_s)
        for a, b in overlaps:
            own[a:b] = others[a:b] = False
        return out, sum(b - a for a, b in overlaps) / PACKED_AUDIO_HZ


def _takes(segments: Iterable[SegmentRow], source: _Source) -> list[Take]:
    """Return the takes of all segments but those that have none: each says why in its turn."""
    out = []
    for segment in segments:
        with contextlib.suppress(Exception):
            out.append(source.take(segment))
    return out


def _timelines(rows: Iterable[TimelineRow]) -> dict[str, list[Run]]:
    out: dict[str, list[Run]] = {}
    for r in sorted(rows, key=lambda r: (r.track_id, r.start_s)):
        out.setdefault(r.track_id, []).append(Run(r.start_s, r.end_s, r.state))
    return out
