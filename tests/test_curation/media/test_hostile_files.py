"""Files that name other files, that lie about themselves, or that are larger than one expects."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import hostile
import numpy as np
import pytest

from curation.media.audio import read_audio
from curation.media.container import open_data
from curation.media.errors import MediaError
from curation.media.probe import probe
from curation.media.stretch import write_clip
from curation.media.video import iter_frames, read_frame_at
from curation.plan.survey import read_header
from lpm_train.storage import DataError
from lpm_train.tools.media import load_sound


class _Asked(BaseHTTPRequestHandler):
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and what was asked of it."""
    asked: list[str] = []
    http = HTTPServer(("127.0.0.1", 0), type("Handler", (_Asked,), {"paths": asked}))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/other.mp4", asked
    http.shutdown()
    http.server_close()
    thread.join()


PLAYLISTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
    "hls-key.ts": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{other}"\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n',
    "hls-master.mp4": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{other}\n",
    "dash.mp4": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{other}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{other}</BaseURL>'
    "</Period></MPD>",
    "concat.mp4": "ffconcat version 1.0\nfile '{other}'\n",
    "concat.mkv": "ffconcat version 1.0\nfile {other}\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\na=control:{other}\n",
    "smil.mp4": '<smil><body><video src="{other}"/></body></smil>',
    "ram.mov": "{other}\n",
    "entity.mp4": '<?xml version="1.0"?><!DOCTYPE MPD [<!ENTITY x SYSTEM "{other}">]><MPD>&x;</MPD>',
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_nothing_that_a_file_names_is_followed(tmp_path: Path, server: tuple[str, list[str]], name: str) -> None:
    (tmp_path / "deeper").mkdir()
    beside = hostile.make_plain(tmp_path / "other.mp4", 0.4)
    url, asked = server
    for n, other in enumerate((url, str(beside), beside.as_uri(), "other.mp4", "../other.mp4", f"concat:{beside}")):
        folder = tmp_path / ("deeper" if other.startswith("..") else ".")
        path = folder / f"{n}-{name}"
        path.write_text(PLAYLISTS[name].format(other=other))
        for read in (probe, lambda p: list(iter_frames(p)), lambda p: read_audio(p, 0, 1, 16_000)):
            with pytest.raises(MediaError) as refused:
                read(path)  # type: ignore[no-untyped-call]
            assert refused.value.code == "not_a_video"
    assert asked == []


@pytest.mark.parametrize("name", PLAYLISTS)
def test_nor_by_what_looks_at_headers_or_at_clips(tmp_path: Path, server: tuple[str, list[str]], name: str) -> None:
    beside = hostile.make_plain(tmp_path / "other.mp4", 0.4)
    url, asked = server
    for n, other in enumerate((url, str(beside), beside.as_uri(), "other.mp4")):
        path = tmp_path / f"{n}-{name}"
        path.write_text(PLAYLISTS[name].format(other=other))
        assert read_header(str(path), 10**9) is None
        with pytest.raises(DataError):
            load_sound(path)
        with pytest.raises(MediaError):
            write_clip(path.read_bytes(), None, tmp_path / "out.mp4", "mp4")
        with pytest.raises(av.error.FFmpegError), path.open("rb") as data, open_data(data):
            pass
    assert asked == []


def test_a_film_whose_data_lie_in_another_file_is_not_read_from_there(tmp_path: Path) -> None:
    """QuickTime may keep its samples in a file that it names: an alias in the data reference."""
    other = hostile.make_plain(tmp_path / "other.mov", 0.4)
    path = tmp_path / "names-other.mov"
    path.write_bytes(_with_alias(other))
    with pytest.raises(MediaError):
        read_frame_at(path, 0.0)
    aside = [{"enable_drefs": "1", "use_absolute_path": "1"}, {}]
    shown = []
    for options in aside:
        with av.open(str(path), options=options) as film:
            try:
                shown.append(len(list(film.decode(video=0))))
            except av.error.FFmpegError:
                shown.append(0)
    assert shown[0] > 0 == shown[1]  # a reader that is told to would have followed it


