"""The relay's load test: small, but with all its processes."""

import json
from pathlib import Path

import pytest

from layercast.bench import relay
from layercast.cli.main import main

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads CPU time from /proc")


def test_each_level_is_a_line_with_what_the_kernel_and_the_receivers_say(capsys, monkeypatch):
    monkeypatch.setattr(relay, "WARM_UP_S", 1.5)
    arguments = ["--receivers", "4", "--senders", "2", "--budgets", "1", "0.5"]
    arguments += ["--unit-bytes", "2000", "--seconds", "1.5", "--workers", "1", "2", "--tuned"]
    assert main(["bench", "relay", *arguments]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["kind"], row["workers"]) for row in rows] == [
        ("layercast", 1),
        ("layercast", 2),
        ("plain", 1),
        ("tuned", 1),
    ]
    for row in rows:
        assert 0.8 <= row["delivered"] <= 1.1
        assert 2000 * 0.6 <= row["bytes_per_frame"] <= 2200 * 0.8, "one half has all, the other half of it"
        assert row["cpu_us_per_frame"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 <= row["busiest"] <= row["cores"] < 2
        assert 5 < row["rss_mb"] < 500


def test_a_load_beyond_the_bounds_is_refused(capsys):
    assert main(["bench", "relay", "--receivers", "10", "501"]) == 2
    assert "at most" in capsys.readouterr().err
