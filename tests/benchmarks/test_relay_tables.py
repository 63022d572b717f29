"""The promise: the page says “no” where the relay misses what was asked, and never leaves a missing figure out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import keep, relay_tables, results

FIXED = {
    "link": "1 Mbit/s", "frame_spread": 0.05, "used": 0.95, "p95_ms": 90.0, "past_staleness": 0, "turns_per_minute": 1.0
}  # fmt: skip
STEP = {"link": "step", "below_the_new_rate_ms": 200, "drained_ms": 1200, "back_at_90_percent_ms": 4000}
FAULT = {"action": "kill", "of": "first", "recovered_s": 0.5, "missed_outside": {}}


def level(kind: str, cpu_us: float, p99_ms: float = 5.0, **more: float) -> dict:
    row = {"kind": kind, "receivers": 100, "busiest": 0.2, "cpu_us_per_frame": cpu_us, "p99_ms": p99_ms}
    return {**row, "receivers_per_core": 1e6 / (30 * cpu_us), "cores": 0.1, "workers": 1, **more}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a stored result: rows alone as JSON lines, anything else as JSON."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def write(name: str, content: object) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "\n".join(map(json.dumps, content)) if isinstance(content, list) else json.dumps(content)
        )

    return write


def verdict(about: str) -> list[str]:
    """The last cell of each line of the first table that has these words."""
    lines = relay_tables.section().split("###")[0].splitlines()
    return [line.split(" | ")[-1].strip(" |*") for line in lines if about in line]


def test_without_results_there_is_no_section(store) -> None:
    assert relay_tables.section() == ""


@pytest.mark.parametrize(("field", "good", "bad"), [
    ("used", 0.92, 0.91), ("p95_ms", 150, 151), ("past_staleness", 0, 1), ("turns_per_minute", 2, 3),
])  # fmt: skip
def test_the_worst_link_decides(store, field: str, good: float, bad: float) -> None:
    about = {
        "used": "share of it",
        "p95_ms": "p95",
        "past_staleness": "staleness",
        "turns_per_minute": "turns of",
    }
    store("links/fixed.json", {"rows": [FIXED, {**FIXED, field: good}, STEP]})
    assert verdict(about[field]) == ["yes"]
    store("links/fixed.json", {"rows": [FIXED, {**FIXED, field: bad}, STEP]})
    assert verdict(about[field]) == ["no"]


def test_turns_are_told_by_how_much_sizes_wander(store) -> None:
    store("links/fixed.json", {"rows": [FIXED, {**FIXED, "frame_spread": 0.2, "turns_per_minute": 9.0}]})
    assert verdict("turns of") == ["yes", "no"]


def test_turns_with_the_sizes_of_recorded_clips_are_told_together(store) -> None:
    clip = {name: value for name, value in FIXED.items() if name != "frame_spread"}
    rows = [FIXED, {**clip, "clip": "cups", "turns_per_minute": 9.0}, {**clip, "clip": "bedroom"}]
    store("links/fixed.json", {"rows": rows})
    assert verdict("turns of") == ["yes", "no"]


def test_a_step_that_never_came_back_does_not_hold(store) -> None:
    store("links/fixed.json", {"rows": [STEP, {**STEP, "back_at_90_percent_ms": None}]})
    assert verdict("at 90 % of the higher rate") == ["no"]


def test_two_streams_on_one_link_are_judged_by_their_gain(store) -> None:
    shared = {"link": "1 Mbit/s", "streams": 2, "used": 0.99, "gain_db": 44.0, "gain_apart_db": 40.0}
    store("links/shared.json", {"rows": [shared]})
    assert verdict("two streams") == ["yes"]
    store("links/shared.json", {"rows": [shared, {**shared, "gain_db": 39.0}]})
    assert verdict("two streams") == ["no"]


def test_cpu_is_compared_at_equal_receivers_and_with_one_process(store) -> None:
    store(
        "relay/uncapped.jsonl",
        [level("layercast", 50), level("plain", 45), level("layercast", 99, workers=2)],
    )
    assert verdict("CPU per delivered frame, of") == ["yes"]
    assert verdict("second process") == ["no"], "the busiest process is as busy as the one before"
    halved = level("layercast", 60, workers=2, busiest=0.1)
    store("relay/uncapped.jsonl", [level("layercast", 60), level("plain", 45), halved])
    assert verdict("CPU per delivered frame, of") == ["no"]
    assert verdict("second process") == ["yes"]


def test_a_plain_fan_out_in_a_relays_process_is_compared_too(store) -> None:
    rows = [level("layercast", 50), level("plain", 45)]
    store("relay/uncapped.jsonl", rows)
    store("relay/tuned.jsonl", [*rows, level("tuned", 30)])
    assert verdict("CPU per delivered frame, of") == ["yes"]
    assert verdict("the same, if the plain") == ["no"]


def test_two_hundred_receivers_have_to_get_their_frames(store) -> None:
    store("relay/uncapped.jsonl", [level("layercast", 50), level("plain", 45)])
    alone = verdict("receivers of 16 KB frames")
    store("relay/two_hundred.jsonl", [{**level("layercast", 50), "receivers": 200, "delivered": 0.73}])
    assert (alone, verdict("receivers of 16 KB frames")) == (["yes"], ["no"])


def test_one_fault_that_was_felt_elsewhere_is_told(store) -> None:
    summary = {
        "events": 200, "recovered_within_3_s": 200, "recovered_worst_s": 2.0,
        "events_with_frames_missed_outside": 1, "relay_rss_mb_before": [40, 40], "relay_rss_mb_after": [44, 45],
    }  # fmt: skip
    store("links/faults.json", {"summary": summary, "rows": [FAULT]})
    assert verdict("off the faulted path") == ["no"]
    assert verdict("3 s after") == ["yes"]
    assert verdict("memory") == ["no"], "the worse of the two relays grew by an eighth"


def test_the_stored_results_render_with_their_commands() -> None:
    page = relay_tables.section()
    for command in ("benchmarks.links", "benchmarks.faults", "layercast bench relay"):
        assert f"{command}" in page


def test_what_a_bench_prints_is_kept_with_its_origin(store) -> None:
    rows = keep.measured(["python", "-c", "print('{\"kind\": \"plain\"}'); print('a table')"])
    assert rows == [{"kind": "plain"}]
    with pytest.raises(SystemExit, match="exit code 3"):
        keep.measured(["python", "-c", "print('{}'); raise SystemExit(3)"])


def test_a_changing_link_is_judged_by_the_oracle_and_not_as_a_fixed_one(store) -> None:
    cellular = {"link": "cellular", "used": 0.7, "of_oracle": 0.93, "p95_ms": 280.0, "past_staleness": 3}
    store("links/fixed.json", {"rows": [FIXED, STEP, cellular]})
    assert verdict("share of it used") == ["yes"]
    assert verdict("cellular trace") == ["yes", "yes"]
    store("links/fixed.json", {"rows": [FIXED, STEP, {**cellular, "of_oracle": 0.89}]})
    assert verdict("cellular trace") == ["no", "yes"]


def test_only_a_relay_that_follows_links_is_compared(store) -> None:
    rows = [level("layercast", 50, adaptive=True), level("layercast", 40, adaptive=False), level("plain", 50)]
    store("relay/uncapped.jsonl", rows)
    assert relay_tables.cpu_ratios() == [1.0]
