"""The promise: workers of one port have nearly as many subscribers each, and nobody is sent back often for it."""

from __future__ import annotations

import random
import time

import pytest

from layercast.transport.receiver import Receiver
from layercast.transport.sender import Sender
from layercast.transport.shares import GONE, Share, Shares, is_too_many
from layercast.transport.status import ELSEWHERE, ElsewhereError

from .harness import DESCRIPTION, PlainRelay, live, take, unit


def crowd(counts: list[int], newcomers: int, seed: int = 1) -> tuple[list[int], list[int]]:
    """How many each worker has after they came, and how often each newcomer tried."""
    rng = random.Random(seed)
    tries = []
    for _ in range(newcomers):
        tries.append(0)
        while True:
            tries[-1] += 1
            worker = rng.randrange(len(counts))
            if not is_too_many(counts[worker], counts[:worker] + counts[worker + 1 :]):
                counts[worker] += 1
                break
    return counts, tries


@pytest.mark.parametrize("workers", [2, 3, 4, 16, 64])
def test_random_arrivals_are_spread_evenly(workers):
    counts, tries = crowd([0] * workers, 100 * workers)
    assert max(counts) <= 105
    assert sum(tries) / len(tries) < 1.4
    assert max(tries) <= 14, "one in two to the power of that"


def test_a_worker_that_was_restarted_fills_first_when_there_are_two():
    counts, tries = crowd([200, 0], 150)
    assert counts == [200, 150]
    assert sum(tries) / len(tries) < 2.5


def test_one_empty_worker_among_many_has_nobody_sent_back():
    _, tries = crowd([100] * 7 + [0], 60)
    assert max(tries) <= 3


def test_a_worker_that_does_not_run_does_not_count(tmp_path):
    Shares.create(tmp_path / "counts", 3)
    shares = Shares(tmp_path / "counts")
    assert shares.counts() == [GONE] * 3
    first = Share(Shares(tmp_path / "counts"), 0)
    first.tell(100)
    first.check()
    shares.tell(1, 10)
    with pytest.raises(ElsewhereError):
        first.check()
    shares.tell(1, GONE)
    first.check()


class FullTwice:
    """The share of a worker that sends the first two callers back."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self._left = 2

    def tell(self, subscribers: int) -> None:
        self.told.append(subscribers)

    def check(self) -> None:
        if self._left:
            self._left -= 1
            raise ElsewhereError(ELSEWHERE)


@live
async def test_a_receiver_that_is_sent_back_connects_again_at_once():
    share = FullTwice()
    async with (
        PlainRelay(share=share) as relay,
        Sender(relay.address, "cam", description=DESCRIPTION) as sender,
    ):
        began_s = time.monotonic()
        async with Receiver(relay.address, "cam", decode=False) as receiver:
            await receiver.ready(5)
            assert time.monotonic() - began_s < 2, "no wait that grows"
            await sender.ready(5)
            await sender.send_unit(unit(0))
            await take(receiver, 1)
            assert receiver.statistics().link.attempts == 3
        assert relay.statistics().refused == {"elsewhere": 2}
    assert share.told == [0, 1, 0]
