"""The configuration of a run: from a preset, a YAML file, an earlier run or public weights, and what is set on top."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from lpm_train.config import Base, Config, ConfigError, override
from lpm_train.network.base import Opened, open_base
from lpm_train.presets import PRESETS
from lpm_train.training.checkpoint import find, read_config
from lpm_train.training.checkpoint_files import Place, placed
from schemas.settings import yaml12
from schemas.settings.use import near


def resolve(
    preset: str | None, dataset: str, where: str | None = None, settings: Sequence[str] = (), *runs: Place | None,
    base: str | None = None,
) -> Config:  # fmt: skip
    """Make the configuration of a run: where it begins, then the settings on top.

    Args:
        preset: a preset, or a YAML file of settings over one; None: as the first of `runs` that there is, else `small`.
        dataset: what is read.
        where: SQL condition over its manifest; None: that of the configuration.
        settings: `section.field=value`, each.
        runs: directories of earlier runs, or where their checkpoints lie.
        base: public weights to begin with, `wan:DIRECTORY`; they decide the network, and the preset where none is.

    Raises:
        ConfigError: no such preset, file or field.
    """
    found = open_base(base) if base else None
    config = next(filter(None, map(_earlier, runs)), None) if preset is None else None
    config = config or _preset(preset or _nearest(found))
    if found:
        config = replace(
            config, model=replace(config.model, **found.form),
            base=Base(weights=found.weights, sha256=found.files.sha256),
            data=replace(config.data, first_frame=config.data.first_frame or found.form["image_channels"] > 0),
        )  # fmt: skip
    config = override(config, settings)
    return replace(config, data=replace(config.data, root=dataset, where=where or config.data.where))


def _earlier(run: Place | None) -> Config | None:
    """Read the configuration of a run, where there is one."""
    if run is None or isinstance(run := placed(run), str):
        return None if run is None else read_config(find(run))
    return read_config(run) if (run / "config.json").exists() else None


def _nearest(base: Opened | None) -> str:
    """Name the preset for a base: that of its size."""
    if base is None:
        return "small"
    names = [n for n in PRESETS if n.startswith("wan_")]
    return min(names, key=lambda n: abs(PRESETS[n]().model.width - int(base.form["width"])))


def _preset(name: str, above: tuple[Path, ...] = ()) -> Config:
    """Return a preset, or what a YAML file lays over one; modules beside that file can be named in `use:`."""
    if name in PRESETS:
        return PRESETS[name]()
    file = Path(name)
    if not file.is_file():
        over = "a YAML file of settings over one, such as `preset: toy` and `optim: {lr: 1e-3}`"
        raise ConfigError(f"no preset {name!r}; {near(name, PRESETS)} or name {over}")
    if (place := file.resolve()) in above:
        raise ConfigError(f"{name} is laid over itself: let its `preset` be another file, or {', '.join(PRESETS)}")
    try:
        sections = yaml12.load(file.read_text(encoding="utf-8"))
        base = _preset(str(sections.pop("preset", "small")), (*above, place))
        said = [f"{part}.{key}={json.dumps(value)}" for part, keys in sections.items() for key, value in keys.items()]
    except (yaml.YAMLError, AttributeError, OSError, TypeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{name} holds no settings by section, such as `optim: {{lr: 1e-3}}`: {e}") from e
    if (folder := str(file.parent.absolute())) not in sys.path:
        sys.path.append(folder)  # last: nothing that is installed is shadowed
    return override(base, said)
