"""A stream from files to a file: pictures and sounds in, an MP4 out, and a line on what it cost.

Sounds are pushed chunk by chunk as they would arrive live, so what is measured here is what a user would meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpm_train.batch import KINDS, Conditions
from lpm_train.config import Config, ConfigError
from lpm_train.data.clip import to_pixels
from lpm_train.data.make import Encoders
from lpm_train.encoders.codec import encode_images
from lpm_train.network.refine import Performer
from lpm_train.session import make_encoders, usable
from lpm_train.streaming.stream import StreamGenerator, StreamingAudio
from lpm_train.tools.media import load_image, load_sound, write_mp4
from lpm_train.tools.outputs import must_spare, whole
from lpm_train.tools.provenance import add_xmp, model_fingerprint, tags
from schemas.samples.sample import FPS, SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ


def named_pictures(image: Path, refs: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """Return (kind, file) of a character's pictures; `refs` are PATH, view:PATH or expression:PATH."""
    out = [("global", image)]
    for ref in refs:
        kind, _, path = ref.partition(":")
        out.append((kind, Path(path)) if path and kind in KINDS else ("view", Path(ref)))
    return out


def must_stream(config: Config) -> None:
    """Raise ConfigError where a model cannot stream."""
    if config.run.stage.choice == "pretrain":
        raise ConfigError("this model sees both directions and cannot stream: give a causal or distilled checkpoint")


def must_last(seconds: float | None) -> None:
    """Raise ConfigError where a length that is asked for is no frame, or has no end; None is not asked for."""
    if seconds is not None and not (seconds < math.inf and _frames(seconds) > 0):
        raise ConfigError(f"--seconds {seconds:g}: give the length of a video, of {1 / FPS:g} s (a frame) or more")


def _frames(seconds: float) -> int:
    return math.ceil(seconds * FPS - 1e-6)


def about_use(settings: Sequence[str], sections: Sequence[str] = ("data", "stream")) -> list[str]:
    """Return settings that change how a model is used. Raises ConfigError for those that change what was trained."""
    for setting in settings:
        if setting.partition(".")[0] not in sections:
            raise ConfigError(
                f"--set {setting}: settings of {', '.join(sections)} can be changed, not what was trained"
            )
    return list(settings)


def pictures(config: Config, images: Sequence[tuple[str, Path]]) -> Tensor:
    """Load (kind, picture file) pairs at the model's size, [K, 3, H, W] in [-1, 1].

    Raises:
        ConfigError: more pictures than the model was trained with.
        DataError: a file is no picture.
    """
    if len(images) > config.data.max_refs:
        raise ConfigError(f"{len(images)} pictures, but this model was trained with at most {config.data.max_refs}")
    return torch.stack([load_image(path, config.data.height, config.data.width) for _, path in images])


def reference_conditions(config: Config, encoders: Encoders, images: Sequence[tuple[str, Path]]) -> Conditions:
    """Encode (kind, picture file) pairs as one row of conditions in which only the references count.

    Raises as `pictures` does.
    """
    loaded = pictures(config, images)
    coded = encode_images(encoders.codec, loaded.to(encoders.device)).float().cpu()
    m, L, K, off = config.model, encoders.text.length, len(images), torch.zeros(1, 1, dtype=torch.bool)
    quiet = torch.zeros(1, m.audio_steps, m.audio_width)
    kinds, refs = [KINDS[kind] for kind, _ in images], coded[None]
    more = {"given_BFCHW": refs[:, :1], "given_on_BF": ~off} if config.data.first_frame else {}
    more |= {"picture_BIP": encoders.picture(loaded[:1])} if encoders.picture.width else {}
    return Conditions(
        speak_BTA=quiet, listen_BTA=quiet, speak_on_BF=off, listen_on_BF=off, text_mask_BL=off.expand(1, L),
        text_BLD=torch.zeros(1, L, m.text_width), ref_BKCHW=refs,
        ref_mask_BK=torch.ones(1, K, dtype=torch.bool), ref_kind_BK=torch.tensor([kinds]), **more,
    )  # fmt: skip


def play(
    generator: StreamGenerator, speak: Tensor | None, listen: Tensor | None, samples: int, chunk: int
) -> Iterator[NDArray[np.uint8]]:
    """Push sounds of 48 kHz chunk by chunk, as they would arrive live, and yield frames uint8 [H, W, 3].

    A side is off before its sound begins and after it ends; `samples` is the length of the stream.
    """
    for start in range(0, samples, chunk):
        cut = [wave[start : start + chunk] if wave is not None else torch.empty(0) for wave in (speak, listen)]
        sides = [torch.nn.functional.pad(part, (0, chunk - len(part))) if len(part) else None for part in cut]
        off = all(side is None for side in sides)
        yield from to_pixels(generator.idle(chunk) if off else generator.push(sides[0], sides[1]))
    yield from to_pixels(generator.rest())


def stream_files(
    model: Performer, config: Config, image: Path, out: Path, refs: Sequence[str] = (), speak: Path | None = None,
    listen: Path | None = None, *, words: str = "", seconds: float | None = None, seed: int = 0,
) -> str:  # fmt: skip
    """Generate a video from sounds on the model's device, block by block; say what it cost.

    The file says that it is generated; it comes under its name when it is whole.

    Raises:
        ConfigError: the model cannot stream (as asked for, on its device), nothing says how long the video is, or it
            cannot be written, or is a file that is read.
        DataError: a picture or a sound cannot be read.
    """
    must_stream(config)
    must_last(seconds)
    must_spare([*(path for _, path in named_pictures(image, refs)), speak, listen], out)
    mark, device = model_fingerprint(model), next(model.parameters()).device
    usable(str(device), config.stream)
    encoders = make_encoders(config.data, str(device))
    sounds = [load_sound(p) if p is not None else None for p in (speak, listen)]
    longest = max((len(w) for w in sounds if w is not None), default=0)
    if seconds is None and not longest:
        raise ConfigError("nothing says how long the video is to be: give --speak, --listen or --seconds")
    n_frames = _frames(longest / PACKED_AUDIO_HZ if seconds is None else seconds)
    generator = StreamGenerator(
        model, config, encoders.codec, cast(StreamingAudio, encoders.audio), encoders.text,
        reference_conditions(config, encoders, named_pictures(image, refs)), words=words, seed=seed,
    )  # fmt: skip
    chunk = config.stream.block * encoders.codec.stride[0] * SAMPLES_PER_FRAME
    # The last block and what is heard ahead of it are filled with quiet, and cut off again.
    total = round(generator.sound_s(n_frames) * PACKED_AUDIO_HZ)
    frames = islice(play(generator, sounds[0], sounds[1], total, chunk), n_frames)
    voice = None if sounds[0] is None else sounds[0][: n_frames * SAMPLES_PER_FRAME].numpy()
    with whole(out) as (partial,):
        written, t = write_mp4(partial, frames, voice, tags=tags(mark)), generator.timing.report()
        add_xmp(partial, mark)
    return (
        f"{out}: {written} frames, {written / FPS:.2f} s; first chunk after {t['first_chunk_s']:.3f} s "
        f"({t['wait_s']:.3f} s of sound + {t['first_compute_s']:.3f} s), then {t['fps']:.1f} frames/s "
        f"({t['real_time_factor']:.2f} x real time), block p50 {t['block_p50_s']:.3f} s, p99 {t['block_p99_s']:.3f} s"
    )
