"""Local motion: cells and blocks on pictures whose motion is known, and against slow histograms."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from captioner.clips.local_motion import (
    BINS,
    CELL,
    CELL_SIZE,
    DESCRIPTORS,
    MOST_COLUMNS,
    ROWS,
    SLOWEST,
    LocalMotionMeter,
    _histograms,
    descriptor_size,
    local_descriptors,
    mirrored_cells,
)

SIDE = ROWS * CELL


@pytest.fixture(scope="module")
def pattern() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    return cv2.GaussianBlur(noise, (9, 9), 0)


def patch_frames(pattern, count=12, speed=(4, 0), at=(20, 40), side=40):
    """A patch that moves over a resting ground."""
    frames = []
    for step in range(count):
        frame = np.ascontiguousarray(pattern[-SIDE:, -SIDE:])
        left, top = at[0] + speed[0] * step, at[1] + speed[1] * step
        frame[top : top + side, left : left + side] = pattern[:side, :side]
        frames.append(frame)
    return frames


def cells_of(frames, interval=0.1) -> np.ndarray:
    meter = LocalMotionMeter()
    return np.stack([meter.push(interval * k, frame) for k, frame in enumerate(frames)])


def test_first_frame_has_no_motion(pattern):
    first = LocalMotionMeter().push(0.0, pattern)
    assert first.shape == (ROWS, ROWS, CELL_SIZE) and first.dtype == np.float32 and not first.any()


@pytest.mark.parametrize(
    ("shape", "cells"),
    [
        ((120, 160), (15, 20)),
        ((480, 270), (27, 15)),
        ((30, 40), (15, 20)),
        ((40, 4000), (15, MOST_COLUMNS)),
        ((900, 3), (MOST_COLUMNS, 15)),
    ],
)
def test_cells_follow_the_shape_of_the_video(shape, cells):
    meter = LocalMotionMeter()
    for step in range(2):
        assert meter.push(step / 10, np.zeros((*shape, 3), np.uint8)).shape == (*cells, CELL_SIZE)
    # a frame of another shape does not end the video
    assert meter.push(0.2, np.zeros((64, 64, 3), np.uint8)).shape == (*cells, CELL_SIZE)


def test_speed_is_per_second_where_something_moves(pattern):
    cells = cells_of(patch_frames(pattern, 4))
    moving, resting = cells[3, 7:9, 6:8, 0], cells[3, :3, :, 0]
    assert moving.mean() == pytest.approx(4 / SIDE / 0.1, rel=0.25) and resting.max() < SLOWEST
    slower = cells_of(patch_frames(pattern, 4), interval=0.2)
    np.testing.assert_allclose(slower[3, ..., 0], cells[3, ..., 0] / 2, rtol=1e-4, atol=1e-6)


def test_boundaries_are_at_the_edge_of_what_moves(pattern):
    frame = cells_of(patch_frames(pattern, 4, at=(32, 40)))[3]
    strength = frame[..., DESCRIPTORS["boundaries"]].sum(axis=-1)
    # the patch covers 44..84 across and 40..80 down: its edges lie in the columns 5 and 10, its middle in 7 and 8
    edge, middle, outside = strength[6:9, [5, 10]].mean(), strength[6:9, 7:9].mean(), strength[:3].mean()
    assert edge > 3 * middle and edge > 20 * outside
    horizontal, vertical = frame[6:9, [5, 10], 1 : 1 + BINS].sum(), frame[6:9, [5, 10], 1 + BINS : 1 + 2 * BINS].sum()
    assert horizontal > 3 * vertical  # the flow to the right changes there, the one downwards does not


def test_a_camera_that_pans_evenly_is_no_motion(pattern):
    frames = [np.ascontiguousarray(pattern[40 : 40 + SIDE, 4 * k : 4 * k + SIDE]) for k in range(8)]
    assert len(local_descriptors(cells_of(frames)[1:])["contours"]) < 20
    assert len(local_descriptors(cells_of(patch_frames(pattern, 8))[1:])["contours"]) > 20


def test_histograms_against_a_slow_one():
    rng = np.random.default_rng(1)
    right, down = rng.normal(0, 1, (2, 3 * CELL, 2 * CELL)).astype(np.float32)
    slow = np.zeros((3, 2, BINS))
    for y in range(right.shape[0]):
        for x in range(right.shape[1]):
            place = np.arctan2(down[y, x], right[y, x]) / (2 * np.pi) * BINS
            slow[y // CELL, x // CELL, round(place) % BINS] += np.hypot(right[y, x], down[y, x]) / CELL**2
    np.testing.assert_allclose(_histograms(right, down), slow, atol=1e-5)


@pytest.mark.parametrize("frames", [11, 12, 19])
def test_blocks_against_a_slow_cut(frames):
    rng = np.random.default_rng(2)
    cells = rng.uniform(0, 1, (frames, 4, 5, CELL_SIZE)).astype(np.float32)
    cells[..., 0] = rng.uniform(0, 2 * SLOWEST, cells.shape[:3])
    slow = {kind: [] for kind in DESCRIPTORS}
    for third in (2, 4):  # frames of a third of a block
        for start, row, column in itertools.product(range(0, frames - 3 * third + 1, third), range(3), range(4)):
            block = cells[start : start + 3 * third, row : row + 2, column : column + 2]
            if block[..., 0].mean() <= SLOWEST:
                continue
            for kind, part in DESCRIPTORS.items():
                values = [
                    block[third * k : third * k + third, down, right, part].mean(axis=0)
                    for k in range(3) for down in (0, 1) for right in (0, 1)
                ]  # fmt: skip
                slow[kind].append(np.sqrt(np.concatenate(values) / np.sum(values)))
    found = local_descriptors(cells)
    assert 0 < len(slow["contours"]) < 12 * (frames // 2 + frames // 4 - 4)
    for kind in DESCRIPTORS:
        assert found[kind].shape == (len(slow[kind]), descriptor_size(kind))
        np.testing.assert_allclose(found[kind], slow[kind], atol=1e-5)


@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_short_windows(frames):
    cells = np.ones((frames, 4, 5, CELL_SIZE), np.float32)
    found = local_descriptors(cells)
    assert all(len(values) == (12 if frames else 0) and np.isfinite(values).all() for values in found.values())


def test_where_nothing_moves_there_is_no_block(pattern):
    found = local_descriptors(cells_of([pattern[:SIDE, :SIDE]] * 8))
    assert all(values.shape == (0, descriptor_size(kind)) for kind, values in found.items())


def test_mirrored_cells_are_those_of_the_mirrored_video(pattern):
    frames = patch_frames(pattern, 8, speed=(3, 2), at=(16, 24))
    cells = cells_of(frames)
    mirrored = cells_of([np.ascontiguousarray(frame[:, ::-1]) for frame in frames])
    np.testing.assert_array_equal(mirrored_cells(mirrored_cells(cells)), cells)
    # The flow itself is not exactly symmetric, contours are.
    contours = DESCRIPTORS["contours"]
    np.testing.assert_allclose(mirrored_cells(cells)[..., contours], mirrored[..., contours], rtol=1e-3, atol=1e-2)
    for part in (slice(1, 1 + BINS), slice(1 + BINS, 1 + 2 * BINS)):
        a, b = mirrored_cells(cells)[1:, ..., part], mirrored[1:, ..., part]
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9
        assert np.corrcoef(cells[1:, :, ::-1, part].ravel(), b.ravel())[0, 1] < 0.9
