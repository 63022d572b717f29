"""Logs are lines with names: for people, or one JSON object each; a flood of calls is no flood of lines."""

from __future__ import annotations

import io
import json
import logging

import pytest
from tests.transport.harness import FakeClock, eventually, live

from layercast.errors import RefusedError
from layercast.transport import logs
from layercast.transport.gate import REFUSAL_LOG_S, Gate
from layercast.transport.limits import RelayLimits
from layercast.transport.relay import Relay

from .strangers import honest


@pytest.fixture
def lines():
    """lines(form) -> the stream that layercast's loggers write to; all is as before after the test."""
    logger = logging.getLogger("layercast")
    before = logger.handlers[:], logger.level, logger.propagate
    stream = io.StringIO()

    def configure(form: str, level: str = "info") -> io.StringIO:
        logs.configure(form, level, stream)
        return stream

    yield configure
    logger.handlers[:], logger.level, logger.propagate = before[0], before[1], before[2]


def test_calls_are_lines_of_json(lines):
    stream = lines("json")

    @live
    async def use() -> None:
        async with Relay(adaptive=False) as relay:
            async with honest(relay):
                pass
            await eventually(lambda: stream.getvalue().count("call ended") == 2)

    use()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {(each["event"], each["right"]) for each in events} >= {
        ("call began", "publish"),
        ("call began", "subscribe"),
    }
    for each in events:
        assert each["level"] == "info"
        assert each["stream"] == "cam"
        assert each["peer"].startswith("ipv4:127.0.0.1:")
        assert each["time"].endswith("Z")
        assert "subject" not in each, "empty fields are left out"


def test_text_is_one_line_with_quoted_fields_whatever_is_in_them(lines):
    stream = lines("text")
    logs.event(logging.getLogger("layercast.x"), logging.INFO, "it\nhappened", who='a "b"\n', count=3)
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'info it happened who="a \"b\"\n" count=3')


def test_what_is_below_the_level_is_not_written(lines):
    stream = lines("json", "warning")
    logs.event(logging.getLogger("layercast.x"), logging.INFO, "nothing")
    assert stream.getvalue() == ""


def test_an_exception_stays_one_line(lines):
    stream = lines("json")
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("layercast.x").exception("failed")
    assert "ValueError: x" in json.loads(stream.getvalue())["exception"]


def test_refusals_are_logged_once_a_second_per_reason_with_the_number_left_out(lines):
    stream = lines("json")
    clock = FakeClock()
    gate = Gate(RelayLimits(), None, clock)
    for _ in range(1000):
        gate.count(RefusedError("no"), "ipv4:192.0.2.1:1")
    clock.advance(REFUSAL_LOG_S)
    gate.count(RefusedError("no"), "ipv4:192.0.2.1:1")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["left_out"], second["left_out"]) == (0, 999)
    assert gate.refused == {"refused": 1001}
