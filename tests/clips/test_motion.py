"""Motion vectors and the region where something moves, on pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from captioner.clips.frames import Box, View, measure_region, moving_region
from captioner.clips.motion import BINS, GREY_SIZE, MOTION_SIZE, TOP, MotionMeter, mirrored

SIDE = 224


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    return cv2.GaussianBlur(noise, (15, 15), 0)


def moving_patch(texture, step: int, *, speed=(6, 0), at=(40, 120), side=70) -> np.ndarray:
    """A textured patch that moves over another texture, which rests."""
    frame = np.ascontiguousarray(texture[-SIDE:, -SIDE:])
    left, top = at[0] + speed[0] * step, at[1] + speed[1] * step
    frame[top : top + side, left : left + side] = texture[:side, :side]
    return frame


def vector(frames, interval=0.1) -> np.ndarray:
    meter = MotionMeter()
    return [meter.push(interval * k, frame) for k, frame in enumerate(frames)][-1]


def directions(motion) -> np.ndarray:
    return motion[MOTION_SIZE - 1 - BINS : MOTION_SIZE - 1]


def test_first_frame_has_no_motion(texture):
    first = MotionMeter().push(0.0, texture)
    assert first.shape == (MOTION_SIZE,) and first.dtype == np.float32 and not first.any()


def test_still_picture_has_no_motion(texture):
    assert np.abs(vector([texture] * 3)).max() < 0.05


@pytest.mark.parametrize(("speed", "bin"), [((6, 0), 0), ((0, 6), 2), ((-6, 0), 4), ((0, -6), 6)])
def test_direction(texture, speed, bin):
    motion = vector([moving_patch(texture, k, speed=speed, at=(80, 80)) for k in range(3)])
    assert directions(motion).argmax() == bin
    assert directions(motion)[bin] > 0.5


def test_speed_is_per_second_and_relative_to_the_frame(texture):
    frames = [moving_patch(texture, k, at=(40, 60), side=110) for k in range(3)]
    motion = vector(frames)
    # 6 of 224 pixels in a tenth of a second; the fastest cell lies wholly in the patch.
    assert np.expm1(motion[0]) * 0.02 == pytest.approx(6 / SIDE / 0.1, rel=0.35)
    slower = vector(frames, interval=0.2)
    assert np.expm1(slower[0]) == pytest.approx(np.expm1(motion[0]) / 2, rel=0.05)
    larger = vector([cv2.resize(frame, None, fx=2, fy=2) for frame in frames])
    assert larger[0] == pytest.approx(motion[0], abs=0.15)


def test_camera_motion_is_taken_out(texture):
    frames = [np.ascontiguousarray(texture[:SIDE, 4 * k : 4 * k + SIDE]) for k in range(3)]
    motion = vector(frames)
    assert np.expm1(motion[-1]) * 0.02 == pytest.approx(4 / SIDE / 0.1, rel=0.2)
    middle = motion[TOP]  # mean over the cells
    assert np.expm1(middle) < 0.35 * np.expm1(motion[-1])


def test_where_it_moves_does_not_matter(texture):
    here = vector([moving_patch(texture, k, at=(16, 32), side=64) for k in range(3)])
    there = vector([moving_patch(texture, k, at=(112, 128), side=64) for k in range(3)])
    assert np.abs(here - there).mean() < 0.2


def test_mirrored_is_the_motion_of_the_mirrored_video(texture):
    frames = [moving_patch(texture, k, speed=(5, 4), at=(60, 60)) for k in range(3)]
    flipped = vector([np.ascontiguousarray(frame[:, ::-1]) for frame in frames])
    motion = vector(frames)
    np.testing.assert_allclose(mirrored(motion), flipped, atol=0.25)
    assert directions(motion).argmax() != directions(flipped).argmax()
    np.testing.assert_array_equal(mirrored(mirrored(motion)), motion)


def unrest_map(box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    speed = np.zeros((GREY_SIZE, GREY_SIZE), np.float32)
    speed[top:bottom, left:right] = 1.0
    return speed


def test_region_holds_what_moves():
    # The map is squashed: at 320 x 240 a pixel of it is 2.86 wide and 2.14 high.
    region = moving_region([unrest_map((84, 28, 98, 56))] * 3, 320, 240)
    left, right, top, bottom = 84 * 320 / 112, 98 * 320 / 112, 28 * 240 / 112, 56 * 240 / 112
    width = min(right, region.left + region.side) - max(left, region.left)
    height = min(bottom, region.top + region.side) - max(top, region.top)
    assert width * height >= 0.55 * (right - left) * (bottom - top)
    assert region.side == pytest.approx(0.4 * 240, abs=6)
    assert 0 <= region.left <= 320 - region.side and 0 <= region.top <= 240 - region.side


@pytest.mark.parametrize(("width", "height"), [(320, 240), (240, 320)])
@pytest.mark.parametrize("unrest", [[], [np.zeros((GREY_SIZE, GREY_SIZE), np.float32)]])
def test_region_of_a_still_video_is_the_centre(unrest, width, height):
    region = moving_region(unrest, width, height)
    assert region == Box((width - 240) // 2, (height - 240) // 2, 240)


def test_views_stay_in_the_frame():
    box = Box(300, 0, 100)
    for view in (View(zoom=1.5, shift=(0.5, -0.5)), View(zoom=9.0), View(zoom=0.01)):
        moved = view.apply(box, 426, 240)
        assert 0 <= moved.left <= 426 - moved.side and 0 <= moved.top <= 240 - moved.side and moved.side >= 8


def test_measured_is_the_region(texture):
    frames = [np.full((240, 426, 3), 60, np.uint8) for _ in range(4)]
    for step, frame in enumerate(frames):
        frame[...] = texture[-240:, :1]
        frame[100:180, 300 + 5 * step : 380 + 5 * step] = texture[:80, :80] // 2 + (120, 0, 0)
    meter = MotionMeter()
    unrest = []
    for step, frame in enumerate(frames):
        meter.push(0.1 * step, frame)
        unrest.append(meter.unrest)
    seen = []

    def encode(images):
        seen.append(images)
        return np.zeros((len(images), 4, 3)), images.mean(axis=(1, 2))

    times = [0.0, 0.1, 0.2, 0.3]
    for flip in (False, True):
        inputs = measure_region(
            times, frames, unrest[1:], encode, image_size=64, streams=("appearance", "motion"), view=View(flip=flip)
        )
        assert inputs["appearance"].shape == (4, 3) and inputs["motion"].shape == (4, MOTION_SIZE)
    plain, flipped = seen
    assert plain.shape == (4, 64, 64, 3) and plain.dtype == np.uint8
    np.testing.assert_array_equal(flipped, plain[:, :, ::-1])
    # The patch, a sixteenth of the frame, fills much of the region.
    assert (plain[..., 0] > plain[..., 1].astype(int) + 40).mean() > 0.2


def test_straight_motion_is_no_unrest(texture):
    """After its first flow, a patch that goes straight on leaves less unrest than one that shakes."""
    unrest = {}
    for name, steps in (("straight", (0, 1, 2, 3, 4)), ("shaking", (0, 1, 0, 1, 0))):
        meter = MotionMeter()
        maps = []
        for k, step in enumerate(steps):
            meter.push(0.1 * k, moving_patch(texture, step, at=(60, 60)))
            maps.append(meter.unrest)
        assert maps[0] is None
        unrest[name] = np.mean(maps[2:])
    assert unrest["straight"] < 0.6 * unrest["shaking"]
