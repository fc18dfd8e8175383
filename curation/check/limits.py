"""The thresholds of a check, each with its reason; `--limit NAME=VALUE` sets another."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.check.errors import CheckError


class Limits(BaseModel):
    """From where on something is a finding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_gap: float = Field(0.01, gt=0, description="frame rates differ by this share; 29.97 and 30 do not")
    majority: float = Field(0.75, gt=0.5, le=1, description="share of all clips that makes a rate the dataset's own")
    majority_clips: int = Field(5, ge=2, description="and so many clips at least")
    length_gap_s: float = Field(0.2, gt=0, description="lengths of picture and sound, or measured and declared, differ")
    length_gap_ratio: float = Field(0.02, ge=0, description="the same as a share of the length, where that is more")
    silent_ratio: float = Field(0.98, gt=0, le=1, description="share of 40 ms steps below -60 dBFS in a silent sound")
    unvoiced_s: float = Field(1.5, gt=0, description="lips speak so long while no voice is heard")
    unvoiced_ratio: float = Field(0.5, gt=0, le=1, description="and for this share of the time in which they speak")
    swap_db: float = Field(6.0, gt=0, description="the other track is so much louder where this one should be heard")
    swap_s: float = Field(1.0, gt=0, description="over so many seconds at least")
    still_camera: float = Field(0.02, ge=0, description="picture widths/s of camera motion up to which jump cuts count")
    offset_ms: float = Field(140.0, gt=0, description="lips and sound apart; talkers taken for in sync reach 130 ms")
    offset_confidence: float = Field(0.3, ge=0, description="of the offset, at least")
    offset_own_voice: float = Field(0.99, ge=0, le=1, description="and this sure that the voice is the face's own")
    offset_evidence_s: float = Field(2.5, gt=0, description="and on so much speech")
    other_face_s: float = Field(0.5, gt=0, description="a second person is seen for so long")
    other_face_size: float = Field(0.3, gt=0, description="with a face of this share of the first one's size")
    dubbed_s: float = Field(1.5, gt=0, description="lips speak so long under a voice that is not theirs")
    dubbed_ratio: float = Field(0.5, gt=0, le=1, description="and for this share of the time in which they speak")
    other_voice: float = Field(0.3, gt=-1, lt=1, description="cosine of voices below which one id's voice is another's")
    voice_s: float = Field(2.5, gt=0, description="of speech that a voice is told by")
    same_moves: float = Field(0.85, gt=0, le=1, description="faces of one recording move alike; other takes stay below")
    same_face: float = Field(0.75, gt=0, description="distance of faces below which two ids are one person")
    other_face: float = Field(1.10, gt=0, description="distance of faces above which one id is two people")


def limits_from(chosen: Iterable[str], **defaults: float) -> Limits:
    """Return the limits with `NAME=VALUE` set, and defaults that go with the models. Raises CheckError."""
    values: dict[str, object] = dict(defaults)
    for text in chosen:
        name, equals, value = text.partition("=")
        if name not in Limits.model_fields or not equals:
            raise CheckError(f"--limit {text!r} is none; there are: {', '.join(Limits.model_fields)}")
        values[name] = value
    try:
        return Limits.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        raise CheckError(f"--limit {'.'.join(map(str, first['loc']))}: {first['msg']}") from e
