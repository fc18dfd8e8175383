"""Stage `speech`: what is heard in a source, without looking: speech, turns, words, music and laughter, level.

One hour of 16 kHz sound is 230 MB; nothing else of that size is held. Costs about a tenth of real time on one core,
nearly all of it the recogniser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from annotators.parts import Part, part
from annotators.protocols_speech import (
    Aligner,
    Diarizer,
    Segment,
    SpeakerEmbedder,
    SpeechProbability,
    Transcriber,
    Transcript,
    Turn,
    VoiceActivity,
)
from annotators.shipped import VOICE_EMBEDDERS
from annotators.sound.audio_events import HOP_S, WINDOW_S, AudioEvents, EventDetector
from annotators.sound.audio_quality import audio_quality
from annotators.sound.sound_signature import RATE_HZ, sound_signature
from annotators.speech.vad import SegmentRule, speech_segments
from annotators.speech.voice_signals import pitch_hz, syllables
from annotators.words.known_words import KnownRule, known_segment, known_word
from annotators.words.word_times import aligned
from curation.media.audio import AudioReader
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.settings.parts import Absent
from schemas.table import Column, Table
from schemas.tables import AUDIO, AUDIO_EVENTS, SOUND_SIGNATURES, SOURCES, SPEAKERS, SPEECH, SPEECH_FRAMES, TURNS, WORDS
from schemas.tables.sessions import SoundSignatureRow
from schemas.tables.speech import AudioEventRow, AudioRow, SpeakerRow, SpeechFrameRow, SpeechRow, TurnRow, WordRow
from schemas.time import AUDIO_HZ, GRID_HZ

FloatArray = npt.NDArray[np.float32]

_PER_FRAME = AUDIO_HZ // GRID_HZ
_BLOCK = 30 * AUDIO_HZ
_FLOOR_DB = -120.0


class SpeechSettings(StageSettings):
    """Which recogniser, and when probability counts as speech."""

    vad: Part[VoiceActivity] = part({"silero": "annotators.speech.vad:SileroVoiceActivity"}, "speech or not, over time")
    diarizer: Part[Diarizer] = part(
        {
            "clustering": "annotators.speech.diarizer:ClusteringDiarizer",
            "pyannote": "annotators.speech.pyannote_diarizer:PyannoteDiarizer",
        },
        "who spoke when: clustering, or pyannote.audio's pipeline on the same weights, of the full set of packages",
        offers=("embedder",),
    )
    recogniser: Part[Transcriber] = part(
        {
            "base": {"use": "annotators.words.transcriber:WhisperTranscriber", "model": "base"},
            "tiny.en": {"use": "annotators.words.transcriber:WhisperTranscriber", "model": "tiny.en"},
            "whisperx": "annotators.words.whisperx_transcriber:WhisperXTranscriber",
        },
        "words with times: Whisper's multilingual base, tiny.en, or either in batches through whisperx, which the full "
        "set has",
    )
    aligner: Part[Aligner | None] = part(
        {
            "none": Absent("none"),
            "pocketsphinx": "annotators.words.pocketsphinx_aligner:PocketSphinxAligner",
            "whisperx": "annotators.words.whisperx_aligner:WhisperXAligner",
        },
        "nearer times for the recogniser's words, of the full set: pocketsphinx for English, whisperx with a Wav2Vec2 "
        "network of yours; none: the recogniser's own",
    )
    embedder: Part[SpeakerEmbedder] = part(VOICE_EMBEDDERS, "a voice as a vector", shared="embedder")
    events: Part[EventDetector] = part(
        {"yamnet": "annotators.sound.audio_events:YamnetAudioEvents"}, "music, singing, laughter, noise"
    )
    on_threshold: float = Field(0.5, gt=0, lt=1, description="speech begins at this probability (Silero's default)")
    off_threshold: float = Field(0.35, gt=0, lt=1, description="and ends below this (Silero's default - 0.15)")
    event_score: float = Field(0.3, gt=0, lt=1, description="a window counts as music, singing, ... from this score")
    min_word: float = Field(0.3, ge=0, le=1, description="a word is known from this probability on")
    min_mean_word: float = Field(0.5, ge=0, le=1, description="and only where its segment's words have this mean")
    min_avg_logprob: float = Field(-1.0, le=0, description="and this mean log probability (Whisper's default)")
    max_compression: float = Field(2.4, gt=0, description="text more repetitive than this is not known (Whisper's)")
    max_no_speech: float = Field(0.8, ge=0, le=1, description="nor is text this likely to be no speech (LPM 1.0)")
    voice_clip_s: float = Field(3.0, gt=0.5, description="longest piece of a turn used for a speaker's embedding")


class Speech:
    """Stage: speech of one source."""

    name: ClassVar[str] = "speech"
    version: ClassVar[int] = 18
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = (SOURCES,)
    writes: ClassVar[tuple[Table, ...]] = (
        SPEECH_FRAMES,
        SPEECH,
        SPEAKERS,
        TURNS,
        WORDS,
        AUDIO_EVENTS,
        AUDIO,
        SOUND_SIGNATURES,
    )
    gate: ClassVar[Gate | None] = "tracks"
    gate_mode: ClassVar[GateMode] = "once"
    Settings: ClassVar[type[StageSettings]] = SpeechSettings

    def __init__(self, settings: SpeechSettings) -> None:
        """Load the models. Raises WeightsNotFound; PartNotInstalledError where a part of the full set is not there."""
        self._settings = settings
        self._known = KnownRule(
            settings.min_word, settings.min_mean_word, settings.min_avg_logprob, settings.max_compression,
            settings.max_no_speech,
        )  # fmt: skip
        self._activity = settings.vad.build()
        self._events = settings.events.build()
        self._recogniser = settings.recogniser.build()
        self._aligner = settings.aligner.build()
        self._voices = settings.embedder.build()
        self._diarizer = settings.diarizer.build(embedder=self._voices)

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Listen to one source."""
        (source,) = SOURCES.rows(inputs.read(SOURCES))
        sid, duration_s = item.source_id, source.duration_s
        audio, damaged = _whole(inputs.media, duration_s) if source.has_audio else (np.zeros(0, np.float32), [])
        if len(audio) < _PER_FRAME:
            return Outputs({table: table.empty() for table in self.writes} | {AUDIO: AUDIO.from_rows([_silent(sid)])})
        probability = self._activity.probability(audio)
        rule = SegmentRule(on_threshold=self._settings.on_threshold, off_threshold=self._settings.off_threshold)
        segments = speech_segments(probability, rule)
        turns = self._diarizer.diarize(audio, segments) if segments else []
        transcript = self._recogniser.transcribe(audio, segments, breaks_s=voice_changes(turns), turns=turns)
        if self._aligner is not None:
            transcript = aligned(transcript, audio, self._aligner)
        events = self._events.events(audio)
        labels = list(dict.fromkeys(t.speaker for t in sorted(turns, key=lambda t: t.start_s)))
        ids = {label: f"{sid}-v{n:02d}" for n, label in enumerate(labels)}
        speakers, embedded = self._speakers(sid, audio, turns, ids)
        return Outputs(
            {
                SPEECH_FRAMES: SPEECH_FRAMES.from_columns(_grid(sid, audio, probability, damaged)),
                SPEECH: SPEECH.from_rows(_speech_rows(sid, segments, probability, self._activity.name)),
                SPEAKERS: SPEAKERS.from_rows(speakers),
                TURNS: TURNS.from_rows(_turn_rows(sid, turns, ids, embedded, self._diarizer.name)),
                WORDS: WORDS.from_rows(_word_rows(sid, transcript, turns, ids, self._recogniser.name, self._known)),
                SOUND_SIGNATURES: SOUND_SIGNATURES.from_rows(_signature_rows(sid, audio)),
                AUDIO_EVENTS: AUDIO_EVENTS.from_rows(_event_rows(sid, events, duration_s, self._events.name)),
                AUDIO: AUDIO.from_rows([self._summary(sid, audio, segments, transcript, events, len(ids))]),
            }
        )

    def _speakers(
        self, sid: str, audio: FloatArray, turns: Sequence[Turn], ids: Mapping[str, str]
    ) -> tuple[list[SpeakerRow], dict[str, dict[int, FloatArray]]]:
        """Return SPEAKERS rows, and per speaker the embeddings of its turns by position in `turns`."""
        clips, owners = [], []
        for n, turn in enumerate(turns):
            length = min(turn.end_s - turn.start_s, self._settings.voice_clip_s)
            middle = (turn.start_s + turn.end_s) / 2
            clip = audio[max(0, round((middle - length / 2) * AUDIO_HZ)) : round((middle + length / 2) * AUDIO_HZ)]
            if len(clip) >= AUDIO_HZ // 4:
                clips.append(clip)
                owners.append(n)
        size = self._voices.dimension
        vectors = self._voices.embed(clips) if clips else np.zeros((0, size), np.float32)
        embedded: dict[str, dict[int, FloatArray]] = {label: {} for label in ids}
        for n, vector in zip(owners, vectors, strict=True):
            embedded[turns[n].speaker][n] = vector
        rows: list[SpeakerRow] = []
        for label, speaker_id in ids.items():
            mine = [t for t in turns if t.speaker == label]
            spans = {n: turns[n].end_s - turns[n].start_s for n in embedded[label]}
            mean = sum((v * spans[n] for n, v in embedded[label].items()), np.zeros(size, np.float32))
            norm = float(np.linalg.norm(mean))
            rows.append(
                SpeakerRow(
                    speaker_id=speaker_id,
                    source_id=sid,
                    speech_s=sum(t.end_s - t.start_s for t in mine),
                    embedding=(mean / norm).astype(np.float32).tolist() if norm > 0 else [],
                    annotator=self._voices.name,
                )
            )
        return rows, embedded

    def _summary(
        self,
        sid: str,
        audio: FloatArray,
        segments: Sequence[Segment],
        transcript: Transcript,
        events: AudioEvents,
        n_speakers: int,
    ) -> AudioRow:
        q = audio_quality(audio, segments)
        heard = {name: scores >= self._settings.event_score for name, scores in events.scores.items()}
        return AudioRow(
            source_id=sid,
            has_audio=True,
            level_db=_finite(q.rms_dbfs),
            peak_db=_finite(q.peak_dbfs),
            clipping_ratio=_finite(q.clipping_ratio),
            silence_ratio=_finite(q.silence_ratio),
            noise_floor_db=_finite(q.noise_floor_db),
            snr_db=_finite(q.snr_db),
            speech_ratio=sum(s.duration_s for s in segments) * AUDIO_HZ / len(audio),
            music_ratio=float((heard["music"] | heard["singing"]).mean()),
            singing_ratio=float(heard["singing"].mean()),
            laughter_ratio=float(heard["laughter"].mean()),
            noise_ratio=float(heard["noise"].mean()),
            language=transcript.language,
            language_probability=_finite(transcript.language_probability),
            n_speakers=n_speakers,
            annotator=f"{self._recogniser.name}; {self._events.name}; level-heuristic",
        )


