"""Who spoke when: local speaker segmentation, joined across windows by voice.

The scheme of pyannote's pipeline (Bredin, Interspeech 2023): a network says which of up to three local speakers talk
in each 17 ms of a 10 s window, every local speaker's solo speech becomes a voice embedding, embeddings are clustered
(agglomerative, average link, cosine), and overlapping windows vote. The number of speakers is not given. Turn
edges come from the segmentation, so they are finer than any embedding window could be. Two people whom the
segmentation took for one are then told apart by the pieces of their speech (`voice_pieces.py`).

Cost on one core: about 1/12 of real time where people talk all the time. Memory beside the models grows by about
1.2 MB a minute of audio, and clustering by another 64 MB at most (4000 voices).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

from annotators.parts import Made
from annotators.protocols_speech import FloatArray, Segment, SpeakerEmbedder, Turn
from annotators.speech.speaker_segmentation import (
    FRAME_STEP_S,
    SEGMENTATION_WEIGHT,
    WINDOW_S,
    WINDOWS_AT_ONCE,
    SpeakerSegmenter,
    frame_times_s,
)
from annotators.speech.voice_pieces import PieceRule, divided
from annotators.speech.voices import MIN_CLIP_SAMPLES, CamPlusPlusEmbedder, cosine_similarity
from schemas.time import AUDIO_HZ

_Frames = NDArray[np.bool_]


@dataclass(frozen=True)
class DiarizationRule:
    """How voices are joined and turns are drawn.

    `same_voice_similarity`: clusters whose mean cosine similarity is above it are one speaker. With CAM++ on this
    project's footage, stretches of one speaker had 0.74-0.99 and of two speakers -0.28-0.44; 0.5 lies between and
    allows for short stretches. `reliable_s`: less solo speech than that founds no speaker of its own but joins the most
    similar one. `min_turn_s` and `max_gap_s`: shorter turns are dropped as noise of the segmentation, shorter
    pauses of one speaker bridged (as in pyannote's own settings, whose shortest pause is 0-0.1 s). `step_s`: hop of
    the windows, a tenth of one as in pyannote's own settings; 2.5 s cost half as much and erred more in a telephone
    call. `speech_margin_s`: how far a turn may reach beyond the speech that voice activity found.
    `voice_s`: a voice is embedded from the middle of its solo speech in a window, at most so much: embedding is nearly
    all of the cost, and with 4 s and more the turns were those of the whole window on all footage with known voices,
    with 3 s 2 % of the time went to somebody else (`benchmarks/diarization.py`).
    `apart_s`: two local speakers of a window who talk at once for so long are two people, however alike their voices
    are: sound of both has an embedding of neither. `pieces`: when a speaker is divided into several; None = never.
    """

    same_voice_similarity: float = 0.5
    reliable_s: float = 1.0
    min_turn_s: float = 0.15
    max_gap_s: float = 0.1
    step_s: float = 1.0
    speech_margin_s: float = 0.25
    voice_s: float = 5.0
    apart_s: float = 0.5
    pieces: PieceRule | None = field(default_factory=PieceRule)


@dataclass(frozen=True)
class LocalVoice:
    """One speaker of one window: its frames, its clip for the embedding, and how much of that is solo speech."""

    first_frame: int
    active: _Frames
    clip: FloatArray
    solo_s: float


def voice_name(embedder: SpeakerEmbedder) -> str:
    """Return an embedder's name as it stands in a diarizer's: the family of the network."""
    return embedder.name.split("-")[0]


class ClusteringDiarizer:
    """Segmentation and clustering; labels are "speaker_0", "speaker_1", ... in order of first appearance."""

    @classmethod
    def made_of(cls, **_: object) -> Made:
        """Name the scheme and its segmentation; the voice embedder is a part of its own."""
        return Made("segmentation-3.0+ahc+pieces", (SEGMENTATION_WEIGHT,))

    def __init__(
        self,
        embedder: SpeakerEmbedder | None = None,
        segmenter: SpeakerSegmenter | None = None,
        rule: DiarizationRule | None = None,
    ) -> None:
        """Take the parts, or load them through the weights resolver."""
        self._embedder = embedder or CamPlusPlusEmbedder()
        self._segmenter = segmenter or SpeakerSegmenter()
        self._rule = rule or DiarizationRule()
        self.name = f"segmentation-3.0+{voice_name(self._embedder)}+ahc+pieces"
        self.weights: tuple[str, ...] = (*self._segmenter.weights, *self._embedder.weights)

    def diarize(self, audio: FloatArray, speech: Sequence[Segment]) -> list[Turn]:
        """Return the turns in audio [N] within `speech` (widened by the rule's margin), sorted by start.

        Turns of different speakers may overlap in time; such stretches are turns of their own with `overlap` true.
        """
        voices, embeddings = self._local_voices(audio, speech)
        if not voices:
            return []
        solo_s = np.array([voice.solo_s for voice in voices])
        labels = kept_apart(voices, embeddings, cluster_voices(embeddings, solo_s, self._rule), self._rule)
        frames = round(len(audio) / AUDIO_HZ / FRAME_STEP_S) + 1
        talking = _vote(voices, labels, frames)
        if self._rule.pieces is not None:
            talking = divided(talking, audio, self._embedder, self._rule.pieces)
        return drawn_turns(talking, speech, len(audio) / AUDIO_HZ, self._rule)

    def _local_voices(self, audio: FloatArray, speech: Sequence[Segment]) -> tuple[list[LocalVoice], FloatArray]:
        voices: list[LocalVoice] = []
        embeddings = []
        firsts = _window_starts(len(audio) / AUDIO_HZ, speech, self._rule.step_s)
        for some in (firsts[n : n + WINDOWS_AT_ONCE] for n in range(0, len(firsts), WINDOWS_AT_ONCE)):
            starts = [round(first_frame * FRAME_STEP_S * AUDIO_HZ) for first_frame in some]
            windows = [audio[start : start + int(WINDOW_S * AUDIO_HZ)] for start in starts]
            for window, first_frame, active in zip(windows, some, self._segmenter.activity(windows), strict=True):
                found = _voices_of_window(window, first_frame, active, self._rule.voice_s)
                if found:
                    embeddings.append(self._embedder.embed([voice.clip for voice in found]))
                    empty = np.zeros(0, np.float32)
                    voices += [LocalVoice(voice.first_frame, voice.active, empty, voice.solo_s) for voice in found]
        width = self._embedder.dimension
        return voices, np.concatenate(embeddings) if embeddings else np.zeros((0, width), np.float32)


def cluster_voices(embeddings: FloatArray, solo_s: NDArray[np.float64], rule: DiarizationRule) -> NDArray[np.int64]:
    """Return a speaker number [V], in order of first appearance, for each of V >= 1 embeddings [V, D].

    Only voices with `rule.reliable_s` of solo speech (or the longest one) found clusters; at most 4000 of them, evenly
    spread, since memory grows with their square. All others join the cluster with the most similar mean.
    """
    founders = np.flatnonzero(solo_s >= rule.reliable_s)
    if len(founders) == 0:
        founders = np.array([int(np.argmax(solo_s))])
    founders = founders[:: -(-len(founders) // 4000)]
    if len(founders) == 1:
        groups = np.ones(1, np.int64)
    else:
        tree = scipy.cluster.hierarchy.linkage(embeddings[founders], method="average", metric="cosine")
        groups = scipy.cluster.hierarchy.fcluster(tree, 1.0 - rule.same_voice_similarity, criterion="distance")
    means = np.stack([embeddings[founders[groups == group]].mean(axis=0) for group in np.unique(groups)])
    labels = cosine_similarity(embeddings, means).argmax(axis=1)
    labels[founders] = groups - 1
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def kept_apart(
    voices: Sequence[LocalVoice], embeddings: FloatArray, labels: NDArray[np.int64], rule: DiarizationRule
) -> NDArray[np.int64]:
    """Return the labels [V] with no two people who talk at once in a window under one of them.

    Of such two the one with more solo speech keeps the label; the other takes the most similar one that is free, or,
    where none is half as similar as one speaker's voices are, a new one, which later windows may join.
    """
    out = labels.copy()
    means = [embeddings[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)]
    for start in dict.fromkeys(v.first_frame for v in voices):
        mine = sorted((i for i, v in enumerate(voices) if v.first_frame == start), key=lambda i: -voices[i].solo_s)
        for n, i in enumerate(mine):
            taken = {int(out[j]) for j in mine[:n] if _at_once_s(voices[i], voices[j]) >= rule.apart_s}
            if int(out[i]) not in taken:
                continue
            alike = cosine_similarity(embeddings[i : i + 1], np.stack(means))[0]
            free = [c for c in range(len(means)) if c not in taken and alike[c] >= rule.same_voice_similarity / 2]
            if not free:
                means.append(embeddings[i])
            out[i] = max(free, key=lambda c: float(alike[c]), default=len(means) - 1)
    return out


def _at_once_s(a: LocalVoice, b: LocalVoice) -> float:
    return float((a.active & b.active).sum()) * FRAME_STEP_S


def _window_starts(duration_s: float, speech: Sequence[Segment], step_s: float) -> list[int]:
    """Return the first frames of the windows that hold speech; the windows cover the whole audio, the last one too."""
    last_s = max(0.0, duration_s - WINDOW_S)
    starts_s = np.append(np.arange(0.0, last_s, step_s), last_s)
    frames = [
        round(start_s / FRAME_STEP_S)
        for start_s in starts_s
        if any(part.start_s < start_s + WINDOW_S and part.end_s > start_s for part in speech)
    ]
    return list(dict.fromkeys(frames))  # the last window may begin within a frame of the one before


def _voices_of_window(window: FloatArray, first_frame: int, activity: _Frames, voice_s: float) -> list[LocalVoice]:
    """Return the local speakers of a window; their clips are solo speech where there is enough of it."""
    longest = round(voice_s * AUDIO_HZ)
    frame_of_sample = np.minimum(
        (np.arange(len(window)) / (FRAME_STEP_S * AUDIO_HZ)).astype(np.int64), len(activity) - 1
    )
    solo = activity & (activity.sum(axis=1, keepdims=True) == 1)
    voices = []
    for local in range(activity.shape[1]):
        clip = window[solo[frame_of_sample, local]]
        solo_s = len(clip) / AUDIO_HZ
        if len(clip) < MIN_CLIP_SAMPLES:
            clip = window[activity[frame_of_sample, local]]
        if len(clip) >= MIN_CLIP_SAMPLES:
            start = max(0, (len(clip) - longest) // 2)
            voices.append(LocalVoice(first_frame, activity[:, local], clip[start : start + longest], solo_s))
    return voices


def _vote(voices: Sequence[LocalVoice], labels: NDArray[np.int64], frames: int) -> _Frames:
    """Return [frames, speakers] who talks: as many speakers as the windows find on average, those with most votes."""
    votes = np.zeros((frames, int(labels.max()) + 1), np.float32)
    talking = np.zeros(frames, np.float32)
    windows = np.zeros(frames, np.float32)
    done: set[int] = set()
    for voice, label in zip(voices, labels, strict=True):
        own = slice(voice.first_frame, min(frames, voice.first_frame + len(voice.active)))
        active = voice.active[: own.stop - own.start]
        votes[own, label] += active
        talking[own] += active
        if voice.first_frame not in done:
            windows[own] += 1
            done.add(voice.first_frame)
    count = np.rint(talking / np.maximum(windows, 1)).astype(np.int64)
    rank = np.argsort(np.argsort(-votes, axis=1, kind="stable"), axis=1, kind="stable")
    chosen: _Frames = (rank < count[:, None]) & (votes > 0)
    return chosen


def drawn_turns(
    talking: NDArray[np.bool_], speech: Sequence[Segment], duration_s: float, rule: DiarizationRule
) -> list[Turn]:
    """Turn frames [F, speakers] of `frame_times_s` into turns inside speech, cut where overlap begins or ends."""
    centres = frame_times_s(len(talking))
    allowed = np.zeros(len(talking), bool)
    for part in speech:
        margin_s = rule.speech_margin_s
        allowed |= (centres >= part.start_s - margin_s) & (centres <= part.end_s + margin_s)
    talking = talking & allowed[:, None]
    smooth = np.stack([_smoothed(column, rule) for column in talking.T], axis=1)
    overlap = smooth.sum(axis=1) > 1
    edges_s = np.clip(centres[0] + FRAME_STEP_S * (np.arange(len(talking) + 1) - 0.5), 0.0, duration_s)
    turns = []
    for speaker, column in enumerate(smooth.T):
        state = np.where(column, 1 + overlap, 0)
        for first, last in _runs(state):
            start_s, end_s = float(edges_s[first]), float(edges_s[last])
            if start_s < end_s:
                turns.append((start_s, end_s, speaker, bool(overlap[first])))
    order = {speaker: number for number, speaker in enumerate(dict.fromkeys(turn[2] for turn in sorted(turns)))}
    return [Turn(start_s, end_s, f"speaker_{order[who]}", both) for start_s, end_s, who, both in sorted(turns)]


def _smoothed(active: _Frames, rule: DiarizationRule) -> _Frames:
    """Return one speaker's frames with short pauses bridged and then short turns taken away."""
    result = active.copy()
    gaps = _runs((~active).astype(np.int64))
    for first, last in gaps:
        if first > 0 and last < len(active) and (last - first) * FRAME_STEP_S <= rule.max_gap_s:
            result[first:last] = True
    for first, last in _runs(result.astype(np.int64)):
        if (last - first) * FRAME_STEP_S < rule.min_turn_s:
            result[first:last] = False
    return result


def _runs(state: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return [first, last) of each run of one and the same non-zero value."""
    edges = np.flatnonzero(np.diff(state)) + 1
    bounds = [0, *edges.tolist(), len(state)]
    return [(a, b) for a, b in pairwise(bounds) if a < b and state[a]]
