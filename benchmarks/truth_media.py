"""Material and rendering for made ground truth: takes of people, voices, how a clip is put together and written.

A `Clip` says which stretch of whose footage is seen where and when, and which stretch of whose voice is heard; its
true states follow from that in `truth_states.py`. Whole sources are decoded once and kept (a few hundred MB).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Wave = npt.NDArray[np.float32]
Way = list[tuple[float, float]]
"""Corners (clip s, source s) of a path through a source: straight between them, forwards or backwards."""

RATE_HZ = 48_000

CROPS: dict[str, tuple[float, float, float, float]] = {
    "talk_woman_garden": (0.2, 0.26, 0.6, 0.34),
    "listen_woman_red": (0.15, 0.08, 0.75, 0.5),
    "real_map": (0.1, 0.15, 0.8, 0.85),
    **{f"generated_{n}": (0.2, 0.0, 0.8, 1.0) for n in ("11", "12", "13", "15", "17", "3", "5", "7", "9")},
    **{f"generated_{n}": (0.2, 0.0, 0.8, 1.0) for n in ("l2", "l3", "l4", "woman2", "woman3")},
    **{f"generated_{n}": (0.0, 0.0, 1.0, 0.86) for n in ("film", "makeup", "woman", "drawn")},
}
"""Part of the picture (x, y, w, h of its size) without inset pictures and written marks, near enough to the face."""


@dataclass
class Panel:
    """One picture on the canvas: where (x, y, w, h of the canvas), and whose footage along which path.

    `scored` False keeps a face out of the truth; a clip with cuts has several full panels with their times. `crop` is
    the part of the source that is shown (x, y, w, h of its size); None = what CROPS says of the person's file.
    """

    person: str
    way: Way
    place: str = "full"
    rect: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    scored: bool = True
    crop: tuple[float, float, float, float] | None = None


@dataclass
class Sound:
    """A stretch of a voice: heard from `at_s` of the clip, read from `from_s` of its source."""

    voice: str
    at_s: float
    from_s: float
    length_s: float
    gain_db: float = 0.0


@dataclass
class Clip:
    """A clip to make."""

    name: str
    duration_s: float
    panels: list[Panel]
    sounds: list[Sound] = field(default_factory=list)
    fps: str = "25"
    size: tuple[int, int] | None = None
    codec: str = "libx264"
    bitrate: int = 0
    audio: tuple[int, str] = (48_000, "stereo")
    noise_snr_db: float | None = None
    music_snr_db: float | None = None
    room_db: float = -62.0
    late_s: float = 0.0

    @property
    def canvas_px(self) -> tuple[int, int]:
        """Return width and height; a single close-up is square, because a wider one would cut the chin."""
        return self.size or ((720, 720) if any(p.place == "full" for p in self.panels) else (1280, 720))


def path_of(media: Path, voices: Path | None, name: str) -> Path:
    """Return the file of a person or voice; raise FileNotFoundError with what to do."""
    for folder in (media, media / "talkers", *([voices] if voices else [])):
        for suffix in (".mp4", ".avi", ".wav"):
            if (folder / (name + suffix)).is_file():
                return folder / (name + suffix)
    raise FileNotFoundError(f"no footage or voice named {name} in {media}: give the directory that holds it (--voices)")


@functools.lru_cache(maxsize=4)
def pictures(path: Path) -> tuple[npt.NDArray[np.float64], list[Image]]:
    """Return times [n] in seconds and frames (height, width, 3) of a video, cropped to the person."""
    return _decoded(path, CROPS.get(path.stem, (0.0, 0.0, 1.0, 1.0)), 0.0, float("inf"))


def _decoded(
    path: Path, crop: tuple[float, float, float, float], low_s: float, high_s: float
) -> tuple[npt.NDArray[np.float64], list[Image]]:
    x, y, w, h = crop
    times, frames = [], []
    first = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            first = float(frame.time) if first is None else first
            at = float(frame.time) - first
            if at > high_s:
                break
            if at < low_s:
                continue
            rgb = frame.to_ndarray(format="rgb24")
            top, left = round(y * rgb.shape[0]), round(x * rgb.shape[1])
            part = rgb[top : top + round(h * rgb.shape[0]), left : left + round(w * rgb.shape[1])]
            times.append(at)
            frames.append(np.ascontiguousarray(part))
    return np.array(times), frames


def panel_pictures(panel: Panel, path: Path) -> tuple[npt.NDArray[np.float64], list[Image]]:
    """Return times and frames for a panel: of its own crop and stretch alone where it names a crop."""
    if panel.crop is None:
        return pictures(path)
    seen = [s for _, s in panel.way]
    return _decoded(path, panel.crop, min(seen) - 0.1, max(seen) + 0.1)


@functools.lru_cache(maxsize=64)
def voice(path: Path, rate: int = RATE_HZ) -> Wave:
    """Return the whole sound of a file as mono [N]."""
    resampler = av.AudioResampler("fltp", "mono", rate)
    parts = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32)


def source_time(way: Way, t_s: float) -> float | None:
    """Return where a path is in its source at a clip time; None when the picture is not on screen."""
    if not way[0][0] - 1e-9 <= t_s < way[-1][0] - 1e-9:
        return None
    return float(np.interp(t_s, [w[0] for w in way], [w[1] for w in way]))


def to_and_fro(at_s: float, low_s: float, high_s: float, until_s: float, start_s: float | None = None) -> Way:
    """Return a path that swings between two source times from `at_s` to `until_s`, first upwards from `start_s`."""
    way, t, s, goal = (
        [(at_s, low_s if start_s is None else start_s)],
        at_s,
        low_s if start_s is None else start_s,
        high_s,
    )
    if s >= high_s:
        goal = low_s
    while t < until_s - 1e-9:
        step = min(abs(goal - s), until_s - t)
        s += step if goal > s else -step
        t += step
        way.append((t, s))
        goal = low_s if goal == high_s else high_s
    return way


def cover(rgb: Image, width: int, height: int) -> Image:
    """Return the picture scaled to fill width x height, what is too much cut off evenly (above less than below)."""
    scale = max(width / rgb.shape[1], height / rgb.shape[0])
    size = (max(width, round(rgb.shape[1] * scale)), max(height, round(rgb.shape[0] * scale)))
    big = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, int((size[1] - height) * 0.5)
    return np.asarray(big[top : top + height, left : left + width], np.uint8)


def mix(clip: Clip, media: Path, voices: Path | None, rng: np.random.Generator) -> Wave:
    """Return the sound of a clip as mono [N] at 48 kHz: voices, then room tone, noise and music at their levels."""
    n = round(clip.duration_s * RATE_HZ)
    out = np.zeros(n, np.float32)
    for sound in clip.sounds:
        first, a = round(sound.at_s * RATE_HZ), round(sound.from_s * RATE_HZ)
        part = voice(path_of(media, voices, sound.voice))[a : a + round(sound.length_s * RATE_HZ)].copy()
        fade = min(480, len(part) // 2)
        part[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        part[len(part) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        part = part[: n - first] * np.float32(10 ** (sound.gain_db / 20))
        out[first : first + len(part)] += part
    level = float(np.sqrt(np.mean(out[np.abs(out) > 1e-4] ** 2))) if np.any(np.abs(out) > 1e-4) else 0.05
    out += pink(n, rng) * np.float32(10 ** (clip.room_db / 20))
    if clip.noise_snr_db is not None:
        out += pink(n, rng) * np.float32(level * 10 ** (-clip.noise_snr_db / 20))
    if clip.music_snr_db is not None:
        out += music(n, rng) * np.float32(level * 10 ** (-clip.music_snr_db / 20))
    late = round(clip.late_s * RATE_HZ)
    if late:
        moved = pink(n, rng) * np.float32(10 ** (clip.room_db / 20))
        if late > 0:
            moved[late:] = out[:-late]
        else:
            moved[:late] = out[-late:]
        out = moved
    peak = float(np.abs(out).max())
    return out * np.float32(0.89 / peak) if peak > 0.89 else out


def pink(n: int, rng: np.random.Generator) -> Wave:
    """Return pink noise [n] of RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[: max(1, round(30 * n / RATE_HZ))] = 0
    wave = np.fft.irfft(spectrum, n)
    return np.asarray(wave / np.sqrt(np.mean(wave**2)), np.float32)


