"""How the relay follows real, shaped links: a table, and JSON into benchmarks/results/links/.

    python -m benchmarks.links [--quick]

Sender, relay and receiver are processes; the link is a veth pair between two network namespaces, shaped by `tc tbf`,
with 20 ms of travelling each way in a proxy (tests/links). Needs the right to make namespaces (root). Delays are from
the capture of a frame to its arrival, less the 20 ms, so a frame's own sending counts, and so do the processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from tests.links.network import why_not
from tests.links.run import Outcome, over_link

from layercast.control.adaptive import STALENESS_S

RESULTS = Path(__file__).parents[1] / "results" / "links"
WARM_UP_S = 5.0
"""Left out of what is used of a fixed link, seconds: the rate begins low and finds the link."""

EMPTY_S = 0.06
"""A frame that waited for nothing takes at most so long: one frame interval to be sent, and slack, seconds."""


def delay_columns(run: Outcome, frames: int) -> dict[str, float]:
    delays = run.delays()
    return {
        "p50_ms": round(delays[len(delays) // 2] * 1e3, 1),
        "p95_ms": round(delays[int(0.95 * (len(delays) - 1))] * 1e3, 1),
        "p99_ms": round(delays[int(0.99 * (len(delays) - 1))] * 1e3, 1),
        "worst_ms": round(delays[-1] * 1e3, 1),
        "past_staleness": sum(delay > STALENESS_S for delay in delays),
        "arrived": round(len(delays) / frames, 4),
    }


def fixed(bps: float, spread: float, seconds: float, folder: Path) -> dict[str, object]:
    run = over_link([(0.0, bps)], seconds, folder, spread)
    end_s = seconds - 1
    return {
        "link": f"{bps / 1e6:g} Mbit/s",
        "frame_spread": spread,
        "seconds": seconds,
        "used": round(run.carried_bps(WARM_UP_S, end_s) / bps, 4),
        "used_without_headers": round(run.delivered_bps(WARM_UP_S, end_s) / bps, 4),
        **delay_columns(run, round(seconds * 30)),
        "turns_per_minute": round(run.turns(WARM_UP_S, end_s) * 60 / (end_s - WARM_UP_S), 1),
    }


def step(seconds: float, folder: Path) -> dict[str, object]:
    """3 -> 0.6 -> 3 Mbit/s, each for `seconds`. Rates are of access units, the link's counts headers too."""
    run = over_link([(0.0, 3e6), (seconds, 0.6e6), (2 * seconds, 3e6)], 3 * seconds, folder)
    down_s, up_s = run.rate_changes_s
    last = [n / 100 for n in range(int(down_s * 100), int(down_s * 100) + 500)]
    below_s = next(at for at in last if run.sent_bps(at, at + 0.2) < 0.6e6)
    late = [each for each in run.arrivals if each.offered_s > down_s + 0.3 and each.delay_s < EMPTY_S]
    back = [n / 100 for n in range(int(up_s * 100), int((3 * seconds - 0.5) * 100))]
    most_bps = run.delivered_bps(seconds / 2, down_s)
    back_s = next((at + 0.5 for at in back if run.sent_bps(at, at + 0.5) >= 0.9 * most_bps), None)
    return {
        "link": "3 -> 0.6 -> 3 Mbit/s",
        "seconds": 3 * seconds,
        "below_the_new_rate_ms": round((below_s - down_s) * 1e3),
        "drained_ms": round((late[0].arrival_s - down_s) * 1e3),
        "back_at_90_percent_ms": round((back_s - up_s) * 1e3) if back_s else None,
        **delay_columns(run, round(3 * seconds * 30)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one minute in all; writes no file")
    args = parser.parse_args()
    if reason := why_not():
        print(f"no shaped links: {reason}", file=sys.stderr)
        return 1
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for bps in (0.3e6, 1e6, 3e6):
            for spread in (0.2,) if args.quick else (0.05, 0.2):
                rows.append(fixed(bps, spread, 12 if args.quick else 40, Path(folder)))
                print(json.dumps(rows[-1]), flush=True)
        for _ in range(1 if args.quick else 3):
            rows.append(step(8 if args.quick else 12, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    if not args.quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
        (RESULTS / "links.json").write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    print_table(rows)
    return 0


def print_table(rows: list[dict[str, object]]) -> None:
    columns = [("link", "link"), ("frame_spread", "sizes wander"), ("used", "used"), ("p95_ms", "p95 ms")]
    columns += [("worst_ms", "worst ms"), ("arrived", "frames"), ("turns_per_minute", "turns/min")]
    columns += [("below_the_new_rate_ms", "below ms"), ("drained_ms", "drained ms")]
    columns += [("back_at_90_percent_ms", "back ms")]
    print("\n| " + " | ".join(title for _, title in columns) + " |\n|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "")) for name, _ in columns) + " |")


if __name__ == "__main__":
    sys.exit(main())
