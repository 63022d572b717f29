"""The section of BENCHMARKS.md on the relay: what was asked beside what was measured, then the figures.

The benches store JSON (`benchmarks.links`, `benchmarks.faults`, and what `benchmarks.keep` runs); JSON lines as a
bench printed them (`layercast bench relay > FILE.jsonl`) are shown too, but tell less of where they are from.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import markdown as md
from benchmarks import results
from layercast.bench.relay import ENOUGH

Row = dict[str, Any]

COMMANDS = {
    **{
        f"links/{part}": f"python -m benchmarks.links {part}"
        for part in ("fixed", "step", "shared", "cellular")
    },
    "relay/uncapped": "layercast bench relay",
    "relay/fixed_budgets": "layercast bench relay --fixed-budgets --no-plain",
    "relay/mixed": "layercast bench relay --senders 3 --budgets 1 0.5 0.25",
}
"""What made a result that does not say so itself; another of the relay is named by its file."""

INTRO = (
    "A relay of layercast follows each subscriber's link and drops layers; what it is measured against is a "
    "plain `grpc.aio` program that hands the same bytes on and looks at nothing (kind “plain”; “tuned” is the same "
    "program in a process set up like a relay's). **Where we lose:** every “no”."
)


def path_of(name: str) -> Path | None:
    """Where PART/NAME is stored, as JSON or as JSON lines."""
    paths = (results.RESULTS / f"{name}{suffix}" for suffix in (".json", ".jsonl"))
    return next((path for path in paths if path.exists()), None)


def stored(name: str) -> Row | None:
    """A stored result as {"rows", perhaps "about", ...}; None if it is not there."""
    path = path_of(name)
    if path is None:
        return None
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        found: Row = json.loads(text)
        return found
    return {"rows": [json.loads(line) for line in text.splitlines() if line.startswith("{")]}


RECEIVERS = 200
"""That one core is asked to serve."""

LINKS = ("links/fixed", "links/step", "links/shared", "links/cellular")


def links() -> list[Row]:
    """The rows of every part of `python -m benchmarks.links` that is stored."""
    return [row for name in LINKS for row in (stored(name) or {"rows": []})["rows"]]


def fan_outs() -> dict[str, list[Row]]:
    """The rows of `layercast bench relay`, by result."""
    names = sorted({f"relay/{path.stem}" for path in (results.RESULTS / "relay").glob("*.json*")})
    found = {name: (stored(name) or {"rows": []})["rows"] for name in names}
    return {name: [row for row in rows if "kind" in row] for name, rows in found.items()}


def origin(names: Iterable[str]) -> str:
    """Where the figures are from: as the file tells, else command, and the commit and date it was stored in."""
    told = []
    for name in names:
        result = stored(name) or {}
        if "about" in result:
            told.append(md.origin([result]))
            continue
        log = ["git", "log", "-1", "--format=commit %h, %cs", "--", str(path_of(name))]
        done = subprocess.run(log, cwd=results.REPOSITORY, capture_output=True, text=True, check=False)
        machine = ", ".join(f"{key} {result[key]}" for key in ("machine", "cores", "python") if key in result)
        command = COMMANDS.get(name, f"layercast bench relay ({name})")
        where = machine or "two shared cores; the file names no versions"
        told.append(f"<sub>`{command}`, stored in {done.stdout.strip() or 'no commit'}; {where}.</sub>  ")
    return "\n".join(dict.fromkeys(told))


def section() -> str:
    asked = [*_links_asked(), *_control_asked(), *_fan_out_asked(), *_faults_asked()]
    if not asked:
        return ""
    head = ["what", "asked", "measured", "holds"]
    rows = [[what, goal, found, "yes" if holds else "**no**"] for what, goal, found, holds in asked]
    return "\n\n".join(
        part
        for part in ("## Relay", INTRO, md.table(head, rows), _links(), _control(), _fan_out(), _faults())
        if part
    )


Asked = tuple[str, str, str, bool]
"""What, the goal, what was found, and whether that is enough."""


def _worst(rows: list[Row], key: str, unit: str, goal: float, digits: int = 0, most: bool = True) -> Asked:
    """The worst of a column against a goal: at most it, or at least it."""
    found = [row[key] for row in rows if row.get(key) is not None]
    worst = max(found) if most else min(found)
    holds = len(found) == len(rows) and (worst <= goal if most else worst >= goal)
    goal_text = f"{'≤' if most else '≥'} {goal:g}{unit}"
    low, high = (f"{end:.{digits}f}" for end in (min(found), max(found)))
    spread = f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
    return key, goal_text, spread if len(found) == len(rows) else f"{spread}; missing in some", holds


def sizes_of(row: Row) -> str:
    """How the frames of a stream differ in size."""
    return "of three recorded clips" if "clip" in row else f"within {100 * row['frame_spread']:.0f} %"


def _links_asked() -> list[Asked]:
    rows = links()
    if not rows:
        return []
    fixed = [row for row in rows if "turns_per_minute" in row]
    steps = [row for row in rows if "drained_ms" in row]
    for row in fixed:
        row["used_percent"] = 100 * row["used"]
    names: list[tuple[list[Row], str, str, str, float, int, bool]] = [
        (fixed, "used_percent", "fixed link of 0.3, 1, 3 Mbit/s: share of it used", " %", 92, 1, False),
        (fixed, "p95_ms", "the same: p95 frame delay above the idle delay", " ms", 150, 0, True),
        (fixed, "past_staleness", "the same: frames later than the staleness bound", "", 0, 0, True),
        *(
            (
                [row for row in fixed if sizes_of(row) == sizes],
                "turns_per_minute",
                f"the same, frames' sizes {sizes}: turns of the layer count a minute",
                "",
                2.0,
                1,
                True,
            )
            for sizes in dict.fromkeys(map(sizes_of, fixed))
        ),
        (
            steps,
            "below_the_new_rate_ms",
            "step from 3 to 0.6 Mbit/s: below the new rate after",
            " ms",
            700,
            0,
            True,
        ),
        (steps, "drained_ms", "the same: queue drained after", " ms", 1500, 0, True),
        (steps, "back_at_90_percent_ms", "and back: at 90 % of the higher rate after", " ms", 5000, 0, True),
    ]
    return [
        (what, *_worst(rows, key, unit, goal, digits, most)[1:])
        for rows, key, what, unit, goal, digits, most in names
        if rows
    ] + [*_shared_asked(rows), *_cellular_asked("over a shaped link", rows)]


def _shared_asked(rows: list[Row]) -> list[Asked]:
    """What two streams are worth that share a link, of what they are worth when they compete for it."""
    ratios = [row["gain_db"] / row["gain_apart_db"] for row in rows if "gain_apart_db" in row]
    if not ratios:
        return []
    what = "two streams over one link, shared by gain per bit: gain, of the same two's that compete for it"
    return [(what, "> 1×", f"{min(ratios):.2f} to {max(ratios):.2f}×", min(ratios) > 1)]


def _control_asked() -> list[Asked]:
    return _cellular_asked("simulated, four traces", (stored("control/simulated") or {"rows": []})["rows"])


def _cellular_asked(how: str, rows: list[Row]) -> list[Asked]:
    """What rows that follow a cellular trace, if there are any, reach of an oracle's quality, and how late."""
    cellular = [{**row, "percent": 100 * row["of_oracle"]} for row in rows if "of_oracle" in row]
    if not cellular:
        return []
    what = f"ten minutes of a cellular trace, {how}"
    return [
        (f"{what}: quality, of an oracle's", *_worst(cellular, "percent", " %", 90, 1, False)[1:]),
        (f"{what}: p95 delay", *_worst(cellular, "p95_ms", " ms", 300)[1:]),
    ]