def music(n: int, rng: np.random.Generator) -> Wave:
    """Return simple music [n] of RMS 1: four chords of a cadence over a bass, kick drum and hi-hat at 104 a minute."""
    beat, t = 60 / 104, np.arange(n) / RATE_HZ
    root = 110.0 * 2 ** (int(rng.integers(0, 12)) / 12)
    out = np.zeros(n)
    for bar in range(int(n / RATE_HZ / (2 * beat)) + 1):
        a, b = round(bar * 2 * beat * RATE_HZ), min(n, round((bar + 1) * 2 * beat * RATE_HZ))
        s = t[a:b] - a / RATE_HZ
        for step in ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))[bar % 4]:
            f = 2 * root * 2 ** (step / 12)
            out[a:b] += sum(np.sin(2 * np.pi * f * h * s) / h**1.5 for h in range(1, 6)) * np.exp(-1.2 * s) * 0.3
        out[a:b] += np.sin(2 * np.pi * root / 2 * s) * 0.5
    for k in range(int(n / RATE_HZ / beat * 2) + 1):
        a = round(k * beat / 2 * RATE_HZ)
        s = t[a : a + 9600] - a / RATE_HZ
        if k % 2 == 0:
            out[a : a + 9600] += np.sin(2 * np.pi * (50 + 60 * np.exp(-30 * s)) * s) * np.exp(-18 * s) * 1.2
        out[a : a + 9600] += np.diff(rng.standard_normal(len(s) + 1)) * np.exp(-60 * s) * 0.25
    return np.asarray(out / np.sqrt(np.mean(out**2)), np.float32)


