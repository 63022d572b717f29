"""The promise, in short: a fault is felt by nobody off its path, and by nobody for long. The long version is
`python -m benchmarks.faults`."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.faults import RECOVERY_S, soak

EVENTS, SEED = 6, 3
"""Few enough for ten seconds; of this seed's: two restarts, a kill, and three cables pulled, one of them between the
relays."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")


def test_faults_stay_where_they_are_and_are_recovered_from():
    summary, rows = soak(EVENTS, SEED, longest_s=0.6, settle_s=0.4, rest_s=1.5)
    assert {row["action"] for row in rows} >= {"kill", "restart", "cut"}
    assert float(str(summary["recovered_worst_s"])) <= RECOVERY_S, rows
    assert summary["events_with_frames_missed_outside"] == 0, rows
