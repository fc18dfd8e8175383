"""When words are said, by a Wav2Vec2 network with CTC and whisperx's search for the path through the words.

An optional part of the full set; the network is a directory of the user's (Wav2Vec2ForCTC with its processor), one for
all languages or one for each. No package carries weights for it, and nothing is downloaded.

whisperx's search is called, its `align` around it is not: that wants a download (NLTK), gives time to punctuation, and
feeds the network unscaled sound whatever its processor says. Characters that the network does not know stand for any
sound, as in whisperx; words of such characters alone are not aligned.

Cost: that of the network, and a millisecond for every second of sound; memory grows with the stretch, of 30 s at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotators.models import hub
from annotators.models.weights_registry import WeightsNotFound
from annotators.parts import Made
from annotators.protocols_speech import FloatArray, Segment, Stretch
from annotators.speech import quiet_import
from schemas.time import AUDIO_HZ

_ASKED = ("aligner=whisperx", "aligner=none")
_BETWEEN_WORDS = "|"
_ANY_LANGUAGE = ""


class WhisperXAligner:
    """CTC alignment in steps of the network's frames, 20 ms for every published one."""

    weights: tuple[str, ...] = ()

    def __init__(self, model: str | dict[str, str], device: str = "cpu") -> None:
        """Load the networks.

        Args:
            model: directory of one for every language, or one by language (ISO 639-1); a path, a name in a directory
                of OPENLPM_MODELS, or a hub's name that its cache on this machine holds.
            device: as torch names it.

        Raises PartNotInstalledError, and WeightsNotFound for a directory that is missing or incomplete.
        """
        self.name = self.made_of(model).name
        self._search = quiet_import.whisperx(*_ASKED).alignment
        self._networks = {language: _load(folder, device) for language, folder in _folders(model).items()}

    @classmethod
    def made_of(cls, model: str | Mapping[str, str], **_: object) -> Made:
        """Name the networks' files and the library's version, without importing it.

        Raises PartNotInstalledError and WeightsNotFound.
        """
        library = quiet_import.version(*_ASKED)
        folders = {f"wav2vec2-{n}" if n else "wav2vec2": folder for n, folder in _folders(model).items()}
        return Made("whisperx-wav2vec2-ctc", libraries=library, folders=folders)

    def align(self, audio: FloatArray, stretches: Sequence[Stretch]) -> list[list[Segment | None]]:
        """Return the time of every word in audio [N].

        None where its language has no network, or none of its characters is one of the network's.
        """
        return [self._stretch(audio, stretch) for stretch in stretches]

    def _stretch(self, audio: FloatArray, stretch: Stretch) -> list[Segment | None]:
        network = self._networks.get(stretch.language or _ANY_LANGUAGE, self._networks.get(_ANY_LANGUAGE))
        out: list[Segment | None] = [None] * len(stretch.words)
        first = round(stretch.start_s * AUDIO_HZ)
        sound = audio[first : round(stretch.end_s * AUDIO_HZ)]
        if network is None or len(sound) < network.least_samples:
            return out
        text = spelled([w.text for w in stretch.words], network.characters, self._gaps(stretch.language))
        if not any(text.known.values()):
            return out
        emission = network.emission(sound)
        for n, (start, end) in self._frames(emission, text, network.blank).items():
            if text.known[n]:
                start_s, end_s = (min(first / AUDIO_HZ + f * network.step_s, stretch.end_s) for f in (start, end))
                out[n] = Segment(start_s, end_s)
        return out

    def _gaps(self, language: str | None) -> bool:
        return language not in self._search.LANGUAGES_WITHOUT_SPACES

    def _frames(self, emission: Any, text: Spelled, blank: int) -> dict[int, tuple[int, int]]:
        """Return first frame, and the frame after the last, of every spelled word; nothing where they do not fit."""
        import torch

        others = emission.clone()
        others[:, blank] = -torch.inf
        scores = torch.cat([emission, others.max(dim=1, keepdim=True).values], dim=1)
        tokens = [scores.shape[1] - 1 if t is None else t for t in text.tokens]
        if len(tokens) > len(scores):
            return {}
        path = self._search.backtrack(self._search.get_trellis(scores, tokens, blank), scores, tokens, blank)
        if path is None:
            return {}
        out: dict[int, tuple[int, int]] = {}
        for point in path:
            word = text.words[point.token_index]
            if word is not None:
                start = out[word][0] if word in out else point.time_index
                out[word] = (start, point.time_index + 1)
        return out


@dataclass(frozen=True)
class Spelled:
    """Words as the tokens of a network: None in `tokens` is a character it does not know, in `words` a gap."""

    tokens: tuple[int | None, ...]
    words: tuple[int | None, ...]
    known: Mapping[int, bool]


def spelled(words: Sequence[str], characters: Mapping[str, int], gaps: bool = True) -> Spelled:
    """Spell words with the characters of a network, by their number; signs that nobody says are left out.

    `gaps`: the language writes spaces between words.
    """
    tokens: list[int | None] = []
    owners: list[int | None] = []
    known: dict[int, bool] = {}
    for n, word in enumerate(words):
        said = [c for c in word.lower().replace("\u2019", "'") if c != _BETWEEN_WORDS]
        said = [c for c in said if c in characters or c.isalnum()]
        known[n] = any(c in characters and c.isalpha() for c in said)
        if not said:
            continue
        if tokens and gaps and _BETWEEN_WORDS in characters:
            tokens.append(characters[_BETWEEN_WORDS])
            owners.append(None)
        tokens += [characters.get(c) for c in said]
        owners += [n] * len(said)
    return Spelled(tuple(tokens), tuple(owners), known)


@dataclass(frozen=True)
class _Network:
    model: Any
    scale: Any
    characters: Mapping[str, int]
    blank: int
    step_s: float
    least_samples: int
    device: str

    def emission(self, sound: FloatArray) -> Any:
        """Return log probabilities [frames, characters] of sound [N], on the CPU."""
        import torch

        given = self.scale(sound, sampling_rate=AUDIO_HZ, return_tensors="pt").input_values
        with torch.inference_mode():
            scores = self.model(given.to(self.device)).logits
        return torch.log_softmax(scores.float(), dim=-1)[0].cpu()


def _load(folder: Path, device: str) -> _Network:
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor, logging

    logging.disable_progress_bar()
    try:
        model = Wav2Vec2ForCTC.from_pretrained(folder, local_files_only=True).to(device).eval()
        processor = Wav2Vec2Processor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise WeightsNotFound(
            f"{folder} holds no Wav2Vec2ForCTC with its processor ({str(e).splitlines()[0]}): it needs config.json, "
            "weights, vocab.json, tokenizer_config.json and preprocessor_config.json as their maker saved them"
        ) from e
    heard_hz = processor.feature_extractor.sampling_rate
    if heard_hz != AUDIO_HZ:
        raise WeightsNotFound(f"{folder} hears sound at {heard_hz} Hz; a network for {AUDIO_HZ} Hz is needed")
    characters = {c.lower(): n for c, n in processor.tokenizer.get_vocab().items() if len(c) == 1}
    kernels, strides = model.config.conv_kernel, model.config.conv_stride
    least = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        least = (least - 1) * stride + kernel
    return _Network(
        model, processor.feature_extractor, characters, processor.tokenizer.pad_token_id,
        int(np.prod(strides)) / AUDIO_HZ, least, device,
    )  # fmt: skip


def _folders(model: str | Mapping[str, str]) -> dict[str, Path]:
    named = {_ANY_LANGUAGE: model} if isinstance(model, str) else model
    return {language: hub.directory(name) for language, name in named.items()}
