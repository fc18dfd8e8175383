"""Tables of what is heard: speech, voices, turns, words, sound."""

from __future__ import annotations

from schemas import columns as c
from schemas.column import Column
from schemas.row import Row
from schemas.table import Table


class SpeechFrameRow(Row):
    """Sound on the 25 Hz grid."""

    source_id: Column[str] = c.source_id()
    k: Column[int] = c.grid_index()
    speech: Column[float] = c.real("speech probability", "0-1")
    level_db: Column[float] = c.real("RMS level", "dBFS")
    pitch_hz: Column[float | None] = c.real("pitch of the clearest voice; null = none", "Hz", null=True)
    syllables: Column[int] = c.index("syllable nuclei (peaks of the speech band's level) in these 40 ms, a heuristic")
    is_damaged: Column[bool] = c.flag("sound may be wrong: bytes of it are lost")


SPEECH_FRAMES = Table(SpeechFrameRow, "speech_frames", (SpeechFrameRow.source_id, SpeechFrameRow.k))


class ChannelFrameRow(Row):
    """Level of each channel of the sound on the 25 Hz grid, of sources with two channels or more (stage `channels`)."""

    source_id: Column[str] = c.source_id()
    channel: Column[int] = c.index("channel as the file counts them, from 0")
    k: Column[int] = c.grid_index()
    level_db: Column[float] = c.real("RMS level", "dBFS")


CHANNEL_FRAMES = Table(
    ChannelFrameRow, "channel_frames", (ChannelFrameRow.source_id, ChannelFrameRow.channel, ChannelFrameRow.k)
)


class SpeechRow(Row):
    """Stretches with speech."""

    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    probability: Column[float] = c.real("mean speech probability", "0-1")
    annotator: Column[str] = c.annotator()


SPEECH = Table(SpeechRow, "speech", (SpeechRow.source_id, SpeechRow.start_s))


class SpeakerRow(Row):
    """Voices of one source."""

    speaker_id: Column[str] = c.text("`<source_id>-v<n>` in order of first appearance")
    source_id: Column[str] = c.source_id()
    speech_s: Column[float] = c.seconds("speech attributed to this voice")
    embedding: Column[list[float]] = c.reals("mean voice embedding, unit length")
    annotator: Column[str] = c.annotator()


SPEAKERS = Table(SpeakerRow, "speakers", (SpeakerRow.speaker_id,))


class TurnRow(Row):
    """Who speaks when, by voice alone."""

    speaker_id: Column[str] = c.text("voice")
    source_id: Column[str] = c.source_id()
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    confidence: Column[float] = c.real("cosine of the turn's voice to its speaker, minus that to the next best speaker")
    overlapped: Column[bool] = c.flag("another voice speaks in part of the turn")
    annotator: Column[str] = c.annotator()


TURNS = Table(TurnRow, "turns", (TurnRow.source_id, TurnRow.start_s, TurnRow.speaker_id))


class WordRow(Row):
    """Recognised words."""

    source_id: Column[str] = c.source_id()
    n: Column[int] = c.index("position in the source")
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    word: Column[str | None] = c.text(
        "the word with its punctuation; null where the recogniser only guesses", null=True
    )
    guess: Column[str] = c.text("what the recogniser wrote, known or not")
    probability: Column[float] = c.real("recogniser confidence", "0-1")
    speaker_id: Column[str | None] = c.text("voice of the turn that holds the word's middle", null=True)
    language: Column[str | None] = c.text(
        "language that its segment was heard in, ISO 639-1; null where unsure", null=True
    )
    avg_logprob: Column[float] = c.real("mean log probability of the recogniser's segment")
    no_speech_prob: Column[float] = c.real("recogniser's probability that its segment is not speech", "0-1")
    compression_ratio: Column[float] = c.real("text repetitiveness of the recogniser's segment (gzip ratio)")
    timed_by: Column[str | None] = c.text("the aligner that gave start and end; null = the recogniser", null=True)
    annotator: Column[str] = c.annotator()


WORDS = Table(WordRow, "words", (WordRow.source_id, WordRow.n))


class AudioEventRow(Row):
    """What the sound is, beside speech, in windows of 0.96 s every 0.48 s."""

    source_id: Column[str] = c.source_id()
    n: Column[int] = c.index("window, in order of time")
    start_s: Column[float] = c.start_s()
    end_s: Column[float] = c.end_s()
    speech: Column[float] = c.real("score of speech", "0-1")
    singing: Column[float] = c.real("score of singing", "0-1")
    music: Column[float] = c.real("score of music", "0-1")
    laughter: Column[float] = c.real("score of laughter", "0-1")
    noise: Column[float] = c.real("greatest score of the kinds of noise", "0-1")
    annotator: Column[str] = c.annotator()


AUDIO_EVENTS = Table(AudioEventRow, "audio_events", (AudioEventRow.source_id, AudioEventRow.n))


class AudioRow(Row):
    """Sound of one source as a whole."""

    source_id: Column[str] = c.source_id()
    has_audio: Column[bool] = c.flag("there is an audio stream with samples")
    level_db: Column[float | None] = c.real("RMS level", "dBFS", null=True)
    peak_db: Column[float | None] = c.real("peak level", "dBFS", null=True)
    clipping_ratio: Column[float | None] = c.real("share of samples at full scale", "0-1", null=True)
    silence_ratio: Column[float | None] = c.real("share of 40 ms frames below -60 dBFS", "0-1", null=True)
    noise_floor_db: Column[float | None] = c.real(
        "level of the quietest tenth of the frames without speech", "dBFS", null=True
    )
    snr_db: Column[float | None] = c.real("speech level minus noise floor", "dB", null=True)
    speech_ratio: Column[float] = c.real("share of the source with speech", "0-1")
    music_ratio: Column[float | None] = c.real("share of the 0.96 s windows with music or singing", "0-1", null=True)
    singing_ratio: Column[float | None] = c.real("share of the 0.96 s windows with singing", "0-1", null=True)
    laughter_ratio: Column[float | None] = c.real("share of the 0.96 s windows with laughter", "0-1", null=True)
    noise_ratio: Column[float | None] = c.real("share of the 0.96 s windows with noise", "0-1", null=True)
    language: Column[str | None] = c.text(
        "language of the speech, ISO 639-1, by vote; null without speech or when unsure", null=True
    )
    language_probability: Column[float | None] = c.real(
        "the likeliest language's share of the vote, sure or not", "0-1", null=True
    )
    n_speakers: Column[int] = c.index("voices told apart")
    annotator: Column[str] = c.annotator()


AUDIO = Table(AudioRow, "audio", (AudioRow.source_id,))
