"""What back-ends that hear are asked, and how near they come to the truth; part of `backends.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from backend_footage import Footage, Sound, Tried, equal_error_rate
from diarization_score import diarization_errors, summed
from enhancement_score import si_sdr_db

from annotators.protocols_speech import Diarizer, SpeakerEmbedder, SpeechEnhancer, VoiceActivity
from annotators.sound.audio_events import EventDetector
from annotators.speech.vad import speech_segments
from curation.media.sound import resample
from schemas.time import AUDIO_HZ, GRID_HZ, PACKED_AUDIO_HZ

Mask = npt.NDArray[np.int64]
PIECE_S = 2.0
"""Of one voice alone, for telling voices apart."""
NOISE_DB = 10.0


def _grid(spans: Sequence[tuple[float, float]], duration_s: float) -> Mask:
    """Return how many spans cover each of the 25 Hz grid points."""
    out = np.zeros(int(duration_s * GRID_HZ), np.int64)
    for a, b in spans:
        out[round(a * GRID_HZ) : round(b * GRID_HZ)] += 1
    return out


def _true(sound: Sound) -> tuple[Mask, npt.NDArray[np.bool_]]:
    """Return how many voices are heard at each grid point, and where that is known."""
    voices = _grid([(a, b) for a, b, _ in sound.truth.turns], sound.duration_s)
    return voices, _grid(list(sound.truth.unknown), sound.duration_s) == 0


def voice_activity(part: VoiceActivity, footage: Footage) -> Tried:
    """Speech or not, of every 25 Hz frame, against whether anybody's voice is heard by the truth."""
    tried, hit, found_n, true_n = Tried(), 0, 0, 0
    for sound in footage.sounds():
        with tried.at_work(sound.duration_s):
            probability = part.probability(sound.audio)
        found = _grid([(s.start_s, s.end_s) for s in speech_segments(probability)], sound.duration_s) > 0
        voices, known = _true(sound)
        hit += int((found & (voices > 0) & known).sum())
        found_n, true_n = found_n + int((found & known).sum()), true_n + int(((voices > 0) & known).sum())
        tried.said += found.astype(int).tolist()
    tried.figures = {"precision": hit / max(1, found_n), "recall": hit / max(1, true_n)}
    return tried


def diarizer(part: Diarizer, footage: Footage) -> Tried:
    """Diarization error rate without a collar, overlap scored; what is compared is how many voices are heard when."""
    tried, errors = Tried(), []
    for sound in footage.sounds():
        with tried.at_work(sound.duration_s):
            turns = part.diarize(sound.audio, sound.speech)
        labelled = [(x.start_s, x.end_s, x.speaker) for x in turns]
        errors.append(diarization_errors(sound.truth.turns, labelled, sound.duration_s, sound.truth.unknown))
        tried.said += _grid([(a, b) for a, b, _ in labelled], sound.duration_s).tolist()
    total = summed(errors)
    tried.figures = {"error_rate": total.rate, "confused": total.confused_s / total.true_s}
    return tried


def speaker_embedder(part: SpeakerEmbedder, footage: Footage) -> Tried:
    """Pieces of 2 s of one voice alone, two people of one recording against one: the equal error rate."""
    tried, pairs = Tried(), []
    for sound in footage.sounds():
        pieces, whose = [], []
        for start, end, name in sound.truth.turns:
            alone = _true(sound)[0] == 1
            for at in np.arange(start, end - PIECE_S, PIECE_S):
                if alone[round(at * GRID_HZ) : round((at + PIECE_S) * GRID_HZ)].all():
                    pieces.append(sound.audio[int(at * AUDIO_HZ) : int((at + PIECE_S) * AUDIO_HZ)])
                    whose.append(name)
        if len(pieces) < 2:
            continue
        with tried.at_work(PIECE_S * len(pieces)):
            vectors = part.embed(pieces)
        pairs += [
            (float(vectors[i] @ vectors[j]), whose[i] == whose[j])
            for i, j in itertools.combinations(range(len(pieces)), 2)
        ]
    tried.figures = {"equal_error_rate": equal_error_rate(pairs), "pairs": float(len(pairs))}
    return tried


def event_detector(part: EventDetector, footage: Footage) -> Tried:
    """Share of windows in which plain speech is taken for music, singing, laughter or noise (a score of 0.3)."""
    tried, heard, n = Tried(), dict.fromkeys(("music", "singing", "laughter", "noise"), 0), 0
    for sound in footage.talkers():
        with tried.at_work(len(sound) / AUDIO_HZ):
            scores = part.events(sound).scores
        n += len(scores["music"])
        for name in heard:
            heard[name] += int((scores[name] >= 0.3).sum())
    tried.figures = {f"speech_as_{name}": count / max(1, n) for name, count in heard.items()}
    return tried


def speech_enhancer(part: SpeechEnhancer | None, footage: Footage) -> Tried:
    """Median SI-SDR (dB) of speech to which white noise 10 dB below it was added; none = as it is given."""
    tried, gained = Tried(), []
    rng = np.random.default_rng(0)
    for sound in footage.talkers():
        clean = resample(sound[None], AUDIO_HZ, PACKED_AUDIO_HZ)[0]
        noise = rng.standard_normal(len(clean)).astype(np.float32)
        given = clean + noise * np.float32(clean.std() * 10 ** (-NOISE_DB / 20))
        with tried.at_work(len(clean) / PACKED_AUDIO_HZ):
            after = given if part is None else part.enhance(given)
        gained.append(si_sdr_db(after, clean))
    tried.figures = {"si_sdr_db_of_10": float(np.median(gained))}
    return tried