def _by_receivers(rows: list[Row], kind: str) -> dict[int, Row]:
    """The rows of one kind, with one process of the relay that follows links."""
    chosen = (
        row
        for row in rows
        if row.get("workers", 1) == 1 and (row.get("adaptive", True) or kind != "layercast")
    )
    return {row["receivers"]: row for row in chosen if row["kind"] == kind}


def cpu_ratios(name: str = "relay/uncapped", beside: str = "plain") -> list[float]:
    """CPU per delivered frame in times of a plain fan-out's, at every number of receivers of a result."""
    rows = (stored(name) or {"rows": []})["rows"]
    ours, plain = (_by_receivers(rows, kind) for kind in ("layercast", beside))
    return [
        ours[n]["cpu_us_per_frame"] / plain[n]["cpu_us_per_frame"] for n in sorted(ours.keys() & plain.keys())
    ]


def _fan_out_asked() -> list[Asked]:
    result = stored("relay/uncapped")
    if result is None:
        return []
    ours, plain = (_by_receivers(result["rows"], kind) for kind in ("layercast", "plain"))
    both = sorted(ours.keys() & plain.keys())
    ratios = cpu_ratios()
    per_core = [ours[n]["receivers_per_core"] for n in both]
    return [
        _ratio_asked("CPU per delivered frame, of the plain fan-out's", ratios),
        *(
            _ratio_asked("the same, if the plain fan-out's process is set up like a relay's", tuned)
            for tuned in [cpu_ratios("relay/tuned", "tuned")]
            if tuned
        ),
        _receivers_asked(per_core),
        *_latency_asked(),
        *_workers_asked(),
    ]


