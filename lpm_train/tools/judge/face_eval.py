"""Hold a generated video against the clip that drove it: the same person, lips that follow its voice, a shut mouth?

The clip's own pictures are measured the same way (`data.`), for no generator is nearer to its references, better in
sync or more silent than the people it learnt from. Costs what the `FaceReader` costs, a look a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from lpm_train.batch import Batch
from lpm_train.data.loader import Loader
from lpm_train.encoders.codec import picture_frames
from lpm_train.tools.clips import clip_of
from lpm_train.tools.judge.faces import (
    EVERY,
    I8,
    U8,
    FaceReader,
    Figures,
    identity_figures,
    lip_figures,
    mean_of,
    reference_of,
)
from lpm_train.tools.judge.mouth import Seen, against_data, follow, situations
from schemas.samples.sample import SAMPLES_PER_FRAME
from schemas.time import PACKED_AUDIO_HZ


@torch.no_grad()
def face_figures(
    reader: FaceReader, loader: Loader, batch: Batch, films: Iterable[Iterable[U8]], lengths: Sequence[int]
) -> Figures:
    """Measure generated videos of the loader's first batch, and the clips that drove them.

    Args:
        reader: the face models.
        loader: gave `batch`, or more rows after those, first.
        batch: the conditions, played from their start as often as the videos are long.
        films: of each row the generated frames uint8 [H, W, 3], as many clip lengths as the last of `lengths`; they are
            taken one after another, each from beginning to end.
        lengths: ascending; mouths are measured up to each many clip lengths, from the one before on.

    Returns:
        See `faces.identity_figures` and `faces.lip_figures` (of the whole videos), all of them as `data.NAME` for the
        clips themselves, `mouth.against_data` and `mouth.follow`.
    """
    codec, F = loader.encoders.codec, batch.x_BFCHW.shape[1]
    times, t, window, lead = lengths[-1], codec.stride[0], picture_frames(codec, F), 0
    figures: tuple[list[Figures], list[Figures]] = ([], [])
    mouths: tuple[list[Seen], list[Seen]] = ([], [])
    draws = loader.order.batch(*loader.order.normal(0, 0))
    for row, (draw, film) in enumerate(zip(draws, films, strict=False)):
        clip = clip_of(loader, draw)
        reference = reference_of(reader, clip.references)
        # Sound and modes are played again and again; a first latent of one frame has no sound before it.
        sound = np.tile(np.concatenate([clip.lead_N, clip.speech_N]), times)[len(clip.lead_N) :]
        lead = len(clip.lead_N) // SAMPLES_PER_FRAME
        state: I8 = np.tile(batch.state_BF[row].numpy().repeat(t), times)[lead:]
        videos = (film, iter(clip.frames))
        for frames, said, seen in zip(videos, figures, mouths, strict=True):
            look = reader.look(frames, EVERY)
            n = len(look.opening_T)
            speech = sound[: n * SAMPLES_PER_FRAME]
            lips = lip_figures(reader, look, speech, PACKED_AUDIO_HZ, (state[:n] & 1).astype(bool))
            who = identity_figures(look, reference, window, reader.same_person_distance)
            said.append(Figures(who.values | lips.values, who.reasons | lips.reasons))
            seen.append(Seen(look.opening_T, situations(speech, state[:n])))
    ours, data = mean_of(figures[0]), mean_of(figures[1], "data.")
    spans = {k: (picture_frames(codec, F * before), picture_frames(codec, F * k))
             for before, k in zip((0, *lengths), lengths, strict=False)}  # fmt: skip
    made = {length: [one.part(*span) for one in mouths[0]] for length, span in spans.items()}
    mouth = against_data(made, mouths[1], reader.open_from)
    parts = (ours, data, mouth, follow(*mouths, lead))
    return Figures(
        {n: v for p in parts for n, v in p.values.items()}, {n: why for p in parts for n, why in p.reasons.items()}
    )
