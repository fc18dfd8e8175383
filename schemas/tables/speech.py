"""Tables of what is heard: speech, voices, turns, words, sound."""

from __future__ import annotations

from schemas.columns import ANNOTATOR, END, SOURCE, START, K, flag, index, real, reals, seconds, text
from schemas.table import Table

SPEECH_FRAMES = Table(
    "speech_frames",
    "sound on the 25 Hz grid",
    ("source_id", "k"),
    (
        SOURCE,
        K,
        real("speech", "speech probability", "0-1"),
        real("level_db", "RMS level", "dBFS"),
        real("pitch_hz", "pitch of the clearest voice; null = none", "Hz", null=True),
        index("syllables", "syllable nuclei (peaks of the speech band's level) in these 40 ms, a heuristic"),
    ),
)

SPEECH = Table(
    "speech",
    "stretches with speech",
    ("source_id", "start_s"),
    (SOURCE, START, END, real("probability", "mean speech probability", "0-1"), ANNOTATOR),
)

SPEAKERS = Table(
    "speakers",
    "voices of one source",
    ("speaker_id",),
    (
        text("speaker_id", "`<source_id>-v<n>` in order of first appearance"),
        SOURCE,
        seconds("speech_s", "speech attributed to this voice"),
        reals("embedding", "mean voice embedding, unit length"),
        ANNOTATOR,
    ),
)

TURNS = Table(
    "turns",
    "who speaks when, by voice alone",
    ("source_id", "start_s", "speaker_id"),
    (
        text("speaker_id", "voice"),
        SOURCE,
        START,
        END,
        real("confidence", "cosine of the turn's voice to its speaker, minus that to the next best speaker"),
        flag("overlapped", "another voice speaks in part of the turn"),
        ANNOTATOR,
    ),
)

WORDS = Table(
    "words",
    "recognised words",
    ("source_id", "n"),
    (
        SOURCE,
        index("n", "position in the source"),
        START,
        END,
        text("word", "the word with its punctuation; null where the recogniser only guesses", null=True),
        text("guess", "what the recogniser wrote, known or not"),
        real("probability", "recogniser confidence", "0-1"),
        text("speaker_id", "voice of the turn that holds the word's middle", null=True),
        text("language", "language that its segment was heard in, ISO 639-1; null where unsure", null=True),
        real("avg_logprob", "mean log probability of the recogniser's segment"),
        real("no_speech_prob", "recogniser's probability that its segment is not speech", "0-1"),
        real("compression_ratio", "text repetitiveness of the recogniser's segment (gzip ratio)"),
        ANNOTATOR,
    ),
)

AUDIO_EVENTS = Table(
    "audio_events",
    "what the sound is, beside speech, in windows of 0.96 s every 0.48 s",
    ("source_id", "n"),
    (
        SOURCE,
        index("n", "window, in order of time"),
        START,
        END,
        real("speech", "score of speech", "0-1"),
        real("singing", "score of singing", "0-1"),
        real("music", "score of music", "0-1"),
        real("laughter", "score of laughter", "0-1"),
        real("noise", "greatest score of the kinds of noise", "0-1"),
        ANNOTATOR,
    ),
)

AUDIO = Table(
    "audio",
    "sound of one source as a whole",
    ("source_id",),
    (
        SOURCE,
        flag("has_audio", "there is an audio stream with samples"),
        real("level_db", "RMS level", "dBFS", null=True),
        real("peak_db", "peak level", "dBFS", null=True),
        real("clipping_ratio", "share of samples at full scale", "0-1", null=True),
        real("silence_ratio", "share of 40 ms frames below -60 dBFS", "0-1", null=True),
        real("noise_floor_db", "level of the quietest tenth of the frames without speech", "dBFS", null=True),
        real("snr_db", "speech level minus noise floor", "dB", null=True),
        real("speech_ratio", "share of the source with speech", "0-1"),
        real("music_ratio", "share of the 0.96 s windows with music or singing", "0-1", null=True),
        real("singing_ratio", "share of the 0.96 s windows with singing", "0-1", null=True),
        real("laughter_ratio", "share of the 0.96 s windows with laughter", "0-1", null=True),
        real("noise_ratio", "share of the 0.96 s windows with noise", "0-1", null=True),
        text("language", "language of the speech, ISO 639-1, by vote; null without speech or when unsure", null=True),
        real("language_probability", "the likeliest language's share of the vote, sure or not", "0-1", null=True),
        index("n_speakers", "voices told apart"),
        ANNOTATOR,
    ),
)