def _ratio_asked(what: str, ratios: list[float]) -> Asked:
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}×"
    return what, "≤ 1.15×", high if high == f"{low}×" else f"{low} to {high}", max(ratios) <= 1.15


def _receivers_asked(per_core: list[float]) -> Asked:
    """How many receivers a core serves: what a frame costs tells, and whether as many at once get everything."""
    found, holds = f"{min(per_core):.0f} to {max(per_core):.0f} by CPU per frame", min(per_core) >= RECEIVERS
    tried = _by_receivers((stored("relay/two_hundred") or {"rows": []})["rows"], "layercast").get(RECEIVERS)
    if tried is not None:
        found += f"; of {RECEIVERS} at once {100 * min(1.0, tried['delivered']):.0f} % of the frames arrived"
        holds = holds and tried["delivered"] >= ENOUGH
    return "receivers of 16 KB frames at 30/s that one core serves", f"≥ {RECEIVERS}", found, holds


def _latency_asked() -> list[Asked]:
    """How much later frames are than a plain fan-out's, where both serve half of the receivers asked for."""
    rows = (stored("relay/two_hundred") or {"rows": []})["rows"]
    ours, plain = (_by_receivers(rows, kind).get(RECEIVERS // 2) for kind in ("layercast", "plain"))
    if ours is None or plain is None:
        return []
    added_ms = ours["p99_ms"] - plain["p99_ms"]
    what = f"p99 latency added to the plain fan-out's at half of that load, {RECEIVERS // 2} receivers"
    return [(what, "≤ 10 ms", f"{added_ms:.1f} ms", added_ms <= 10)]


def _workers_asked() -> list[Asked]:
    """What a second process is worth, at every number of receivers that some file has with one and with two."""
    folds = []
    for rows in fan_outs().values():
        own = [row for row in rows if row["kind"] == "layercast" and "busiest" in row]
        one, two = ({row["receivers"]: row for row in own if row["workers"] == n} for n in (1, 2))
        folds += [one[n]["busiest"] / two[n]["busiest"] for n in one.keys() & two.keys()]
    if not folds:
        return []
    what = "what a second process scales it by (CPU of the busiest one, with one ÷ with two)"
    return [(what, "≥ 1.8×", f"{min(folds):.2f} to {max(folds):.2f}×", min(folds) >= 1.8)]


def _faults_asked() -> list[Asked]:
    result = stored("links/faults")
    if result is None:
        return []
    summary = result["summary"]
    before, after = summary["relay_rss_mb_before"], summary["relay_rss_mb_after"]
    growth = max(b / a - 1 for a, b in zip(before, after, strict=True))
    events, within = summary["events"], summary["recovered_within_3_s"]
    outside = summary["events_with_frames_missed_outside"]
    recovered = f"{within} of {events}; slowest {summary['recovered_worst_s']:.2f} s"
    return [
        ("random faults in a chain of relays", "200 events", f"{events} events", events >= 200),
        ("everybody has frames again 3 s after the fault's end", "always", recovered, within == events),
        ("events in which somebody off the faulted path missed a frame", "0", str(outside), outside == 0),
        ("growth of a relay's memory", "≤ 10 %", f"{100 * growth:.1f} %", growth <= 0.1),
    ]


def _links() -> str:
    rows = links()
    if not rows:
        return ""
    columns = {
        "link": "link",
        "frame_spread": "sizes wander by",
        "clip": "sizes of a recorded clip",
        "used": "used",
        "p50_ms": "p50, ms",
        "p95_ms": "p95, ms",
        "worst_ms": "latest, ms",
        "past_staleness": "too late",
        "dropped_as_late": "dropped as late",
        "arrived": "arrived",
        "turns_per_minute": "turns a minute",
        "frame_turns_per_minute": "of single frames",
        "gain_db": "two streams' gain, dB",
        "gain_apart_db": "the same, competing",
        "of_oracle": "of the oracle's quality",
        "of_oracle_without_first_layer": "the same, above the first layer",
        "below_the_new_rate_ms": "below the new rate, ms",
        "drained_ms": "drained, ms",
        "back_at_90_percent_ms": "back at 90 %, ms",
    }
    about = (
        "Real processes over a shaped link (`tc tbf`, 20 ms each way). “Too late”: frames past the staleness bound. "
        "A turn: the mean layer count of a second changes direction by a layer or more; of single frames, by two."
    )
    return "\n\n".join(["### Links", about, _table(columns, rows), origin(LINKS)])


def _control() -> str:
    result = stored("control/simulated")
    if result is None:
        return ""
    columns = {
        "link": "link",
        "seed": "seed",
        "frame_spread": "sizes wander by",
        "clip": "sizes of a recorded clip",
        "used": "used",
        "p95_ms": "p95, ms",
        "worst_ms": "latest, ms",
        "sent": "frames sent",
        "turns_per_minute": "turns a minute",
        "frame_turns_per_minute": "of single frames",
        "of_oracle": "of the oracle's quality",
        "of_oracle_without_first_layer": "the same, above the first layer",
    }
    rows = [row for row in result["rows"] if "link" in row]
    return "\n\n".join(["### Simulated links", _table(columns, rows), origin(["control/simulated"])])


def _fan_out() -> str:
    found = fan_outs()
    if not found:
        return ""
    skipped = {"kind", "frame_rate", "unit_bytes", "frames_per_s", "bytes_per_s", "bytes_per_frame"}
    keys = list(dict.fromkeys(key for rows in found.values() for row in rows for key in row))
    columns = {"bench": "bench", "kind": "kind", **{k: k.replace("_", " ") for k in keys if k not in skipped}}
    rows = [{"bench": name.split("/")[1], **row} for name, rows in found.items() for row in rows]
    about = (
        "Frames of 16 KB at 30 a second over loopback. The relay has one core; senders and receivers share the other, "
        "which shows in the latency of both kinds."
    )
    return "\n\n".join(["### Fan-out", about, _table(columns, rows), origin(found)])


def _faults() -> str:
    result = stored("links/faults")
    if result is None:
        return ""
    groups: dict[str, list[Row]] = {}
    for row in result["rows"]:
        groups.setdefault(row["action"], []).append(row)
    rows = []
    for action, events in sorted(groups.items()):
        times = [event["recovered_s"] for event in events]
        missed = sum(bool(event["missed_outside"]) for event in events)
        rows.append([action, len(events), f"{median(times):.2f}", f"{max(times):.2f}", missed])
    head = [
        "fault",
        "events",
        "recovered after, median s",
        "slowest, s",
        "events with frames missed off its path",
    ]
    return "\n\n".join(["### Faults", md.table(head, rows), origin(["links/faults"])])


def _table(columns: dict[str, str], rows: list[Row]) -> str:
    """Those columns that some row has; empty cells where a row says nothing."""
    shown = [key for key in columns if any(key in row for row in rows)]
    return md.table([columns[key] for key in shown], [[row.get(key, "") for key in shown] for row in rows])
