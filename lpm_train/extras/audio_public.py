"""wav2vec 2.0 and Whisper encoders through transformers, as an extra: 50 features a second, two a video frame.

Both attend to all they are given, so what they are given is a window: `past_s` of sound, `hop_frames` whose features
are kept, and `ahead_s` to come. A hop's features are those of its window alone, normalised by it, hence the same for a
whole clip and for a stream however its sound arrives; a stream waits for the hop to be full and for `ahead_s`. LPM 1.0
keeps the last second of 3 s; the default keeps three frames of 2.12 s, which end with every block of three latents. A
hop costs a pass over its window, for Whisper one over 30 s: 8 a second of sound by default. `hop_frames` 0 encodes the
clip as a whole, for what is never to stream. Sound at 48 kHz is brought to the models' 16 kHz by a windowed-sinc
filter. Weights are read from a local directory; nothing is downloaded.
"""

from __future__ import annotations

import threading
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from lpm_train.extras.as_published import not_read
from lpm_train.storage import DataError
from schemas.samples.sample import FPS
from schemas.time import AUDIO_HZ

_STEPS = 2  # per frame: both encoders give 50 a second
_WHISPER_S = 30  # length of what a Whisper encoder hears
_BATCH = 16  # windows in a pass


def to_16k(wave_N: Tensor, rate_hz: int) -> Tensor:
    """Resample to 16 kHz by a factor: a 32-zero Hann-windowed sinc, cut at 7.6 kHz; [..., N] -> [..., N / factor].

    Raises:
        DataError: the rate is no multiple of 16 kHz.
    """
    if rate_hz % AUDIO_HZ:
        raise DataError(f"sound at {rate_hz} Hz: give a multiple of 16 kHz, such as the 48 kHz of packed samples")
    factor = rate_hz // AUDIO_HZ
    if factor == 1:
        return wave_N
    half = 32 * factor
    n = torch.arange(-half, half + 1, dtype=torch.float64)
    kernel = torch.sinc(n * 0.95 / factor) * torch.hann_window(2 * half + 1, periodic=False, dtype=torch.float64)
    kernel = (kernel / kernel.sum()).to(wave_N)
    flat = F.pad(wave_N.reshape(-1, 1, wave_N.shape[-1]), (half, half))
    kept = F.conv1d(flat, kernel[None, None], stride=factor)[..., : wave_N.shape[-1] // factor]
    return kept.reshape(*wave_N.shape[:-1], -1)


def _whole_frames(samples: int, rate_hz: int) -> int:
    frames, rest = divmod(samples * FPS, rate_hz)
    if rest:
        raise DataError(f"{samples} samples at {rate_hz} Hz are not a whole number of video frames")
    return frames


class PublicAudio:
    """Last hidden states of a frozen encoder that hears the clip as a whole, and so cannot stream."""

    steps_per_frame = _STEPS

    def __init__(self, kind: str, model: Any, features: Any = None) -> None:
        """Wrap a model of transformers; `features` is Whisper's own log-mel front end."""
        self._model, self._features, self._lock = model.eval().requires_grad_(False), features, threading.Lock()
        self.width, self.name = int(model.config.hidden_size), f"{kind} {model.config.hidden_size}"

    @classmethod
    def wav2vec2(cls, directory: str, past_s: float = 2.0, hop_frames: int = 3, ahead_s: float = 0.0) -> PublicAudio:
        """Load wav2vec 2.0 from a directory that transformers wrote. Raises DataError, as `whisper` does."""
        return _windowed("wav2vec2", pretrained("Wav2Vec2Model", directory), None, past_s, hop_frames, ahead_s)

    @classmethod
    def whisper(cls, directory: str, past_s: float = 2.0, hop_frames: int = 3, ahead_s: float = 0.0) -> PublicAudio:
        """Load the encoder of a Whisper."""
        model, features = (pretrained(c, directory) for c in ("WhisperModel", "WhisperFeatureExtractor"))
        return _windowed("whisper", model.encoder, features, past_s, hop_frames, ahead_s)

    def to(self, device: torch.device | str) -> Self:
        """Move the network; features come back on the CPU."""
        self._model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, wave_N: Tensor, rate_hz: int) -> Tensor:
        """Encode a whole clip; [N] -> [n_frames * 2, A], step k at (k + 1/2) / 50 s."""
        steps = _whole_frames(len(wave_N), rate_hz) * _STEPS
        wave_BN = to_16k(wave_N.float(), rate_hz)[None]
        if self._features is None:
            return self._encode(wave_BN, steps)[0]
        piece = _WHISPER_S * FPS * _STEPS
        parts = torch.split(wave_BN, _WHISPER_S * AUDIO_HZ, dim=1)  # type: ignore[no-untyped-call]
        return torch.cat([self._encode(p, min(piece, steps - i * piece))[0] for i, p in enumerate(parts)])

    def _encode(self, wave_BN: Tensor, steps: int) -> Tensor:
        """Encode sounds of one length at 16 kHz, each by itself; -> [B, steps, A]."""
        with self._lock:
            hidden: Tensor
            if self._features is None:
                mean, var = wave_BN.mean(1, keepdim=True), wave_BN.var(1, correction=0, keepdim=True)
                level = F.pad((wave_BN - mean) / torch.sqrt(var + 1e-7), (40, 40))  # as it was trained
                hidden = self._model(level.to(self._model.device)).last_hidden_state
            else:
                mel = self._features(list(wave_BN.numpy()), sampling_rate=AUDIO_HZ, return_tensors="pt").input_features
                hidden = self._model(mel.to(self._model.device)).last_hidden_state[:, :steps]
        if abs(hidden.shape[1] - steps) > 2:
            raise DataError(f"{self.name} gave {hidden.shape[1]} steps of sound that has {steps}")
        even = F.interpolate(hidden.mT.float(), steps, mode="linear", align_corners=False)
        return even.mT.contiguous().cpu()


