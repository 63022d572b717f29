"""A real relay over a real, shaped link: it is used, frames stay fresh, and a step is followed.

Bounds are looser than the figures of BENCHMARKS.md (`python -m benchmarks.links`): two busy cores share the clock.
"""

from __future__ import annotations

import sys

import pytest
from tests.control.simulation import PAIR

from layercast.control.trace import replay

from .network import why_not
from .run import over_link

DOWN_S, UP_S, END_S = 5.0, 8.0, 12.0


@pytest.fixture(scope="module")
def permitted() -> None:
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    if reason := why_not():
        pytest.skip(f"no shaped links: {reason}")


def test_a_step_from_3_to_06_and_back_is_followed(permitted, tmp_path):
    run = over_link([(0.0, 3e6), (DOWN_S, 0.6e6), (UP_S, 3e6)], END_S, tmp_path)
    assert run.carried_bps(3.0, DOWN_S) >= 0.85 * 3e6, "nearly all of it is used"
    sent_bps = [run.sent_bps(DOWN_S + n / 10, DOWN_S + n / 10 + 0.3) for n in range(10)]
    assert min(sent_bps) < 0.6e6, "below the new rate within a second"
    assert 0.75 * 0.6e6 <= run.carried_bps(DOWN_S + 1.8, UP_S) <= 1.05 * 0.6e6
    delays = run.delays(DOWN_S + 1.8, UP_S)
    assert delays[len(delays) // 2] < 0.15, "the queue is drained"
    assert run.sent_bps(END_S - 1, END_S) >= 2 * run.sent_bps(UP_S - 1, UP_S), "and it comes back"
    assert len(run.arrivals) >= 0.9 * 30 * END_S, "layers go, not frames"
    with (tmp_path / "near.jsonl").open() as trace:
        told = replay(trace)
    assert told.summary.differing == 0, "the trace replays to the same decisions"
    assert told.summary.sent == len(run.arrivals) + run.late


def test_of_a_thin_link_nearly_all_is_used_and_nothing_is_late(permitted, tmp_path):
    run = over_link([(0.0, 0.5e6)], 9.0, tmp_path)
    assert run.carried_bps(3.0, 8.5) >= 0.85 * 0.5e6
    delays = run.delays(1.0)
    assert delays[int(0.95 * len(delays))] <= 0.2
    assert delays[-1] <= 0.5
    sent_bps = run.sender_bytes * 8 / 9.0
    assert sent_bps <= 0.7 * 4e6, (
        "once the link has shown its limit the sender sends a quarter of its 4 Mbit/s"
    )


def test_two_streams_whose_receivers_share_the_link_fill_it_with_what_is_worth_most(permitted, tmp_path):
    run = over_link([(0.0, 1.5e6)], 12.0, tmp_path, PAIR, shared=True)
    assert run.carried_bps(5.0, 11.0) >= 0.85 * 1.5e6
    rich, poor = ([each for each in run.between(5.0, 11.0) if each.stream == n] for n in (0, 1))
    assert min(len(rich), len(poor)) >= 0.85 * 6 * 30
    assert sum(each.size for each in rich) > 3 * sum(each.size for each in poor)
