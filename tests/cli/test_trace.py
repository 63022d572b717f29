"""`layercast trace`: what a relay wrote down can be read again."""

import json

import pytest

from layercast.bitstream.types import FrameKind
from layercast.cli.main import main
from layercast.transport._pb import transport_pb2 as pb
from layercast.transport.allocators import Allocators

ENDS = tuple(24 + 500 * k for k in range(11))


@pytest.fixture
def trace(tmp_path):
    """Ten seconds of a link that takes all: the third of three subscriptions is the one that is asked about."""
    path = tmp_path / "link.jsonl"
    allocators = Allocators(trace=path)
    for peer in ("one", "two", "three"):
        allocator = allocators.open(pb.Limits(max_layers=8), "cam", peer)
        for n in range(300):
            keep = allocator.decide(n / 30, ENDS, FrameKind.KEY, ())
            allocator.on_sent(n / 30, n, ENDS[keep])
            allocator.on_ack(n / 30 + 0.02, n, ENDS[keep], n / 30 + 0.01)
        allocator.close()
    return path.with_name("link-3.jsonl")


def test_a_trace_is_told_in_lines(trace, capsys):
    assert main(["trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cam three: 10.0 s\n")
    assert "300 of 300 sent" in out
    assert "no frames decided otherwise" in out


def test_a_trace_is_one_json_object_and_a_picture(trace, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "link.png"
    assert main(["trace", str(trace), "--json", "--plot", str(picture)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["peer"], told["max_layers"], told["frames"]) == ("three", 8, 300)
    assert told["dropped"]["layers"] > 100
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_another_file_is_one_line_of_error(tmp_path, capsys):
    other = tmp_path / "other"
    other.write_bytes(b"\xff no trace\n")
    assert main(["trace", str(other)]) == 3
    assert "not of a layercast trace" in capsys.readouterr().err


def test_a_trace_that_cannot_be_written_stops_the_relay_at_once(tmp_path, capsys):
    assert main(["relay", "--listen", "127.0.0.1:0", "--trace", str(tmp_path / "no" / "such")]) == 2
    assert "cannot write the trace" in capsys.readouterr().err
