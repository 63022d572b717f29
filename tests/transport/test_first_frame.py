"""A late joiner gets the newest key frame and the deltas since, within bounds."""

from __future__ import annotations

from layercast.transport.first_frame import MAX_FRAMES, FirstFrameCache
from layercast.transport.shared import SharedFrame

from .harness import unit


def frame(frame_id: int, reference: int | None = None) -> SharedFrame:
    return SharedFrame(unit(frame_id, reference=reference, timestamp_us=0))


def ids(cache: FirstFrameCache, now_s: float = 0.0) -> list[int]:
    return [held.header.frame_id for held in cache.frames(now_s)]


def test_it_holds_the_newest_key_frame_and_the_deltas_since():
    cache = FirstFrameCache(1 << 20, 10.0)
    for held in (frame(0), frame(1, 0), frame(2), frame(3, 2), frame(4, 3)):
        cache.add(held, 0.0)
    assert ids(cache) == [2, 3, 4]


def test_deltas_before_any_key_frame_are_of_no_use():
    cache = FirstFrameCache(1 << 20, 10.0)
    cache.add(frame(5, 4), 0.0)
    assert ids(cache) == []


def test_past_the_byte_bound_only_the_key_frame_stays():
    cache = FirstFrameCache(25_000, 10.0)
    cache.add(frame(0), 0.0)
    cache.add(frame(1, 0), 0.0)
    assert ids(cache) == [0, 1]
    cache.add(frame(2, 1), 0.0)
    cache.add(frame(3, 2), 0.0)
    assert ids(cache) == [0], "a delta without the one before it would not decode"
    assert cache.size_bytes == len(frame(0).unit)


def test_the_number_of_frames_is_bounded():
    cache = FirstFrameCache(1 << 30, 10.0)
    cache.add(frame(0), 0.0)
    for number in range(1, MAX_FRAMES):
        cache.add(frame(number, number - 1), 0.0)
    assert len(ids(cache)) == MAX_FRAMES
    cache.add(frame(MAX_FRAMES, MAX_FRAMES - 1), 0.0)
    assert ids(cache) == [0]


def test_a_stream_that_fell_silent_gives_no_old_picture():
    cache = FirstFrameCache(1 << 20, 10.0)
    cache.add(frame(0), 100.0)
    assert ids(cache, 110.0) == [0]
    assert ids(cache, 110.1) == []


def test_all_who_ask_for_a_prefix_share_one_buffer():
    held = frame(0)
    assert held.prefix(3) is held.prefix(3)
    assert held.prefix(held.kept) is held.unit
    assert len(held.prefix(3)) == held.ends[3]