def _with_alias(film: Path) -> bytes:
    """Return a film without samples, whose data references name `film` as a QuickTime alias."""
    data = bytearray(film.read_bytes())
    at = data.index(b"mdat")
    size = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 : at - 4 + size] = bytes(size - 8)
    name = film.name.encode()
    whole = str(film).encode()
    alias = bytes(10) + bytes([0]) + bytes(27) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    alias += struct.pack(">hh", 1, 1) + bytes(16)
    alias += struct.pack(">hH", 2, len(whole)) + whole + bytes(len(whole) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    while (ref := data.find(b"url \0\0\0\1")) >= 0:
        more = len(entry) - 12
        data[ref - 4 : ref + 8] = entry
        for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
            start = data.rindex(box, 0, ref) - 4
            data[start : start + 4] = (int.from_bytes(data[start : start + 4], "big") + more).to_bytes(4, "big")
    return bytes(data)


def test_durations_are_measured_whatever_the_header_says(tmp_path: Path) -> None:
    film, matroska = hostile.make_plain(tmp_path / "long.mp4", 1.0), hostile.make_plain(tmp_path / "long.mkv", 1.0)
    honest = [(x.duration_s, x.audio_duration_s) for x in map(probe, (film, matroska))]
    data = bytearray(film.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
        at = -1
        while (at := data.find(box, at + 1)) >= 0:
            data[at + offset : at + offset + 4] = (2**31 - 1).to_bytes(4, "big")
    film.write_bytes(data)
    data = bytearray(matroska.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3  # Duration, eight bytes
    data[at : at + 8] = struct.pack(">d", 3.6e9)  # ms
    matroska.write_bytes(data)
    with av.open(str(matroska)) as container:
        assert container.duration == 1000 * 3600 * av.time_base  # so it says
    assert [(x.duration_s, x.audio_duration_s) for x in map(probe, (film, matroska))] == honest


def test_sizes_are_those_of_the_pictures_whatever_the_header_says(tmp_path: Path) -> None:
    path = hostile.make_plain(tmp_path / "wide.mp4", 0.4)
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) + 28
    assert struct.unpack(">HH", data[at : at + 4]) == (hostile.WIDTH, hostile.HEIGHT)
    data[at : at + 4] = struct.pack(">HH", 8000, 8000)
    path.write_bytes(data)
    info = probe(path)
    assert info.height == hostile.HEIGHT and info.width < 2 * hostile.WIDTH  # the shape of its pixels is the header's


@pytest.mark.slow  # to make them takes longer than to read them
def test_very_large_pictures_are_read_and_larger_ones_refused(tmp_path: Path) -> None:
    side = 8192
    large = hostile.write(tmp_path / "large.mp4", [np.full((side, side, 3), 90, np.uint8)], codec_options=_CHEAP)
    info = probe(large)
    assert (info.width, info.height) == (side, side)
    frame = read_frame_at(large, 0.0, max_side=256)
    assert frame.rgb().shape == (256, 256, 3)
    beyond = [np.full((side, side + 64, 3), 90, np.uint8)]
    with pytest.raises(MediaError) as refused:
        probe(hostile.write(tmp_path / "beyond.mp4", beyond, codec_options=_CHEAP))
    assert refused.value.code == "too_large"


_CHEAP = {"preset": "ultrafast", "bf": "0", "rc-lookahead": "0"}


@pytest.mark.parametrize(
    ("rate", "layout"), [(8_000, "mono"), (11_025, "stereo"), (22_050, "5.1"), (96_000, "7.1"), (192_000, "mono")]
)
def test_odd_sample_rates_are_read(tmp_path: Path, rate: int, layout: str) -> None:
    path = tmp_path / "odd.mov"
    n = _write_pcm(path, rate, layout)
    info = probe(path)
    assert (info.audio_rate_hz, info.audio_channels) == (rate, n)
    assert info.audio_duration_s == pytest.approx(1.0, abs=0.01)
    heard = read_audio(path, 0, 1, 16_000)
    assert heard is not None and heard.shape == (16_000,)
    spectrum = np.abs(np.fft.rfft(heard[1600:14_400] * np.hanning(12_800)))
    assert np.argmax(spectrum) * 16_000 / 12_800 == pytest.approx(440, abs=2)


def _write_pcm(path: Path, rate: int, layout: str) -> int:
    """Write a second of pictures with a tone of 440 Hz in every channel as 16-bit PCM; return how many channels."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = hostile.WIDTH, hostile.HEIGHT, "yuv420p"
        audio = out.add_stream("pcm_s16le", rate=rate, layout=layout)
        for image in hostile.pictures(1.0):
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode(None))
        n = audio.codec_context.layout.nb_channels
        tone = np.repeat((hostile.tone(1.0, rate) * 32_767).astype(np.int16), n)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout=layout)
        frame.rate, frame.pts = rate, 0
        out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return int(n)
