"""Print, as JSON lines, how the adaptive allocator does over simulated links.

    python -m benchmarks.control [--quick] [--report-every SECONDS]

One object a link: the share of the link that was used, delays above the idle link's in milliseconds, how often
the layer level turned round per minute, and for traces the quality against an oracle that knows the trace. The
simulation is the one of the tests (tests/control/simulation.py); nothing here depends on the machine, except
`decide_us`, the CPU time of one frame's decision and acknowledgement.
"""

from __future__ import annotations

import argparse
import json
import time

from tests.control.cellular import STEP_S, rates
from tests.control.simulation import CLIPS, Link, Source, Trace, oracle, simulate, source_of

from layercast.bitstream.types import FrameKind
from layercast.control.adaptive import STALENESS_S, AdaptiveAllocator

WARM_UP_S = 5.0
"""Left out of the shares of fixed links, seconds: the rate begins low and finds the link."""

CELLULAR_SEEDS = (20, 21, 22, 23)
"""The first is the trace that is checked in; the constants were chosen looking at it alone."""


def row(name, run, seconds, **more):
    delays = run.delays()
    return {
        "link": name,
        "used": round(run.used(WARM_UP_S, seconds - 1), 4),
        "p50_ms": round(delays[len(delays) // 2] * 1e3, 1),
        "p95_ms": round(run.p95() * 1e3, 1),
        "p99_ms": round(delays[int(0.99 * (len(delays) - 1))] * 1e3, 1),
        "worst_ms": round(delays[-1] * 1e3, 1),
        "past_staleness": round(sum(delay > STALENESS_S for delay in delays) / len(delays), 5),
        "sent": round(len(delays) / len(run.frames), 4),
        "turns_per_minute": round(run.direction_changes(WARM_UP_S, seconds) * 60 / (seconds - WARM_UP_S), 2),
        "frame_turns_per_minute": round(run.frame_turns(WARM_UP_S, seconds) * 60 / (seconds - WARM_UP_S), 2),
        **more,
    }


def fixed_links(seconds, report_s):
    for bps in (300_000, 1_000_000, 3_000_000):
        for sizes in (0.05, 0.2, *CLIPS):
            run = simulate(
                AdaptiveAllocator(),
                Link(Trace([(0, bps)]), report_every_s=report_s),
                source_of(sizes),
                seconds,
            )
            told = {"clip": sizes} if isinstance(sizes, str) else {"frame_spread": sizes}
            yield row(f"fixed {bps / 1e6:g} Mbit/s", run, seconds, **told)


def step(seeds, report_s):
    trace = Trace([(0, 3e6), (20, 0.6e6), (40, 3e6)])
    for seed in range(1, seeds + 1):
        run = simulate(AdaptiveAllocator(), Link(trace, report_every_s=report_s), Source(seed=seed), 50)
        arrivals = sorted((f.offered_s + f.delay_s, f.delay_s) for f in run.between(20, 23) if f.size)
        below = next(t for t in range(2000, 2300) if run.sent_bps(t / 100, t / 100 + 0.2) < 0.6e6)
        back = next(t for t in range(4000, 4900) if run.sent_bps(t / 100, t / 100 + 0.5) >= 2.7e6)
        yield row(
            "step 3 -> 0.6 -> 3 Mbit/s",
            run,
            50,
            seed=seed,
            below_the_new_rate_ms=(below - 2000) * 10,
            drained_ms=round((next(at for at, delay in arrivals if at > 20.3 and delay < 0.06) - 20) * 1e3),
            back_at_90_percent_ms=(back - 4000) * 10 + 500,
        )


def cellular(seeds, seconds, report_s):
    for seed in seeds:
        trace = Trace([(number * STEP_S, rate) for number, rate in enumerate(rates(seed))])
        run = simulate(AdaptiveAllocator(), Link(trace, report_every_s=report_s), Source(), seconds)
        best = max(
            (oracle(Link(trace), Source(), seconds, wait_s) for wait_s in (0.1, 0.2, 0.3)),
            key=lambda candidate: candidate.quality(),
        )
        first = Source().frames(1).__next__()[2][0]
        upper = sum(max(0.0, f.gain - first) for f in run.frames) / sum(
            max(0.0, f.gain - first) for f in best.frames
        )
        yield row(
            f"cellular, seed {seed}",
            run,
            seconds,
            of_oracle=round(run.quality() / best.quality(), 4),
            of_oracle_without_first_layer=round(upper, 4),
        )


def decision_cost(frames=20_000):
    allocator = AdaptiveAllocator()
    ends = tuple(24 + 1300 * k for k in range(13))
    gains = (12.0,) + (1.5,) * 11
    start = time.process_time()
    for number in range(frames):
        now = number / 30
        keep = allocator.decide(now, ends, FrameKind.KEY, gains)
        allocator.on_sent(now, number, ends[keep])
        allocator.on_ack(now + 0.03, number, ends[keep], now + 0.02)
    return {"decide_us": round((time.process_time() - start) / frames * 1e6, 1), "frames": frames}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one trace, one minute")
    parser.add_argument(
        "--report-every",
        type=float,
        default=0.02,
        metavar="SECONDS",
        help="acknowledgements come in such batches",
    )
    args = parser.parse_args()
    quick, report_s = args.quick, args.report_every
    for rows in (
        fixed_links(65, report_s),
        step(1 if quick else 8, report_s),
        cellular(CELLULAR_SEEDS[:1] if quick else CELLULAR_SEEDS, 60 if quick else 600, report_s),
        [decision_cost()],
    ):
        for each in rows:
            print(json.dumps(each), flush=True)


if __name__ == "__main__":
    main()