def render(clip: Clip, target: Path, media: Path, voices: Path | None, rng: np.random.Generator) -> None:
    """Write one clip; frame k shows what its panels' paths say for k / fps."""
    fps = Fraction({"29.97": "30000/1001"}.get(clip.fps, clip.fps))
    width, height = clip.canvas_px
    wave = mix(clip, media, voices, rng)
    # Decoding runs source by source, so the canvas is kept as a whole: at most 14 s of 720p, 1.2 GB.
    canvas = np.zeros((round(clip.duration_s * fps), height, width, 3), np.uint8)
    for panel in clip.panels:
        times, frames = panel_pictures(panel, path_of(media, voices, panel.person))
        x, y, w, h = (round(v * s) for v, s in zip(panel.rect, (width, height, width, height), strict=True))
        for k in range(len(canvas)):
            at = source_time(panel.way, float(k / fps))
            if at is not None:
                nearest = int(np.abs(times - at).argmin())
                canvas[k, y : y + h, x : x + w] = cover(frames[nearest], w, h)
    with av.open(str(target), "w") as out:
        stream = out.add_stream(clip.codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # the same file on any machine
        if clip.bitrate:
            stream.bit_rate = clip.bitrate
        elif clip.codec == "mpeg4":
            stream.bit_rate = 4_000_000
        else:
            stream.options = {"crf": "21", "preset": "ultrafast" if clip.codec == "libx265" else "veryfast"}
        if clip.codec == "libx265":
            stream.options = {**stream.options, "x265-params": "log-level=error:pools=1:frame-threads=1"}
        rate, layout = clip.audio
        sound = out.add_stream("aac", rate=rate, layout=layout)
        for rgb in canvas:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        resampler = av.AudioResampler("fltp", layout, rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))
