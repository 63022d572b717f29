"""The programs in README.md and examples/ run, and what README.md points to exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from layercast.cli.main import build_parser
from layercast.demo import assets
from layercast.media import read_picture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
BLOCKS = [text for language, text in FENCED if language == "python"]


def run(program, *arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        # As the `layercast` command does: BLAS threads that wait for each other are slow beside other tests.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_quickstart_is_five_lines_and_makes_a_coarse_picture(tmp_path):
    quickstart = BLOCKS[0]
    assert len(quickstart.splitlines()) == 5
    shutil.copy(assets.path("kodim20.png"), tmp_path / "photo.png")
    run(["-c", quickstart], cwd=tmp_path)
    difference = read_picture(tmp_path / "coarse.png").astype(int) - read_picture(tmp_path / "photo.png")
    assert 0 < (difference**2).mean() < 255**2 / 100, "coarse, and better than 20 dB"


def test_the_network_program_prints_a_line_per_frame():
    lines = run(["-c", BLOCKS[1]]).splitlines()
    assert len(lines) == 5
    # At most the four layers asked for; fewer at first, while the relay learns the link.
    assert all(re.match(r"\(240, 320, 3\) [1-4] of ", line) for line in lines)


def test_the_loopback_example_runs():
    assert len(run([str(ROOT / "examples" / "loopback.py")]).splitlines()) == 10


@pytest.fixture
def start():
    """start(program, ...) -> a process that is gone after the test, however it ends."""
    started = []

    def call(*program):
        started.append(subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.communicate()


def test_the_camera_and_watch_examples_work_together(start):
    relay = start("-m", "layercast.cli", "relay", "--listen", "127.0.0.1:0")
    address = relay.stdout.readline().split()[-1]
    start(str(ROOT / "examples" / "camera_loop.py"), "pattern:64x48@50", address, "cam1")
    lines = run([str(ROOT / "examples" / "watch.py")], address, "cam1", "400000", "12").splitlines()
    assert len(lines) == 12


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "docs/why.md", "docs/glossary.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_commands_in_the_readme_are_valid():
    plain = "".join(text for language, text in FENCED if not language)
    lines = re.findall(r"^layercast (.+?)(?:\s+#.*)?$", plain, re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        build_parser().parse_args(line.split())