def voice_changes(turns: Sequence[Turn]) -> list[float]:
    """Return the times at which one voice gives way to another: half-way through a gap or an overlap.

    Pauses of one voice are no change: a recogniser does better on whole sentences than on pieces of them.
    """
    ordered = sorted(turns, key=lambda t: (t.start_s, t.end_s, t.speaker))
    out: set[float] = set()
    for a, b in pairwise(ordered):
        if a.speaker != b.speaker:
            out.add((min(a.end_s, b.end_s) + b.start_s) / 2)
    return sorted(out)


def _whole(path: Path, duration_s: float) -> tuple[FloatArray, Sequence[tuple[float, float]]]:
    """Read a source's sound into one array, block by block: nothing else of its size is ever held.

    Returns no samples where there is no sound; and the stretches that are damaged, in seconds.
    """
    with AudioReader(path, AUDIO_HZ) as reader:
        audio = np.zeros(round(duration_s * AUDIO_HZ) if reader.has_audio else 0, np.float32)
        for first in range(0, len(audio), _BLOCK):
            audio[first : first + _BLOCK] = reader.read_samples(first, min(first + _BLOCK, len(audio)))
        return audio, reader.damaged


def _signature_rows(sid: str, audio: FloatArray) -> list[SoundSignatureRow]:
    levels = sound_signature(audio, AUDIO_HZ)
    stretch = 10 * RATE_HZ  # small rows: Parquet keeps a chunk's least and greatest value as well
    parts = [levels[a : a + stretch] for a in range(0, len(levels), stretch)]
    return [SoundSignatureRow(source_id=sid, n=n, levels=part.tobytes()) for n, part in enumerate(parts)]


