"""Every setting of a run, as frozen dataclasses; `lpm_train.presets` has complete ones by name.

`override(config, ["optim.lr=1e-3"])` changes single fields and says which exist when a name is wrong; `to_json` and
`from_json` write and read the resolved configuration that lies beside every checkpoint. Lengths are in latent frames
and audio steps (r a frame) unless a name says otherwise.
"""

from lpm_train.config.data import Data
from lpm_train.config.errors import ConfigError
from lpm_train.config.generation import Flow, Guide, Stream
from lpm_train.config.network import Base, Lora, Model
from lpm_train.config.reading import from_json, override, to_json
from lpm_train.config.running import Log, Optim, Run, Watch
from lpm_train.config.stages import Causal, Consistency, Distill, Phase, Pretrain
from lpm_train.config.whole import Config

__all__ = [
    "Base",
    "Causal",
    "Config",
    "ConfigError",
    "Consistency",
    "Data",
    "Distill",
    "Flow",
    "Guide",
    "Log",
    "Lora",
    "Model",
    "Optim",
    "Phase",
    "Pretrain",
    "Run",
    "Stream",
    "Watch",
    "from_json",
    "override",
    "to_json",
]
