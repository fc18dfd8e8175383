"""Media that breaks naive readers, synthesised into a directory of the test's own.

Each function writes one file and returns its path. Pictures carry their frame number as a bar code and sound carries
tones, so that a test can say which frame or moment it was given. A second of it costs some 30 ms to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

WIDTH, HEIGHT, RATE = 192, 128, 48_000
BITS = 12

HOSTILE_NAMES = (
    "two words.mp4",
    'it\'s "quoted".mp4',
    "new\nline.mp4",
    "käse 日本 🎬.mp4",
    "100%d [x].mp4",
    "-rf.mp4",
    "a'; DROP TABLE sources; --.mp4",
    "concat:a|b.mp4",
)
"""File names that shells, SQL, globs and URL parsers trip over."""


# ---- pictures and sound ------------------------------------------------------------------------------------------


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw frame `number` as RGB [H, W, 3]: a bar code above, a gradient that is neither symmetric way below."""
    image = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    image[..., 0], image[..., 1], image[..., 2] = 40 + x * 120 // width, 40 + y * 120 // height, 90
    band = height // 3
    for bit in range(BITS):
        image[:band, bit * width // BITS : (bit + 1) * width // BITS] = 230 if number >> bit & 1 else 25
    return image


def read_number(rgb: np.ndarray) -> int:
    """Read the bar code of a picture made by `picture`."""
    height, width = rgb.shape[:2]
    row = rgb[height // 8 : height // 4].mean(axis=(0, 2)) if rgb.ndim == 3 else rgb[height // 8 : height // 4].mean(0)
    centers = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, c in enumerate(centers) if row[c - 2 : c + 3].mean() > 127)


def tone(duration_s: float, rate: int = RATE, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    """Make a sine as float32 [N]."""
    return (level * np.sin(2 * np.pi * hz * np.arange(round(duration_s * rate)) / rate)).astype(np.float32)


# ---- the one writer ----------------------------------------------------------------------------------------------


def write(
    path: Path,
    pictures: Sequence[np.ndarray] | None,
    pts_s: Sequence[float] | None = None,
    *,
    fps: Fraction | int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    codec_options: dict[str, str] | None = None,
    rotation_deg: int = 0,
    aspect: Fraction | None = None,
    full_range: bool = False,
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    sound_rate: int = RATE,
    layout: str = "mono",
    sound_start_s: float = 0.0,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write RGB pictures at times `pts_s` (default: n / fps) and float32 sound [N] or [C, N] as one file."""
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as out:
        video = audio = None
        if pictures is not None:
            options = {"preset": "veryfast", "threads": "1", **(codec_options or {})}
            video = out.add_stream(codec, rate=fps, options=options if codec.startswith("libx26") else codec_options)
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt = pix_fmt
            video.codec_context.time_base = Fraction(1, 12_800) if pts_s is not None else 1 / Fraction(fps)
            if codec == "libx265":
                video.options = {**options, "x265-params": "log-level=none:pools=none:frame-threads=1"}
            if rotation_deg:
                video.set_display_rotation(rotation_deg)
            if aspect is not None:
                video.codec_context.sample_aspect_ratio = aspect
            if full_range:
                video.codec_context.color_range = int(ColorRange.JPEG)
        if sound is not None:
            audio = out.add_stream(sound_codec, rate=sound_rate, layout=layout)
        if video is not None and pictures is not None:
            _write_pictures(out, video, pictures, pts_s, full_range)
        if audio is not None and sound is not None:
            _write_sound(out, audio, np.atleast_2d(sound), sound_rate, layout, sound_start_s)
    return path


def _write_pictures(
    out: Any, video: Any, pictures: Sequence[np.ndarray], pts_s: Sequence[float] | None, full_range: bool
) -> None:
    base = video.codec_context.time_base
    for n, rgb in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
            format=video.pix_fmt, src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
        )  # fmt: skip
        frame.pts, frame.time_base = (n if pts_s is None else round(pts_s[n] / base)), base
        out.mux(video.encode(frame))
    out.mux(video.encode(None))


def _write_sound(out: Any, audio: Any, sound: np.ndarray, rate: int, layout: str, start_s: float) -> None:
    first, block = round(start_s * rate), 1024
    sample_format = audio.codec_context.format.name if audio.codec_context.format else "fltp"
    to_codec = av.AudioResampler(format=sample_format, layout=layout, rate=rate, frame_size=None)
    for at in range(0, sound.shape[1], block):
        samples = np.ascontiguousarray(sound[:, at : at + block], dtype=np.float32)
        packed = samples.T.reshape(1, -1)  # planes of eight channels are one too many for PyAV
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first + at, Fraction(1, rate)
        for converted in to_codec.resample(frame):
            out.mux(audio.encode(converted))
    out.mux(audio.encode(None))


def pictures(
    duration_s: float, fps: Fraction | float = 25, width: int = WIDTH, height: int = HEIGHT
) -> list[np.ndarray]:
    """Draw numbered pictures for a duration."""
    return [picture(n, width, height) for n in range(max(1, round(duration_s * fps)))]


# ---- files -------------------------------------------------------------------------------------------------------


def make_plain(path: Path, duration_s: float = 2.0) -> Path:
    """Write a healthy clip: 25 fps with B-frames, short groups of pictures, mono AAC."""
    options = {"bf": "3", "g": "20"}
    return write(path, pictures(duration_s), codec_options=options, sound=tone(duration_s))


def make_empty(path: Path) -> Path:
    """Write a file of zero bytes."""
    path.write_bytes(b"")
    return path


def make_text(path: Path) -> Path:
    """Write text under a video's name."""
    path.write_text("not a video\n" * 40)
    return path


def make_playlist(path: Path, target: Path) -> Path:
    """Write a playlist under a video's name that names another file on this machine."""
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n")
    return path


def make_truncated(path: Path, share: float = 0.5, faststart: bool = False) -> Path:
    """Write a clip and cut its tail; with `faststart` the index is in front and survives."""
    write(path, pictures(2.0), sound=tone(2.0), container_options={"movflags": "+faststart"} if faststart else None)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def make_corrupt(path: Path, duration_s: float = 2.0) -> Path:
    """Write a clip with noise over packets in its middle; the structure stays whole."""
    make_plain(path, duration_s)
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(7)
    for at, size in spans[len(spans) // 2 : len(spans) // 2 + 6]:
        data[at + 4 : at + size] = rng.bytes(size - 4)
    path.write_bytes(bytes(data))
    return path


def make_unknown_codec(path: Path) -> Path:
    """Write a clip whose video codec nobody knows."""
    data = make_plain(path, 0.4).read_bytes()
    path.write_bytes(data[:40] + data[40:].replace(b"avc1", b"zzzz"))  # the first avc1 is the file's brand
    return path


def make_no_video(path: Path) -> Path:
    """Write sound alone under a video's name."""
    return write(path, None, sound=tone(1.0), container_format="mp4")


def make_no_audio(path: Path, duration_s: float = 1.0) -> Path:
    """Write video alone."""
    return write(path, pictures(duration_s))


def make_silent_audio(path: Path, duration_s: float = 1.0) -> Path:
    """Write a sound stream that holds only zeros."""
    return write(path, pictures(duration_s), sound=np.zeros(round(duration_s * RATE), np.float32))


def vfr_times(n: int, seed: int = 3) -> list[float]:
    """Return n increasing times from 0 with intervals of 10 to 90 ms, on a 1/12800 s clock."""
    steps = np.random.default_rng(seed).integers(128, 1152, n - 1)
    return [0.0, *(np.cumsum(steps) / 12_800).tolist()]


def make_vfr(path: Path, n: int = 60) -> Path:
    """Write a clip of variable frame rate (times: `vfr_times`), with B-frames and sound."""
    times = vfr_times(n)
    images = [picture(i) for i in range(n)]
    return write(path, images, times, codec_options={"bf": "2", "g": "15"}, sound=tone(times[-1] + 0.04))


def make_rotated(path: Path, rotation_deg: int = 90) -> Path:
    """Write a clip whose display matrix turns it (degrees counter-clockwise, as the library's setter counts)."""
    return write(path, pictures(0.4), rotation_deg=rotation_deg)


def make_odd_size(path: Path) -> Path:
    """Write 321x241 in 4:4:4."""
    return write(path, pictures(0.4, 25, 321, 241), pix_fmt="yuv444p")


def make_hevc(path: Path) -> Path:
    """Write HEVC in 10 bits."""
    return write(path, pictures(0.6), codec="libx265", pix_fmt="yuv420p10le")


def make_anamorphic(path: Path) -> Path:
    """Write pixels of aspect 3:2."""
    return write(path, pictures(0.4), aspect=Fraction(3, 2))


def make_full_range(path: Path) -> Path:
    """Write full-range luma."""
    return write(path, pictures(0.4), full_range=True)


def make_surround(path: Path, duration_s: float = 1.0) -> Path:
    """Write 5.1 sound with the tone in the centre only."""
    channels = np.zeros((6, round(duration_s * RATE)), np.float32)
    channels[2] = tone(duration_s)
    return write(path, pictures(duration_s), sound=channels, layout="5.1")


def make_reordered(path: Path, layout: str = "6.1", listed: int = 125) -> Path:
    """Write PCM in a MOV whose header lists the channels in an order that is not FFmpeg's.

    `listed`: 125 = MPEG 6.1 A, 126 to 128 = MPEG 7.1 A to C.
    """
    write_many(path, layout, "pcm_s16le")
    data = bytearray(path.read_bytes())
    at = data.index(b"chan") + 8
    data[at : at + 4] = (listed << 16 | av.AudioLayout(layout).nb_channels).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def write_many(path: Path, layout: str, codec: str) -> Path:
    """Write a second of the same tone in every channel of a layout, the first at a tenth of full, the next at two."""
    gains = 0.1 * np.arange(1, av.AudioLayout(layout).nb_channels + 1)[:, None]
    return write(path, pictures(1.0), sound=gains * tone(1.0), layout=layout, sound_codec=codec)


def make_fps(path: Path, fps: Fraction | int, duration_s: float = 2.0) -> Path:
    """Write a constant rate such as 30 or Fraction(119, 10)."""
    return write(path, pictures(duration_s, fps), fps=fps, sound=tone(duration_s))


def make_late_start(path: Path, start_s: float = 5.0) -> Path:
    """Write an MPEG transport stream whose picture and sound begin at `start_s`, not at 0."""
    times = [start_s + n / 25 for n in range(50)]
    options = {"bf": "2", "g": "20"}
    return write(
        path, pictures(2.0), times, codec_options=options, sound=tone(2.0), sound_start_s=start_s,
        container_format="mpegts",
    )  # fmt: skip


def make_late_audio(path: Path, late_s: float = 0.7) -> Path:
    """Write sound that begins after the picture."""
    return write(path, pictures(2.0), sound=tone(1.2), sound_start_s=late_s)


def make_all(folder: Path) -> dict[str, Path]:
    """Write every readable kind into `folder`, by name; for tests that must accept whatever comes."""
    makers = {
        "plain": make_plain, "vfr": make_vfr, "rotated": make_rotated, "odd": make_odd_size, "hevc": make_hevc,
        "anamorphic": make_anamorphic, "full_range": make_full_range, "surround": make_surround,
        "silent": make_silent_audio, "no_audio": make_no_audio, "late_audio": make_late_audio,
    }  # fmt: skip
    made = {name: make(folder / f"{name}.mp4") for name, make in makers.items()}
    made["fps30"] = make_fps(folder / "fps30.mp4", 30)
    made["fps11_9"] = make_fps(folder / "fps11_9.mp4", Fraction(119, 10))
    made["late_start"] = make_late_start(folder / "late_start.ts")
    made["matroska"] = make_plain(folder / "plain.mkv")
    return made


def loop_video(source: Path, target: Path, duration_s: float) -> Path:
    """Repeat a clip's packets, unchanged, until `target` lasts `duration_s`; an hour takes a second or two."""
    with av.open(str(source)) as clip:
        inputs = [s for s in clip.streams if s.type in ("video", "audio")]
        packets = [p for p in clip.demux(inputs) if p.size and p.dts is not None and p.pts is not None]
        rows = [(p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, bytes(p), p.time_base) for p in packets]
    period = max((pts + duration) * base for _, pts, _, duration, _, _, base in rows)
    with av.open(str(source)) as clip, av.open(str(target), "w", format="mp4") as out:
        inputs = [s for s in clip.streams if s.type in ("video", "audio")]
        outputs = {s.index: out.add_stream_from_template(s) for s in inputs}
        lap, last = 0, dict[int, int]()
        while lap * period < duration_s:
            for index, pts, dts, duration, key, data, base in rows:
                shift = round(lap * period / base)
                if dts + shift <= last.get(index, dts + shift - 1):  # priming of the next lap
                    continue
                last[index] = dts + shift
                packet = av.Packet(data)
                packet.stream, packet.time_base = outputs[index], base
                packet.pts, packet.dts, packet.duration, packet.is_keyframe = pts + shift, dts + shift, duration, key
                out.mux_one(packet)
            lap += 1
    return target


def make_disordered(path: Path, back: int = 1) -> Path:
    """Write 25 pictures, the last `back` of them with times 0.4 s before their place."""
    out = av.open(str(path), "w", format="matroska")
    stream = out.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
    stream.time_base = Fraction(1, 1000)
    with out:
        for n in range(25):
            frame = av.VideoFrame.from_ndarray(picture(n), format="rgb24")
            frame.pts, frame.time_base = n * 40, Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.dts = n - 1000  # muxers want these to rise, and to lie before what is shown
                packet.pts = (n - (10 if n >= 25 - back else 0)) * 40
                out.mux(packet)
    return path


def make_resized(path: Path) -> Path:
    """Write a recording whose picture has twice the size from its second second on, as calls over a network have."""
    out = av.open(str(path), "w", format="mpegts")
    streams = [out.add_stream("libx264", rate=25)]
    streams[0].width, streams[0].height, streams[0].pix_fmt = WIDTH, HEIGHT, "yuv420p"
    with out:
        for part, scale in enumerate((1, 2)):
            coder = streams[0].codec_context if part == 0 else av.CodecContext.create("libx264", "w")
            if part:
                coder.width, coder.height, coder.pix_fmt = WIDTH * scale, HEIGHT * scale, "yuv420p"
                coder.time_base, coder.framerate = Fraction(1, 25), Fraction(25)
            coder.options = {"bf": "0", "tune": "zerolatency"}
            frames: list[Any] = [av.VideoFrame.from_ndarray(cv2.resize(
                picture(n), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST), format="rgb24",
            ) for n in range(25 * part, 25 * part + 25)]  # fmt: skip
            for n, frame in enumerate([*frames, None], 25 * part):
                if frame is not None:
                    frame.pts, frame.time_base = n, Fraction(1, 25)
                for packet in coder.encode(frame):
                    packet.stream = streams[0]
                    out.mux(packet)
    return path
