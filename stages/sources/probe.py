"""Stage `probe`: what a file is, measured by reading its packets. No picture is decoded but a few key frames' hash."""

from __future__ import annotations

from typing import ClassVar

from curation.media.probe import probe, sha256_file
from curation.media.signature import near_duplicate_signature
from curation.stage import Gate, GateMode, Grain, Inputs, Outputs, StageSettings, WorkItem
from schemas.table import Table
from schemas.tables import SOURCES
from schemas.tables.registry import SourceRow


class ProbeSettings(StageSettings):
    """The probe has nothing to set."""


class Probe:
    """Stage: container facts of one source."""

    name: ClassVar[str] = "probe"
    version: ClassVar[int] = 4
    grain: ClassVar[Grain] = "source"
    reads: ClassVar[tuple[Table, ...]] = ()
    writes: ClassVar[tuple[Table, ...]] = (SOURCES,)
    gate: ClassVar[Gate | None] = None
    gate_mode: ClassVar[GateMode] = "once"
    Settings: ClassVar[type[StageSettings]] = ProbeSettings

    def __init__(self, settings: ProbeSettings) -> None:
        """Nothing to load."""

    def run(self, item: WorkItem, inputs: Inputs) -> Outputs:
        """Read the file's packets. Raises MediaError for what is no video, or a broken one."""
        path = inputs.media
        info = probe(path)
        pixels = info.width * info.height * info.fps
        row = SourceRow(
            source_id=item.source_id,
            sha256=sha256_file(path),
            bytes=info.n_bytes,
            container=info.container,
            duration_s=info.duration_s,
            video_start_s=info.start_s,
            video_codec=info.video_codec,
            width=info.width,
            height=info.height,
            short_side_px=min(info.width, info.height),
            rotation_deg=info.rotation_deg,
            fps=info.fps,
            is_vfr=info.is_vfr,
            n_frames=info.n_video_packets,
            video_bitrate_bps=info.video_bit_rate,
            bits_per_pixel=info.video_bit_rate / pixels if pixels > 0 else 0.0,
            pixel_format=info.pixel_format,
            has_audio=info.has_audio,
            audio_codec=info.audio_codec,
            audio_rate_hz=info.audio_rate_hz or 0,
            audio_channels=info.audio_channels or 0,
            audio_start_s=info.audio_start_s,
            audio_duration_s=info.audio_duration_s,
            perceptual_hash=_hex(near_duplicate_signature(path, info.duration_s)),
        )
        return Outputs({SOURCES: SOURCES.from_rows([row])})


def _hex(signature: bytes | int) -> str:
    return signature.hex() if isinstance(signature, bytes) else f"{signature:016x}"
