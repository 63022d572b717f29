"""What acknowledgements say of a link, on clocks that do not agree."""

from __future__ import annotations

import pytest

from layercast.control.estimator import LinkEstimator


def feed(estimator, frames, *, rate_bps=8e6, delay_s=0.02, offset_s=-77.0, service_bps=1e6):
    """Send (time, size) through an ideal link, acknowledge each frame at its arrival; return the waits."""
    free_s, waits, events = 0.0, [], []
    for number, (sent_s, size) in enumerate(frames):
        waits.append(max(0.0, free_s - sent_s))
        free_s = max(free_s, sent_s) + size * 8 / service_bps
        events.append((sent_s, 0, number, size, 0.0))
        events.append((free_s + 2 * delay_s, 1, number, size, free_s + delay_s + offset_s))
    for now_s, is_ack, number, size, arrival_s in sorted(events):
        if is_ack:
            assert estimator.on_ack(now_s, number, arrival_s, rate_bps)
        else:
            estimator.on_sent(now_s, number, size)
    return waits


def test_waiting_is_measured_without_knowing_the_other_clock():
    estimator = LinkEstimator()
    frames = [(n / 30, 100) for n in range(10)] + [(1 + n / 30, 6000) for n in range(10)] + [(1.34, 100)]
    waits = feed(estimator, frames)
    recorded = [entry.wait_s for entry in estimator._history]
    assert recorded[-4:-1] == pytest.approx(waits[-3:], abs=0.002)
    assert estimator.standing_s == pytest.approx(0, abs=0.2)
    assert estimator.slope > 0.2  # 48 ms of work every 33 ms


def test_capacity_is_what_a_busy_link_delivers_and_unknown_for_an_idle_one():
    estimator = LinkEstimator()
    feed(estimator, [(n / 30, 1000) for n in range(10)], service_bps=8e6)
    assert estimator.capacity_bps(0.4) is None
    estimator = LinkEstimator()
    feed(estimator, [(n / 30, 6000) for n in range(20)], service_bps=1e6)
    assert estimator.capacity_bps(0.4) == pytest.approx(1e6, rel=0.01)


def test_a_long_silence_is_an_outage_not_a_capacity():
    estimator = LinkEstimator()
    for number in range(4):
        estimator.on_sent(number / 30, number, 5000)
    estimator.on_ack(0.1, 0, 0.1, 1e6)
    estimator.on_ack(5.0, 1, 5.0, 1e6)
    assert estimator.capacity_bps(1.0) is None


def test_backlog_counts_what_is_on_its_way_and_what_is_overdue():
    estimator = LinkEstimator()
    feed(estimator, [(n / 30, 1000) for n in range(10)], service_bps=8e6)
    assert estimator.backlog_s(1.0, 1e6) == 0.0
    estimator.on_sent(1.0, 10, 12_500)
    assert estimator.backlog_s(1.0, 1e6) == pytest.approx(0.1)
    assert estimator.backlog_s(1.05, 1e6) == pytest.approx(0.05)
    assert estimator.late_s(1.12, 1e6) == 0.0
    assert estimator.late_s(1.5, 1e6) == pytest.approx(1.5 - 1.0 - 0.1 - 0.041, abs=0.002)
    assert estimator.backlog_s(1.5, 1e6) > 0.3


def test_cumulative_acknowledgements_count_the_bytes_of_the_frames_before():
    estimator = LinkEstimator()
    estimator.on_sent(-1.0, 99, 100)
    estimator.on_ack(-0.9, 99, -0.98, 1e6)
    for number in range(6):
        estimator.on_sent(number / 100, number, 5000)
    estimator.on_ack(0.1, 0, 0.06, 1e6)
    assert estimator.on_ack(0.3, 5, 0.26, 1e6)
    assert estimator.in_flight == 0
    assert estimator.capacity_bps(0.4) == pytest.approx(5 * 5000 * 8 / 0.2)


def test_streams_that_share_a_link_are_acknowledged_apart():
    estimator = LinkEstimator()
    for number in range(3):
        estimator.on_sent(number / 100, number, 500, "left")
        estimator.on_sent(number / 100, number, 500, "right")
    assert estimator.on_ack(0.1, 1, 0.06, 1e6, "right")
    assert estimator.in_flight == 4, "two of the left one's came earlier, and are not spoken for"
    assert estimator.on_ack(0.11, 2, 0.07, 1e6, "left")
    assert estimator.in_flight == 1
    estimator.forget("right")
    assert estimator.in_flight == 0


def test_an_arrival_older_than_the_last_one_says_nothing():
    estimator = LinkEstimator()
    for number in range(3):
        estimator.on_sent(number / 100, number, 500)
    assert estimator.on_ack(0.1, 1, 0.06, 1e6)
    assert not estimator.on_ack(0.1, 0, 0.05, 1e6)
    assert not estimator.on_ack(0.1, 0, 0.07, 1e6)
    assert estimator.in_flight == 1


def test_a_rebase_believes_the_delay_seen_since_it_began():
    estimator = LinkEstimator()
    feed(estimator, [(n / 30, 100) for n in range(10)], service_bps=8e6)
    before = estimator._base.value
    estimator.begin_rebase()
    estimator.on_sent(1.0, 50, 100)
    estimator.on_ack(1.2, 50, 1.0 + before + 0.08, 8e6)
    estimator.end_rebase(1.2)
    assert estimator._base.value == pytest.approx(before + 0.08, abs=0.001)


def test_an_overdue_acknowledgement_bounds_what_the_link_can_carry():
    estimator = LinkEstimator()
    feed(estimator, [(n / 30, 1000) for n in range(10)], service_bps=8e6)  # 20 ms each way
    estimator.on_sent(1.0, 10, 12_500)
    assert estimator.slowed_bps(1.04) > 1e8, "it cannot be back yet"
    assert estimator.slowed_bps(1.29) == pytest.approx(0.4e6, rel=0.02), (
        "a quarter of a second for 100,000 bits"
    )


def test_acknowledgements_that_get_lost_make_nothing_overdue():
    estimator = LinkEstimator()
    now_s = 0.0
    for number in range(0, 60, 3):  # two of three are lost; the third speaks for them 67 ms later
        for lost in range(3):
            estimator.on_sent(number / 30 + lost / 30, number + lost, 1000)
        now_s = number / 30 + 2 / 30 + 0.041
        estimator.on_ack(now_s, number + 2, now_s - 0.02, 8e6)
    estimator.on_sent(now_s, 60, 1000)
    assert estimator.late_s(now_s + 0.1, 8e6) == 0.0
    assert estimator.late_s(now_s + 0.2, 8e6) > 0.05
