"""The queue towards one peer: layers go first, then whole frames, and no delta without its reference."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.bitstream.types import FrameKind
from layercast.control.budget import FixedBudgetAllocator
from layercast.transport.limits import Window
from layercast.transport.outbox import Outbox, layers_after_waiting
from layercast.transport.shared import SharedFrame

from .harness import LAYERS, unit


class Fixed(FixedBudgetAllocator):
    """Keeps the same number of layers of every frame; `keeps` may hold exceptions, in order."""

    def __init__(self, keep: int = LAYERS, keeps: Sequence[int] = ()) -> None:
        super().__init__(None, None)
        self.keep = keep
        self.keeps = list(keeps)

    def decide(
        self,
        now_s: float,
        ends: Sequence[int],
        kind: FrameKind,
        gains_db: Sequence[float],
        age_s: float = 0.0,
    ) -> int:
        return min(len(ends) - 1, self.keeps.pop(0) if self.keeps else self.keep)


def frame(frame_id: int, reference: int | None = None) -> SharedFrame:
    return SharedFrame(unit(frame_id, reference=reference, timestamp_us=0))


def drain(outbox: Outbox, now_s: float) -> list[tuple[int, int]]:
    sent = []
    while (chosen := outbox.next(now_s)) is not None:
        sent.append((chosen[0].header.frame_id, chosen[1]))
    return sent


def test_frames_go_out_in_order_with_the_layers_that_the_allocator_grants():
    outbox = Outbox(Fixed(keeps=[10, 4, 7]), Window())
    for number in range(3):
        outbox.push(frame(number), 0.0)
    assert drain(outbox, 0.0) == [(0, 10), (1, 4), (2, 7)]


def test_a_frame_over_budget_is_skipped_and_counted():
    outbox = Outbox(Fixed(keeps=[0, 5]), Window())
    outbox.push(frame(0), 0.0)
    outbox.push(frame(1), 0.0)
    assert drain(outbox, 0.0) == [(1, 5)]
    assert outbox.statistics().over_budget == 1


@pytest.mark.parametrize(
    "window", [Window(max_frames=3), Window(max_bytes=25_000)], ids=["bounded in frames", "bounded in bytes"]
)
def test_no_more_goes_out_than_the_window_holds_until_the_peer_acknowledges(window: Window):
    outbox = Outbox(Fixed(), window)
    for number in range(6):
        outbox.push(frame(number), 0.0)
    assert drain(outbox, 0.0) == [(0, 10), (1, 10), (2, 10)]
    outbox.acknowledge(1, 0.1)
    assert drain(outbox, 0.1) == [(3, 10), (4, 10)]


def test_a_single_frame_larger_than_the_window_still_goes_out():
    outbox = Outbox(Fixed(), Window(max_bytes=1))
    outbox.push(frame(0), 0.0)
    assert drain(outbox, 0.0) == [(0, 10)]


def test_a_peer_that_does_not_acknowledge_in_time_gets_nothing_more():
    outbox = Outbox(Fixed(), Window(max_age_s=0.5))
    outbox.push(frame(0), 0.0)
    assert drain(outbox, 0.0) == [(0, 10)]
    outbox.push(frame(1), 0.4)
    assert drain(outbox, 0.4) == [(1, 10)]
    outbox.push(frame(2), 0.6)
    assert drain(outbox, 0.6) == []
    outbox.acknowledge(0, 0.7)
    assert drain(outbox, 0.7) == [(2, 10)]


def test_frames_that_waited_lose_layers_first_and_then_go():
    window = Window(max_frames=1, full_layers_s=0.2, halving_s=0.1, max_wait_s=0.6)
    outbox = Outbox(Fixed(), window)
    outbox.push(frame(0), 0.0)
    drain(outbox, 0.0)
    for number, pushed_s in ((1, 0.3), (2, 0.75), (3, 0.95)):
        outbox.push(frame(number), pushed_s)
    outbox.acknowledge(0, 1.0)
    assert drain(outbox, 1.0) == [(2, 5)], "frame 1 waited 0.7 s and is gone, frame 2 waited 0.25 s"
    assert outbox.statistics().stale == 1
    outbox.acknowledge(2, 1.0)
    assert drain(outbox, 1.0) == [(3, 10)]


def test_waiting_halves_the_layers_down_to_one():
    window = Window(full_layers_s=0.2, halving_s=0.1)
    kept = [
        layers_after_waiting(12, waited_s, window) for waited_s in (0.0, 0.2, 0.25, 0.35, 0.45, 0.55, 5.0)
    ]
    assert kept == [12, 12, 6, 3, 1, 1, 1]


def test_the_queue_is_bounded_and_the_oldest_frames_go():
    outbox = Outbox(Fixed(), Window(max_frames=1, max_waiting=4))
    for number in range(10):
        outbox.push(frame(number), 0.0)
    assert outbox.statistics().waiting == 4
    assert drain(outbox, 0.0) == [(6, 10)]


def test_a_delta_keeps_no_more_layers_than_its_reference():
    outbox = Outbox(Fixed(keeps=[4, 10, 2, 10]), Window())
    outbox.push(frame(0), 0.0)
    for number in (1, 2, 3):
        outbox.push(frame(number, reference=number - 1), 0.0)
    assert drain(outbox, 0.0) == [(0, 4), (1, 4), (2, 2), (3, 2)]


def test_after_a_skipped_frame_everything_is_skipped_until_the_next_key_frame():
    outbox = Outbox(Fixed(keeps=[10, 0]), Window())
    outbox.push(frame(0), 0.0)
    for number in (1, 2, 3):
        outbox.push(frame(number, reference=number - 1), 0.0)
    outbox.push(frame(4), 0.0)
    outbox.push(frame(5, reference=4), 0.0)
    assert drain(outbox, 0.0) == [(0, 10), (4, 10), (5, 10)]
    assert outbox.statistics().unreferenced == 2


def test_a_delta_of_a_frame_that_this_peer_never_got_is_skipped():
    outbox = Outbox(Fixed(), Window())
    outbox.push(frame(7, reference=6), 0.0)
    assert drain(outbox, 0.0) == []


def test_acknowledgements_are_cumulative_and_made_up_ones_change_nothing():
    outbox = Outbox(Fixed(), Window())
    for number in range(4):
        outbox.push(frame(number), 0.0)
    drain(outbox, 0.0)
    assert outbox.acknowledge(99, 0.1) is None
    assert outbox.statistics().in_flight_frames == 4
    assert outbox.acknowledge(2, 0.25) == pytest.approx(0.25)
    assert outbox.acknowledge(2, 0.3) is None, "a repeated acknowledgement"
    assert outbox.statistics().in_flight_frames == 1
    assert outbox.statistics().in_flight_bytes == len(frame(3).unit)


def test_silence_is_counted_from_the_last_acknowledgement_while_one_is_owed():
    outbox = Outbox(Fixed(), Window())
    assert outbox.silent_s(5.0) == 0.0
    for number in range(2):
        outbox.push(frame(number), 5.0)
    drain(outbox, 5.0)
    assert outbox.silent_s(8.0) == 3.0
    outbox.acknowledge(0, 9.0)
    assert outbox.silent_s(10.0) == 1.0
    outbox.acknowledge(1, 10.0)
    assert outbox.silent_s(60.0) == 0.0
    assert outbox.idle


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["key", "delta", "old delta", "send", "acknowledge"]),
            st.integers(0, LAYERS),
            st.floats(0.0, 0.4),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_window_holds_and_no_layer_lacks_its_reference(
    steps: list[tuple[str, int, float]],
):
    window = Window(max_frames=5, max_bytes=30_000, max_waiting=6)
    allocator = Fixed()
    outbox = Outbox(allocator, window)
    now_s, next_id = 0.0, 0
    references: dict[int, int | None] = {}
    got: dict[int, int] = {}
    for action, keep, passed_s in steps:
        now_s += passed_s
        if action == "send":
            allocator.keep = keep
            for frame_id, layers in drain(outbox, now_s):
                reference = references[frame_id]
                assert reference is None or layers <= got.get(reference, 0)
                got[frame_id] = layers
        elif action == "acknowledge":
            outbox.acknowledge(max(got, default=0), now_s)
        else:
            back = {"key": None, "delta": 1, "old delta": 3}[action]
            references[next_id] = None if back is None else max(0, next_id - back)
            if references[next_id] == next_id:
                references[next_id] = None
            outbox.push(frame(next_id, references[next_id]), now_s)
            next_id += 1
        now = outbox.statistics()
        assert now.waiting <= window.max_waiting
        assert now.in_flight_frames <= window.max_frames
        assert now.in_flight_bytes < window.max_bytes + len(frame(0).unit)
    now = outbox.statistics()
    assert now.offered == now.sent + now.stale + now.over_budget + now.unreferenced + now.waiting
