"""Spreading subscribers evenly over the workers of one port (see cli/workers.py).

The kernel deals connections by a hash of their addresses: of 200 receivers one of two workers gets more than 107 in
every third run, and the busiest worker is what limits a relay. So each worker writes how many it has into a file that
all of them map, and one that has more than its share sends newcomers back to the port: a new connection has another
hash. At least half of the workers take whoever comes, so nobody is sent back often.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

from layercast.transport.status import ELSEWHERE, ElsewhereError

SLACK = 2
"""So many subscribers more than another worker has are no reason to send anybody back..."""

SLACK_SHARE = 0.02
"""... nor is this share of what it has: evenness of a few per cent is all that is wanted, and each refusal costs the
newcomer a connection."""

GONE = 2**32 - 1
"""Stands for a worker that does not run."""

_COUNT = struct.Struct("=I")


class Shares:
    """One process's view of how many subscribers each worker has.

    Args:
        path: the file, see `create`.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    @staticmethod
    def create(path: Path, workers: int) -> None:
        """Make the file; nobody runs yet."""
        path.write_bytes(_COUNT.pack(GONE) * workers)

    def close(self) -> None:
        """Look no more."""
        self._map.close()

    def tell(self, worker: int, subscribers: int) -> None:
        """Worker `worker` (0 ...) has so many, or is GONE."""
        _COUNT.pack_into(self._map, worker * _COUNT.size, subscribers)

    def counts(self) -> list[int]:
        """What each worker told."""
        return [count for (count,) in _COUNT.iter_unpack(self._map)]


class Share:
    """One worker's part; `worker` is its number from 0 on."""

    def __init__(self, shares: Shares, worker: int) -> None:
        self._shares = shares
        self._worker = worker

    def tell(self, subscribers: int) -> None:
        """It has so many now."""
        self._shares.tell(self._worker, subscribers)

    def check(self) -> None:
        """Whether it takes another one.

        Raises:
            ElsewhereError: no.
        """
        counts = self._shares.counts()
        own = counts.pop(self._worker)
        if is_too_many(own, [count for count in counts if count != GONE]):
            raise ElsewhereError(f"{ELSEWHERE} (connect again)")


def is_too_many(own: int, others: Sequence[int]) -> bool:
    """Whether at least half of all workers have clearly fewer subscribers than `own`."""
    few = own - max(SLACK, SLACK_SHARE * own)
    return 2 * sum(count < few for count in others) >= len(others) + 1