def _event_rows(sid: str, events: AudioEvents, duration_s: float, name: str) -> list[AudioEventRow]:
    scores = events.scores
    return [
        AudioEventRow(
            source_id=sid,
            n=n,
            start_s=n * HOP_S,
            end_s=min(n * HOP_S + WINDOW_S, duration_s),
            speech=float(scores["speech"][n]),
            singing=float(scores["singing"][n]),
            music=float(scores["music"][n]),
            laughter=float(scores["laughter"][n]),
            noise=float(scores["noise"][n]),
            annotator=name,
        )
        for n in range(len(events))
    ]


def _silent(sid: str) -> AudioRow:
    return AudioRow(
        source_id=sid,
        has_audio=False,
        level_db=None,
        peak_db=None,
        clipping_ratio=None,
        silence_ratio=None,
        noise_floor_db=None,
        snr_db=None,
        speech_ratio=0.0,
        music_ratio=None,
        singing_ratio=None,
        laughter_ratio=None,
        noise_ratio=None,
        language=None,
        language_probability=None,
        n_speakers=0,
        annotator="none",
    )


def _grid(
    sid: str, audio: FloatArray, probability: SpeechProbability, damaged: Sequence[tuple[float, float]]
) -> dict[Column[Any], Any]:
    """Return SPEECH_FRAMES columns: probability at each grid point's middle; level, pitch, syllables of its 40 ms."""
    n = len(audio) // _PER_FRAME
    times = (np.arange(n) + 0.5) / GRID_HZ
    steps = np.minimum((times / probability.step_s).astype(int), len(probability.values) - 1)
    level = np.empty(n, np.float32)
    for a in range(0, n, 4096):
        block = audio[a * _PER_FRAME : min(n, a + 4096) * _PER_FRAME].reshape(-1, _PER_FRAME)
        power = np.mean(np.square(block, dtype=np.float64), axis=1)
        level[a : a + len(block)] = 10 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))
    pitch = pitch_hz(audio)
    is_damaged = np.zeros(n, bool)
    for start_s, end_s in damaged:
        is_damaged[max(0, math.floor(start_s * GRID_HZ)) : max(0, math.ceil(end_s * GRID_HZ))] = True
    return {
        SpeechFrameRow.source_id: [sid] * n,
        SpeechFrameRow.k: np.arange(n),
        SpeechFrameRow.speech: probability.values[steps],
        SpeechFrameRow.level_db: level,
        SpeechFrameRow.pitch_hz: pa.array(pitch, pa.float32(), from_pandas=True),
        SpeechFrameRow.syllables: syllables(audio, pitch),
        SpeechFrameRow.is_damaged: is_damaged,
    }


