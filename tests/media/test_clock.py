"""Which frames are due: against the times written out, at rates that do not divide the interval."""

from __future__ import annotations

import pytest

from captioner.media.clock import FrameClock


def taken(clock, times):
    found = []
    for time in times:
        due = clock.due(time)
        assert clock.take(time) == due
        if due:
            found.append(time)
    return found


def first_at_or_after(times, interval, start):
    """For each multiple of the interval the first time at or after it, each time once."""
    multiples = [start + k * interval for k in range(1000)]
    firsts = (next((t for t in times if t >= m - 1e-3), None) for m in multiples)
    return sorted({t for t in firsts if t is not None})


@pytest.mark.parametrize("fps", [3.0, 24000 / 1001, 25.0, 29.97])
@pytest.mark.parametrize(("interval", "start"), [(0.25, 0.0), (0.08, 0.0), (1.0, 0.7)])
def test_first_frame_at_or_after_each_multiple(fps, interval, start):
    times = [k / fps for k in range(200)]
    assert taken(FrameClock(interval, start), times) == first_at_or_after(times, interval, start)


def test_times_in_milliseconds_count_as_the_multiple_just_after_them():
    assert taken(FrameClock(1 / 3), [0.0, 0.333, 0.667, 1.0]) == [0.0, 0.333, 0.667, 1.0]


def test_without_an_interval_every_frame_from_the_start():
    assert taken(FrameClock(None, 1.0), [0.0, 0.5, 1.0, 1.1, 1.2]) == [1.0, 1.1, 1.2]


def test_a_frame_that_is_not_taken_leaves_the_next_one_due():
    clock = FrameClock(1.0)
    assert clock.due(0.0) and clock.due(0.04)
    clock.take(0.04)
    assert not clock.due(0.9) and clock.due(1.0)