class WindowedAudio(PublicAudio):
    """Last hidden states of a frozen encoder that hears a window for each hop, as if silence came before the sound."""

    def __init__(
        self, kind: str, model: Any, features: Any = None, past_s: float = 2.0, hop_frames: int = 3,
        ahead_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Wrap a model of transformers.

        Args:
            kind: what it is called.
            model: the network.
            features: Whisper's own log-mel front end.
            past_s: seconds of sound before a hop, in steps of 20 ms.
            hop_frames: video frames of a hop.
            ahead_s: seconds of sound after a hop, in steps of 20 ms; they delay a stream.

        Raises:
            DataError: a window that is no whole number of steps, or longer than the network hears.
        """
        super().__init__(kind, model, features)
        self.past_s, self.hop_frames, self.ahead_s = past_s, hop_frames, ahead_s
        per_s = FPS * _STEPS
        self._past, self._hop, self._ahead = round(past_s * per_s), hop_frames * _STEPS, round(ahead_s * per_s)
        off_grid = max(abs(self._past - past_s * per_s), abs(self._ahead - ahead_s * per_s)) > 1e-6
        if off_grid or min(self._past, self._ahead) < 0 or hop_frames < 1:
            raise DataError(
                f"{kind}: a window of past_s {past_s:g}, hop_frames {hop_frames} and ahead_s {ahead_s:g} must be whole "
                "steps of 0.02 s before and after whole frames"
            )
        if features is not None and self._past + self._hop + self._ahead > _WHISPER_S * per_s:
            raise DataError(f"{kind} hears {_WHISPER_S} s at once: shorten past_s, hop_frames or ahead_s")
        self.name += f", {hop_frames} frames of windows with {past_s:g} s before and {ahead_s:g} s after"

    def needs(self, steps: int) -> float:
        """Return the seconds of sound that a stream's first steps need: whole hops, and what lies ahead of the last."""
        return (-(-steps // self._hop) * self._hop + self._ahead) / (FPS * _STEPS)

    @torch.no_grad()
    def __call__(self, wave_N: Tensor, rate_hz: int) -> Tensor:
        """Encode a whole clip, as if silence came after it; [N] -> [n_frames * 2, A]."""
        steps = _whole_frames(len(wave_N), rate_hz) * _STEPS
        want = round(self.needs(steps) * rate_hz)
        return self.push(F.pad(wave_N, (0, want - len(wave_N))), rate_hz, None)[0][:steps]

    @torch.no_grad()
    def push(self, wave_N: Tensor, rate_hz: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode the next samples of a stream, any number of them; -> (features of finished hops, state)."""
        if rate_hz % AUDIO_HZ:
            raise DataError(f"sound at {rate_hz} Hz: give a multiple of 16 kHz, such as the 48 kHz of packed samples")
        step = rate_hz // (FPS * _STEPS)
        hop, window = self._hop * step, (self._past + self._hop + self._ahead) * step
        past = wave_N.new_zeros(self._past * step, dtype=torch.float32) if state is None else state
        samples = torch.cat([past, wave_N.float()])
        hops = max(0, (len(samples) - window) // hop + 1)
        if not hops:
            return samples.new_zeros(0, self.width), samples
        windows = samples[: (hops - 1) * hop + window].unfold(0, window, hop)
        kept = slice(self._past, self._past + self._hop)
        batches = torch.split(windows, _BATCH)  # type: ignore[no-untyped-call]
        out = [self._encode(to_16k(some, rate_hz), window // step)[:, kept] for some in batches]
        return torch.cat(out).flatten(0, 1), samples[hops * hop :].clone()


def _windowed(kind: str, model: Any, features: Any, past_s: float, hop_frames: int, ahead_s: float) -> PublicAudio:
    if hop_frames:
        return WindowedAudio(kind, model, features, past_s, hop_frames, ahead_s)
    return PublicAudio(kind, model, features)


def pretrained(kind: str, directory: str, dtype: str = "") -> Any:
    """Load what a class of transformers has written into a directory; `dtype` is a model's number type, if chosen.

    Raises:
        DataError: transformers is not installed, the directory holds no such thing, or there is no such number type.
    """
    if dtype not in ("", "float32", "bfloat16"):
        raise DataError(f"dtype {dtype!r} of {kind}: use float32 or bfloat16")
    try:
        import transformers
    except ImportError as e:
        raise DataError(f"this encoder needs transformers (pip install 'openlpm[encoders]'): {e}") from e
    try:
        chosen = {"dtype": dtype} if dtype else {}
        return getattr(transformers, kind).from_pretrained(directory, local_files_only=True, **chosen)
    except (OSError, ValueError) as e:
        raise DataError(f"no {kind} in {directory}: {e}{not_read(directory)}") from e
