"""One file a stage: each turns tables, and one source's media, into tables through annotators."""

SHIPPED = {
    "probe": "stages.probe:Probe",
    "scan": "stages.scan:Scan",
    "tracks": "stages.tracks:Tracks",
    "speech": "stages.speech:Speech",
    "active_speaker": "stages.active_speaker:ActiveSpeakerStage",
    "attribution": "stages.attribution:Attribution",
    "pairing": "stages.pairing:Pairing",
    "clip_plan": "stages.clip_plan:ClipPlan",
    "verification": "stages.verification:Verification",
    "body": "stages.body:BodyStage",
    "performance": "stages.performance:Performance",
    "embedding": "stages.embedding:Embedding",
    "packing": "stages.packing:Packing",
    "duplicates": "stages.duplicates:Duplicates",
    "sessions": "stages.sessions:Sessions",
    "identity": "stages.identity:Identity",
    "references": "stages.references:References",
}
"""The stages by the names that a workflow may use instead of module:Class, in an order that satisfies every read."""