def _speech_rows(sid: str, segments: Sequence[Segment], probability: SpeechProbability, name: str) -> list[SpeechRow]:
    rows = []
    for s in segments:
        a, b = int(s.start_s / probability.step_s), math.ceil(s.end_s / probability.step_s)
        values = probability.values[a : max(b, a + 1)]
        mean = float(values.mean()) if len(values) else 0.0
        rows.append(SpeechRow(source_id=sid, start_s=s.start_s, end_s=s.end_s, probability=mean, annotator=name))
    return rows


def _turn_rows(
    sid: str,
    turns: Sequence[Turn],
    ids: Mapping[str, str],
    embedded: Mapping[str, Mapping[int, FloatArray]],
    name: str,
) -> list[TurnRow]:
    means = {label: np.mean(list(v.values()), axis=0) for label, v in embedded.items() if v}
    rows: dict[tuple[float, str], TurnRow] = {}
    for n, t in enumerate(turns):
        vector = embedded[t.speaker].get(n)
        confidence = 0.0
        if vector is not None:
            own = _cosine(vector, means[t.speaker])
            others = [_cosine(vector, m) for label, m in means.items() if label != t.speaker]
            confidence = own - max(others, default=0.0)
        row = TurnRow(
            speaker_id=ids[t.speaker],
            source_id=sid,
            start_s=t.start_s,
            end_s=t.end_s,
            confidence=confidence,
            overlapped=t.overlap,
            annotator=name,
        )
        rows.setdefault((t.start_s, t.speaker), row)
    return list(rows.values())


def _cosine(a: FloatArray, b: npt.NDArray[np.floating]) -> float:
    return float(a @ b / max(1e-9, float(np.linalg.norm(a) * np.linalg.norm(b))))


def _word_rows(
    sid: str, transcript: Transcript, turns: Sequence[Turn], ids: Mapping[str, str], name: str, rule: KnownRule
) -> list[WordRow]:
    said = [
        (w, segment, known)
        for segment in transcript.segments
        for known in [known_segment(segment, rule)]
        for w in segment.words
    ]
    rows: list[WordRow] = []
    for w, segment, known in sorted(said, key=lambda x: (x[0].start_s, x[0].end_s)):
        text, middle = w.text.strip(), (w.start_s + w.end_s) / 2
        owner = next((t for t in turns if t.start_s <= middle < t.end_s), None)
        rows.append(
            WordRow(
                source_id=sid,
                n=len(rows),
                start_s=w.start_s,
                end_s=w.end_s,
                word=text if known and known_word(w, rule) else None,
                guess=text,
                probability=w.probability,
                speaker_id=None if owner is None else ids[owner.speaker],
                language=segment.language,
                avg_logprob=segment.avg_log_prob,
                no_speech_prob=segment.no_speech_prob,
                compression_ratio=segment.compression_ratio,
                timed_by=w.timed_by,
                annotator=name,
            )
        )
    return rows


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
