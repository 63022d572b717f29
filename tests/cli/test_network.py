"""relay, send and receive as processes: pictures arrive within the budget, and everything ends cleanly."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layercast.bitstream import ContainerReader, read_index
from layercast.media import FolderSource, PatternSource

LAYERCAST = [sys.executable, "-m", "layercast.cli"]
WITH_PAIRS = [sys.executable, str(Path(__file__).with_name("pairs.py"))]


@contextlib.contextmanager
def process(*arguments, command=LAYERCAST):
    started = subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@contextlib.contextmanager
def relaying(*arguments):
    with process("relay", "--listen", "127.0.0.1:0", "--fixed-budgets", *arguments) as started:
        address = started.stdout.readline().split()[-1]
        assert address.startswith("127.0.0.1:")
        started.address = address
        yield started


@pytest.fixture
def relay():
    with relaying() as started:
        yield started


@pytest.fixture
def talking_relay():
    """One that tells of calls on stderr."""
    with relaying("--log-level", "info") as started:
        yield started


def subscribed(relay, number):
    """Return when so many subscribers' calls have begun."""
    while number:
        line = relay.stderr.readline()
        assert line, "the relay ended"
        number -= "call began" in line and "subscribe" in line


def finished(started, timeout=60):
    out, err = started.communicate(timeout=timeout)
    return started.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_relay_ends_cleanly_when_told(relay, number):
    relay.send_signal(number)
    code, out, err = finished(relay)
    assert (code, out, err) == (0, "relay stopped\n", "")


def test_a_taken_port_is_one_line(relay):
    with process("relay", "--listen", relay.address) as second:
        code, _, err = finished(second)
    assert code == 2
    assert err.startswith(f"layercast: error: cannot listen on {relay.address}")
    assert err.count("\n") == 1


def test_a_stream_reaches_a_folder_and_a_recording_at_once(talking_relay, tmp_path):
    to, come_from = (
        ("--to", talking_relay.address, "--stream", "s"),
        ("--from", talking_relay.address, "--stream", "s"),
    )
    recording = tmp_path / "all.lcast"
    with (
        process("receive", *come_from, "--frames", 8, recording) as recorder,
        process(
            "receive",
            *come_from,
            "--frames",
            8,
            "--max-layers",
            2,
            "--link",
            "lan",
            tmp_path / "two",
            command=WITH_PAIRS,
        ) as viewer,
    ):
        # Else the first frames go while only the viewer, with its two layers, has asked.
        subscribed(talking_relay, 2)
        with process(
            "send", "pattern:64x48@30", *to, "--codec", "pairs", "--frames", 900, command=WITH_PAIRS
        ) as sender:
            code, out, err = finished(recorder)
            assert code == 0, err
            assert out.startswith("8 frames")
            assert "4.0 of 4 layers" in out
            code, out, err = finished(viewer)
            assert code == 0, err
            assert "2.0 of 4 layers" in out
            sender.send_signal(signal.SIGINT)
            assert finished(sender)[0] == 0
    with ContainerReader(recording) as reader:
        assert reader.description.codec == "pairs"
        units = list(reader)
    assert [read_index(unit).kept for unit in units] == [4] * 8
    # The folder's pictures are the pattern to six bits... of which two layers give the upper four.
    pattern = [PatternSource(64, 48, frame_rate=30).draw(k) for k in range(120)]
    for image, _ in FolderSource(tmp_path / "two"):
        assert any(abs(image.astype(int) - frame).max() <= 8 for frame in pattern)


def test_a_recording_is_sent_again_as_it_is(relay, tmp_path):
    first, second = tmp_path / "first.lcast", tmp_path / "second.lcast"
    with process(
        "encode", "pattern:32x32@50", first, "--codec", "pairs", "--frames", 20, command=WITH_PAIRS
    ) as p:
        assert finished(p)[0] == 0
    with (
        process("receive", "--from", relay.address, "--frames", 5, second) as receiver,
        process("send", first, "--to", relay.address, "--loop") as sender,
    ):
        assert finished(receiver)[0] == 0
        sender.send_signal(signal.SIGTERM)
        assert finished(sender)[0] == 0
    with ContainerReader(first) as a, ContainerReader(second) as b:
        layers = {unit[read_index(unit).ends[0] :] for unit in a}
        again = [unit[read_index(unit).ends[0] :] for unit in b]
        sizes = {len(unit) for unit in layers}
        assert len(again) == 5
        assert all(len(unit) in sizes for unit in again)
        headers = [read_index(unit).header for unit in b]
    assert all(header.timestamp_us > 1_600_000_000_000_000 for header in headers), "stamped when sent"


def test_no_relay_is_a_network_error_that_names_the_cure():
    with process("receive", "--from", "127.0.0.1:1", "--give-up-after", "0.2") as receiver:
        code, _, err = finished(receiver)
    assert code == 5
    assert "layercast: error: cannot reach 127.0.0.1:1" in err
    assert "layercast relay --listen" in err


def test_no_such_stream_is_a_network_error(relay):
    with process("receive", "--from", relay.address, "--stream", "none", "--wait", "0.2") as receiver:
        code, _, err = finished(receiver)
    assert code == 5
    assert "no stream named none" in err
    assert err.count("\n") == 1


def test_a_receiver_of_nothing_ends_after_its_idle_time(relay):
    with process("receive", "--from", relay.address, "--idle", "0.3") as receiver:
        code, out, _ = finished(receiver)
    assert (code, out) == (0, "0 frames\n")
