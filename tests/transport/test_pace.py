"""The promise: reports are seldom while nothing happens, and soon when something does."""

from __future__ import annotations

from layercast.transport.pace import (
    CALM_INTERVAL_S,
    REPORT_INTERVAL_S,
    RESTLESS_S,
    WAITING_S,
    WEARY_AFTER_S,
    WEARY_INTERVAL_S,
    WEARY_S,
    ReportPace,
)

FRAME_S = 1 / 30


class Receiver:
    """Frames at 30 a second, and when they were reported."""

    def __init__(self) -> None:
        self.pace = ReportPace()
        self.now_s = 100.0
        self.reports: list[float] = []

    def run(self, frames: int, *, delay_s: float = 0.01, whole: bool = True) -> int:
        """Reports made during so many frames."""
        before = len(self.reports)
        for _ in range(frames):
            self.now_s += FRAME_S
            if self.pace.arrived(self.now_s, delay_s, whole):
                self.report()
        return len(self.reports) - before

    def report(self) -> None:
        self.reports.append(self.now_s)
        self.pace.reported(self.now_s)


def test_the_first_frame_is_reported_at_once():
    assert Receiver().run(1) == 1


def test_whole_frames_that_do_not_wait_are_reported_every_sixth_time():
    receiver = Receiver()
    receiver.run(1)
    assert receiver.run(60) == 10
    assert receiver.pace.calm(receiver.now_s)


def test_where_a_link_is_shared_every_frame_is_reported():
    receiver = Receiver()
    receiver.pace = ReportPace(seldom=False)
    assert receiver.run(200) == 200
    assert not receiver.pace.calm(receiver.now_s)


def test_who_gets_the_bitrate_that_it_asked_for_lacks_nothing():
    for budget_bps, reports in ((1e6, 10), (1.5e6, 60), (None, 60)):
        receiver = Receiver()
        for _ in range(300):  # of 0.96 Mbit/s
            receiver.now_s += FRAME_S
            if receiver.pace.arrived(receiver.now_s, 0.01, False, 4000, budget_bps):
                receiver.report()
        made = sum(at > receiver.now_s - 60 * FRAME_S for at in receiver.reports)
        assert made <= reports if budget_bps == 1e6 else made >= reports - 1


def test_frames_that_lack_layers_are_reported_one_by_one():
    receiver = Receiver()
    receiver.run(1)
    assert receiver.run(60, whole=False) == 60
    assert not receiver.pace.calm(receiver.now_s)


LATE_S = 0.011 + WAITING_S


def test_the_first_frame_that_waited_is_reported_at_once_and_after_a_second_one_the_next_densely():
    receiver = Receiver()
    receiver.run(63)
    assert receiver.run(1, delay_s=LATE_S) == 1
    assert not receiver.pace.calm(receiver.now_s), "all that came since the last report is told"
    assert receiver.run(1, delay_s=LATE_S) == 1
    assert receiver.run(int(RESTLESS_S / FRAME_S) - 1) == 29
    receiver.run(6)
    assert receiver.run(60) == 10, "calm again"


def test_single_late_frames_are_reported_and_make_nothing_dense():
    receiver = Receiver()
    receiver.run(63)
    reports = sum(receiver.run(1, delay_s=LATE_S) + receiver.run(11) for _ in range(10))
    assert 20 <= reports <= 30, "of 120 frames: each late one, and one or two between them"
    assert receiver.pace.calm(receiver.now_s)


def test_frames_that_a_pause_held_up_and_that_then_came_at_once_make_nothing_dense():
    receiver = Receiver()
    receiver.run(63)
    receiver.now_s += 5 * FRAME_S
    arrived = [
        receiver.pace.arrived(receiver.now_s, 0.01 + held * FRAME_S, True) for held in reversed(range(6))
    ]
    assert arrived[0], "news"
    receiver.report()
    assert receiver.run(60) <= 11
    assert receiver.pace.calm(receiver.now_s)


def test_a_queue_that_grows_or_stays_is_dense_from_the_second_late_frame_on():
    for grows_s in (0.0, 0.005):
        receiver = Receiver()
        receiver.run(63)
        reports = sum(receiver.run(1, delay_s=LATE_S + frame * grows_s) for frame in range(20))
        assert reports == 20


def test_a_longer_way_is_got_used_to():
    receiver = Receiver()
    receiver.run(30)
    receiver.run(1000, delay_s=0.06)
    assert receiver.run(60, delay_s=0.06) == 3, "and calm for long"


def test_when_no_frame_follows_a_report_is_due_all_the_same():
    receiver = Receiver()
    receiver.run(2, whole=False)
    assert receiver.pace.due_s(receiver.now_s) == receiver.reports[-1] + REPORT_INTERVAL_S
    receiver.run(62)
    wait_s = receiver.pace.due_s(receiver.now_s) - receiver.reports[-1]
    assert CALM_INTERVAL_S < wait_s < 2 * CALM_INTERVAL_S


def test_what_stays_very_late_is_reported_less_densely():
    receiver = Receiver()
    receiver.run(63)
    late = int(WEARY_AFTER_S / FRAME_S) - 2
    # The way does not get longer all the time: it would be got used to.
    assert receiver.run(late, delay_s=0.3) >= late - 2, "every frame at first"
    receiver.run(6, delay_s=0.3)
    assert receiver.run(90, delay_s=0.3) <= 90 * FRAME_S / WEARY_INTERVAL_S + 2
    receiver.run(150)
    assert receiver.pace.calm(receiver.now_s)
    receiver.run(1, delay_s=0.3)
    assert receiver.run(20, delay_s=0.3) == 20, "after two seconds without it, news are dense again"


def test_a_queue_that_an_allocator_leaves_is_reported_densely_for_ever():
    receiver = Receiver()
    receiver.run(63)
    assert receiver.run(300, delay_s=0.01 + 0.8 * WEARY_S, whole=False) == 300
