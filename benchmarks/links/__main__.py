"""How the relay follows real, shaped links: a table, and JSON into benchmarks/results/links/.

    python -m benchmarks.links [--quick] [fixed] [step] [shared] [cellular]

Sender, relay and receiver are processes; the link is a veth pair between two network namespaces, shaped by `tc tbf`,
with 20 ms of travelling each way in a proxy (tests/links). Needs the right to make namespaces (root). Delays are from
the capture of a frame to its arrival, less the 20 ms, so a frame's own sending counts, and so do the processes.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.control.simulation import CLIPS, PAIR, Link, Source, Trace, oracle, pair
from tests.links.network import why_not
from tests.links.run import Outcome, over_link

from benchmarks import results
from layercast.control.adaptive import STALENESS_S

CELLULAR = Path(__file__).parents[2] / "tests" / "control" / "data" / "cellular.csv"
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
        "past_staleness": sum(delay - delays[0] > STALENESS_S for delay in delays),
        "dropped_as_late": run.late,
        "arrived": round(len(delays) / frames, 4),
    }


def fixed(bps: float, sizes: float | str, seconds: float, folder: Path) -> dict[str, object]:
    run = over_link([(0.0, bps)], seconds, folder, sizes)
    end_s = seconds - 1
    return {
        "link": f"{bps / 1e6:g} Mbit/s",
        **({"clip": sizes} if isinstance(sizes, str) else {"frame_spread": sizes}),
        "seconds": seconds,
        "used": round(run.carried_bps(WARM_UP_S, end_s) / bps, 4),
        "used_without_headers": round(run.delivered_bps(WARM_UP_S, end_s) / bps, 4),
        **delay_columns(run, round(seconds * 30)),
        "turns_per_minute": round(run.turns(WARM_UP_S, end_s) * 60 / (end_s - WARM_UP_S), 1),
        "frame_turns_per_minute": round(run.frame_turns(WARM_UP_S, end_s) * 60 / (end_s - WARM_UP_S), 1),
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


def cellular(seconds: int, folder: Path) -> dict[str, object]:
    """The link follows the checked-in trace; quality is the sum of the stamped gains of what arrived, of every frame.

    The oracle knows the trace, needs no headers, and may have frames wait for 0.1, 0.2 or 0.3 s, whichever is best.
    """
    with CELLULAR.open(newline="") as file:
        told = [(float(row["seconds"]), float(row["bits_per_second"])) for row in csv.DictReader(file)]
    trace = [step for step in told if step[0] < seconds]
    run = over_link(trace, seconds, folder, following=True)
    source, link = Source(), Link(Trace(trace))
    gains = next(source.frames(1))[2]
    first = gains[0]
    best = max(
        (oracle(link, source, seconds, wait_s) for wait_s in (0.1, 0.2, 0.3)), key=lambda each: each.quality()
    )
    got = [sum(gains[: each.layers]) for each in run.arrivals]
    offered = [frame.gain for frame in best.frames]
    return {
        "link": "cellular",
        "frame_spread": source.spread,
        "seconds": seconds,
        "of_oracle": round(sum(got) / sum(offered), 4),
        "of_oracle_without_first_layer": round(
            sum(gain - first for gain in got) / sum(max(0.0, gain - first) for gain in offered), 4
        ),
        "carried": round(
            run.carried_bps(0, seconds - 1) * (seconds - 1) / link.trace.bits_until(seconds - 1), 4
        ),
        **delay_columns(run, round(seconds * 30)),
    }


def shared(bps: float, seconds: float, folder: Path) -> dict[str, object]:
    """Two streams to two receivers that say that they share the link, beside the same two that do not."""
    sources, end_s = pair(), seconds - 1
    gains = [next(source.frames(1))[2] for source in sources]

    def worth(run: Outcome) -> float:
        """Summed gain of every frame of both, dB."""
        told = sum(sum(gains[each.stream][: each.layers]) for each in run.between(WARM_UP_S, end_s))
        return told / ((end_s - WARM_UP_S) * 30)

    runs = {shares: over_link([(0.0, bps)], seconds, folder, PAIR, shared=shares) for shares in (True, False)}
    run = runs[True]
    return {
        "link": f"{bps / 1e6:g} Mbit/s",
        "streams": len(sources),
        "seconds": seconds,
        "used": round(run.carried_bps(WARM_UP_S, end_s) / bps, 4),
        **delay_columns(run, round(seconds * 30) * len(sources)),
        "gain_db": round(worth(run), 2),
        "gain_apart_db": round(worth(runs[False]), 2),
    }


def runs(parts: Sequence[str], quick: bool, folder: Path) -> Iterator[dict[str, object]]:
    if "fixed" in parts:
        for bps in (0.3e6, 1e6, 3e6):
            for sizes in (0.2,) if quick else (0.05, 0.2, *CLIPS):
                yield fixed(bps, sizes, 12 if quick else 40, folder)
    if "step" in parts:
        for _ in range(1 if quick else 3):
            yield step(8 if quick else 12, folder)
    if "shared" in parts:
        for bps in (0.8e6, 1.5e6, 2.5e6):
            yield shared(bps, 12 if quick else 40, folder)
    if "cellular" in parts:
        yield cellular(60 if quick else 600, folder)


PARTS = ("fixed", "step", "shared", "cellular")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two minutes in all; writes no file")
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)} (default: all); the results of others stay",
    )
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    parts = args.parts or PARTS
    if reason := why_not():
        print(f"no shaped links: {reason}", file=sys.stderr)
        return 1
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in runs(parts, args.quick, Path(folder)):
            rows.append(row)
            print(json.dumps(row), flush=True)
    if not args.quick:
        for part in parts:
            results.save("links", part, [row for row in rows if part_of(row) == part])
    print_table(rows)
    return 0


def part_of(row: dict[str, object]) -> str:
    """Which part a row is of."""
    told = {"of_oracle": "cellular", "drained_ms": "step", "gain_apart_db": "shared"}
    return next((part for column, part in told.items() if column in row), "fixed")


def print_table(rows: list[dict[str, object]]) -> None:
    columns = [("link", "link"), ("frame_spread", "sizes wander"), ("clip", "clip"), ("used", "used")]
    columns += [
        ("p95_ms", "p95 ms"),
        ("worst_ms", "worst ms"),
        ("arrived", "frames"),
        ("turns_per_minute", "turns/min"),
    ]
    columns += [("below_the_new_rate_ms", "below ms"), ("drained_ms", "drained ms")]
    columns += [("back_at_90_percent_ms", "back ms"), ("of_oracle", "of oracle")]
    print("\n| " + " | ".join(title for _, title in columns) + " |\n|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(name, "")) for name, _ in columns) + " |")


if __name__ == "__main__":
    sys.exit(main())
