"""One file a stage: each turns tables, and one source's media, into tables through annotators."""

SHIPPED = {
    "probe": "stages.sources.probe:Probe",
    "scan": "stages.scan.scan:Scan",
    "tracks": "stages.tracks.tracks:Tracks",
    "speech": "stages.speech.speech:Speech",
    "channels": "stages.speech.channels:Channels",
    "active_speaker": "stages.speech.active_speaker:ActiveSpeakerStage",
    "attribution": "stages.attribution.attribution:Attribution",
    "pairing": "stages.pairing.pairing:Pairing",
    "clip_plan": "stages.clip_plan.clip_plan:ClipPlan",
    "verification": "stages.performance.verification:Verification",
    "body": "stages.performance.body:BodyStage",
    "performance": "stages.performance.performance:Performance",
    "clip_vectors": "stages.image_text.clip_vectors:ClipVectors",
    "embedding": "stages.references.embedding:Embedding",
    "portrait_vectors": "stages.image_text.portrait_vectors:PortraitVectors",
    "packing": "stages.packing.packing:Packing",
    "near_clips": "stages.image_text.near_clips:NearClips",
    "duplicates": "stages.sources.duplicates:Duplicates",
    "sessions": "stages.sources.sessions:Sessions",
    "identity": "stages.identity.identity:Identity",
    "references": "stages.references.references:References",
}
"""The stages by the names that a workflow may use instead of module:Class, in an order that satisfies every read."""
