"""Whatever goes wrong is one line on stderr that names what to do, and an exit code by kind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from layercast.cli.arguments import count, quantity
from layercast.cli.main import build_parser
from layercast.media import PatternSource, write_picture

LAYERCAST = [sys.executable, "-m", "layercast.cli"]
WITH_PAIRS = [sys.executable, str(Path(__file__).with_name("pairs.py"))]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["encode", "nowhere.png", "x.lcast", "--codec", "pairs"], 7, "no such file"),
        (["encode", "pattern:8x8", "x.lcast", "--codec", "jpeg"], 4, "no codec named 'jpeg' (choose one of"),
        (["encode", "pattern:8x8", "no/dir/x.lcast", "--codec", "pairs"], 7, "cannot create no/dir/x.lcast"),
        (["encode", "pattern:8x8", "/dev/full", "--codec", "pairs", "--frames", "9"], 7, "No space left"),
        (["decode", "nowhere.lcast", "x.png"], 7, "nowhere.lcast"),
        (["decode", "noise.lcast", "x.png"], 3, "not an .lcast file"),
        (["info", "noise.lcast"], 3, "not an .lcast file"),
        (["trim", "noise.lcast", "x.lcast", "--layers", "1"], 3, "not an .lcast file"),
        (["codecs", "nothing"], 4, "no codec named"),
        (["send", "pattern:8x8", "--to", "nowhere", "--codec", "pairs"], 2, "bad address"),
        (["receive", "--from", "nowhere"], 2, "bad address"),
        (["relay", "--listen", "nowhere"], 2, "bad address"),
        (["bench", "codec", "--images", "nowhere"], 7, "no such file"),
    ],
)
def test_an_error_is_one_line_with_a_hint_and_its_own_exit_code(
    run, tmp_path, monkeypatch, arguments, code, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.lcast").write_bytes(b"\x00\x01\x02\x03" * 500)
    got, _, err = run(*arguments)
    assert got == code, err
    assert err.startswith("layercast: error: ")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["encode", "a", "b", "--quality", "2"], "not a quality from 0 to 1"),
        (["trim", "a", "b"], "one of the arguments --layers --bytes --bitrate is required"),
        (["trim", "a", "b", "--bitrate", "fast"], "no size or rate; write 20000, 500k or 1.5M"),
        (["receive", "--from", "a:1", "--max-layers", "0"], "no whole number above 0"),
        (["receive", "--from", "a:1", "--link", "two words"], "bad link name"),
        (["bench", "codec", "--images", "x", "--layers", "some"], "no whole number above 0"),
    ],
)
def test_wrong_usage_exits_with_2(run, arguments, says):
    code, _, err = run(*arguments)
    assert code == 2
    assert says in err


COMMANDS = ["encode", "decode", "trim", "info", "send", "relay", "receive", "codecs", "bench", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "examples:" in out
    assert f"layercast {command}" in out.split("examples:")[1]


def test_every_example_in_the_help_is_a_valid_command_line(run):
    shown = [run("--help")[1], run("bench", "codec", "--help")[1]]
    shown += [run(command, "--help")[1] for command in COMMANDS]
    lines = {line.split("   ")[0].strip() for line in "\n".join(shown).split("\n  layercast ")[1:]}
    lines = {line.split("\n")[0].split("   ")[0].split(" | ")[0].strip() for line in lines}
    assert len(lines) > 25
    for line in sorted(lines):
        build_parser().parse_args(line.split())


@pytest.mark.parametrize(("text", "value"), [("20000", 20000), ("500k", 5e5), ("1.5M", 1.5e6), (".5G", 5e8)])
def test_sizes_are_decimal(text, value):
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "k", "1kk", "", "1e6", "0.2"])
def test_nonsense_sizes_are_refused(text):
    with pytest.raises(Exception, match="no size or rate"):
        quantity(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "two"])
def test_nonsense_counts_are_refused(text):
    with pytest.raises(Exception, match="no whole number"):
        count(text)


def test_the_version_is_the_packages(run):
    import layercast

    assert run("--version")[1].strip() == f"layercast {layercast.__version__}"


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    write_picture(tmp_path / "a.png", PatternSource(16, 16).draw(0))
    subprocess.run(
        [*WITH_PAIRS, "encode", str(tmp_path / "a.png"), str(tmp_path / "a.lcast"), "--codec", "pairs"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    ended = subprocess.run(
        [*LAYERCAST, "info", str(tmp_path / "a.lcast")], stdout=write_end, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write_end)
    assert ended.returncode == 128 + signal.SIGPIPE
    assert ended.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recording_is_a_complete_file(tmp_path, number):
    from layercast.bitstream import ContainerReader

    path = tmp_path / "endless.lcast"
    recording = subprocess.Popen(
        [*WITH_PAIRS, "encode", "pattern:64x64", str(path), "--codec", "pairs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while recording.poll() is None and not (path.exists() and path.stat().st_size > 50_000):
        pass
    recording.send_signal(number)
    out, err = recording.communicate(timeout=30)
    assert (recording.returncode, err) == (130, b"")
    with ContainerReader(path) as reader:
        assert not reader.truncated
        assert f"{len(reader)} frames".encode() in out


def test_naming_the_command_imports_nothing_heavy():
    program = "import sys, layercast.cli; layercast.cli.main(['codecs', '--help'])"
    program = f"try:\n {program}\nexcept SystemExit: pass\n"
    program += "heavy = {'numpy', 'PIL', 'av', 'grpc', 'onnxruntime', 'asyncio'} & set(sys.modules)\n"
    program += "assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, timeout=60)
