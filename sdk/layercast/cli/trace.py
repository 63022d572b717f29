"""`layercast trace`: what a relay's trace says about one receiver's link, replayed."""

from __future__ import annotations

import argparse
import json

from layercast.cli.arguments import add_command

EXAMPLES = """\
  layercast relay --trace link.jsonl           (then receive from it, and stop the relay)
  layercast trace link.jsonl
  layercast trace link.jsonl --plot link.png   (needs matplotlib)
  layercast trace link.jsonl --json"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands, "trace", "replay a relay's trace: rate, layers, delay, and why", EXAMPLES, run
    )
    parser.add_argument("file", metavar="FILE", help="written by `layercast relay --trace FILE`")
    parser.add_argument("--plot", metavar="OUT", help="draw it: .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")


def run(args: argparse.Namespace) -> int:
    from layercast.control.trace import replay

    with open(args.file, encoding="utf-8", errors="replace") as file:
        replayed = replay(file)
    if args.plot:
        from layercast.bench.trace_plot import plot

        plot(replayed, args.plot)
    summary = replayed.summary
    if args.json:
        print(json.dumps({**replayed.head, **summary.as_dict()}))
        return 0
    of = " ".join(str(replayed.head[name]) for name in ("stream", "peer") if name in replayed.head)
    print(
        f"{of or args.file}: {summary.seconds:.1f} s"
        + ("" if summary.complete else ", cut short at its bound")
    )
    print(f"frames   {summary.sent} of {summary.frames} sent, {summary.bytes_sent} bytes")
    print(
        f"rate     {summary.mean_bps / 1e3:.0f} kbit/s sent, budget {summary.median_rate_bps / 1e3:.0f} (median)"
    )
    if summary.frames:
        sent, offered = summary.layers_sent / summary.frames, summary.layers_offered / summary.frames
        print(f"layers   {sent:.1f} of {offered:.1f} per frame")
    print(
        f"delay    {summary.delay_p50_s * 1e3:.0f} ms median, {summary.delay_p95_s * 1e3:.0f} ms p95, above the least"
    )
    reasons = ", ".join(f"{why} {count}" for why, count in sorted(summary.dropped.items()))
    print(f"dropped  layers of frames because of: {reasons or 'nothing'}")
    print(f"replay   {summary.differing or 'no'} frame{'s' * (summary.differing != 1)} decided otherwise")
    return 0
