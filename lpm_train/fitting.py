"""A configuration made to fit its encoders and its clips: widths, blocks, rollouts and the sizes that clips are cut to.

What does not fit is a `ConfigError` that says what to set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice

from lpm_train.config import Config, ConfigError, Data, Distill, Model
from lpm_train.data.make import Encoders
from lpm_train.data.order import Bucket
from lpm_train.data.precomputed import read_sizes
from lpm_train.data.shards import of_shapes, shapes_of, trained_on
from lpm_train.data.sizes import Rule, choose, choose_bucket, chosen_for, fit, refusal, said
from lpm_train.encoders.audio import steps_per_latent
from lpm_train.encoders.codec import latent_frames

_NAMED = 3  # clips that are named where many are meant


def fitted(config: Config, encoders: Encoders) -> Config:
    """Take the model's input widths from the encoders, and see that clips and rollouts are whole blocks.

    Raises:
        ConfigError: a clip's latents are no whole number of blocks, or a rollout beyond the clip cannot be judged.
        DataError: pictures or clips do not fit the codec.
    """
    block = config.stream.block
    for frames in (size[0] for size in config.data.sizes):
        latents = latent_frames(encoders.codec, frames)
        if config.run.stage.choice != "pretrain" and latents % block:
            raise ConfigError(
                f"clips of {frames} frames are {latents} latents, no whole number of blocks of {block}: "
                f"set data.frames={frames - latents % block * encoders.codec.stride[0]}"
            )
    if config.base.weights:
        m, codec, text, picture = config.model, encoders.codec, encoders.text, encoders.picture
        pairs = [("codec", m.channels, codec.channels), ("text", m.text_width, text.width)]
        pairs += [("picture", m.picture_width, picture.width)] * bool(picture.width)
        for part, read, made in pairs:
            if read != made:
                raise ConfigError(
                    f"the base reads data.{part} of width {read}, the chosen one gives {made}: name its own"
                )
    model = replace(
        config.model, channels=encoders.codec.channels, audio_width=encoders.audio.width,
        audio_steps=steps_per_latent(encoders.codec, encoders.audio), text_width=encoders.text.width,
    )  # fmt: skip
    return replace(config, model=model, distill=_judged(config, encoders))


def sized(config: Config, encoders: Encoders, say: Callable[[str], None] = lambda said: None) -> Config:
    """Settle what clips are cut to: sizes of the training clips' own where they are asked for, which fit in any case.

    Sizes that are chosen are those of the precomputed set, where one is named that is there. What fits none of them is
    counted over all splits.

    Args:
        config: whose `data` says how sizes are found, and what fits.
        encoders: whose codec, with the model's patch, says of what sides are multiples.
        say: is told which sizes were chosen, and which clips fit none.

    Raises:
        ConfigError: clips do not fit the sizes, none can be chosen, or the precomputed set has others than these
            settings choose.
    """
    data, (_, high, wide), patch = config.data, encoders.codec.stride, config.model.patch
    rule, unit, shapes = Rule.of(data), (high * patch, wide * patch), shapes_of(data.root, data.where or None)
    train = shapes_of(data.root, trained_on(data).where or None)  # what is held out decides nothing
    own = partial(choose, train, data.frames, data.most_pixels, unit, rule=rule)
    if data.auto_sizes:
        found = _of_set(data) or own(most=data.auto_sizes)
        if not found:
            raise ConfigError(
                f"data.auto_sizes finds no size of multiples of {unit[1]}x{unit[0]} and {data.frames} frames among "
                f"{train.total()} clips: set fewer data.frames, pack them larger, or take a codec of smaller stride"
            )
        data = chosen_for(data, found)
        say(f"sizes, frames x height x width: {said(data.sizes, shapes, rule)}")
    fits = fit(shapes, data.sizes, rule)
    if fits.misfits and data.misfits == "refuse":
        raise ConfigError(refusal(fits, rule, own(most=4)))
    if fits.misfits:
        more = ", ..." * (fits.misfits > _NAMED)
        say(
            f"{fits.misfits} of {fits.clips} clips fit no size and are left out (--set data.auto_sizes=N chooses up "
            f"to N sizes): {', '.join(islice(misfits(data), _NAMED))}{more}"
        )
    return replace(config, data=data)


def _of_set(data: Data) -> tuple[Bucket, ...]:
    """Return the sizes of the precomputed set that is named, where it is there."""
    sizes = read_sizes(data.root, data.precomputed) if data.precomputed else ()
    if any(size[0] != data.frames or size[1] * size[2] > data.most_pixels for size in sizes):
        raise ConfigError(
            f"precomputed/{data.precomputed} holds clips of {', '.join('x'.join(map(str, size)) for size in sizes)}; "
            f"data.frames={data.frames} with at most {data.most_pixels} pixels choose others: give the settings that "
            "it was made with, name another set, or delete it"
        )
    return sizes


def misfits(data: Data) -> Iterator[str]:
    """Yield the ids of clips that are long enough and fit no size."""
    rule, shortest = Rule.of(data), min(size[0] for size in data.sizes)
    return of_shapes(
        data.root, data.where or None,
        lambda n, width, height: n >= shortest and choose_bucket(n, width, height, data.sizes, rule) is None,
    )  # fmt: skip


def clip_latents(config: Config, encoders: Encoders) -> int:
    """Return the latents of the shortest clip: what models have seen at once of every size."""
    return min(latent_frames(encoders.codec, size[0]) for size in config.data.sizes)


def chained(config: Config, encoders: Encoders) -> bool:
    """Whether rollouts are longer than a clip, so that their conditions come from chains of clips."""
    return config.run.stage.choice == "distill" and config.distill.rollout > clip_latents(config, encoders)


def _judged(config: Config, encoders: Encoders) -> Distill:
    """Settle how much of a rollout beyond the clip is judged: as much as the teacher has ever seen, its last part."""
    d, clip, block = config.distill, clip_latents(config, encoders), config.stream.block
    if not chained(config, encoders):
        if d.conversations and config.run.stage.choice == "distill":
            raise ConfigError(
                f"distill.conversations drives rollouts beyond the clip: set distill.rollout to more than {clip} "
                "latents"
            )
        return d
    if d.policy != "own":
        raise ConfigError(f"distill.policy={d.policy} takes clips: distill.rollout {d.rollout} is for policy=own")
    if d.loss_frames > clip or d.rollout % block:
        raise ConfigError(
            f"distill.rollout {d.rollout} must be a multiple of block {block}, and distill.loss_frames {d.loss_frames} "
            f"at most a clip's {clip} latents: the teacher has never judged more"
        )
    return replace(d, loss_frames=d.loss_frames or clip)


def too_narrow(model: Model) -> str:
    """Say what a model loses that is narrower than its tokens: noise of more dimensions than it can hold; or ""."""
    values = model.channels * model.patch**2
    if model.width >= values:
        return ""
    return (
        f"warning: model.width {model.width} cannot hold tokens of {values} values ({model.channels} channels, patch "
        f"{model.patch}): {1 - model.width / values:.0%} of the noise stays unexplained, and the loss above that; "
        "widen the model, or take a smaller patch or a codec of fewer channels"
    )
