"""The AVX-512 VNNI programs on any processor with AVX2: all of their code but its one instruction, compiled anew."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from models.export.reference import evaluate
from tests.runtime.test_float_programs import Builder, floats
from tests.runtime.test_programs import block, picture

import layercast
from layercast.runtime.programs import INSTRUCTIONS, ProgramNetwork, network, plan

SOURCE = Path(layercast.__file__).parent / "runtime" / "_programs.c"
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = [
    pytest.mark.skipif(not INSTRUCTIONS, reason="no compiled kernel for this processor"),
    pytest.mark.skipif(not COMPILER or not SOURCE.exists(), reason="needs a C compiler and the sources"),
]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    made = tmp_path_factory.mktemp("emulated") / "_programs.so"
    flags = ["-std=c11", "-O2", "-fPIC", "-shared", "-DEMULATE_VNNI", f"-I{sysconfig.get_paths()['include']}"]
    subprocess.run([str(COMPILER), *flags, str(SOURCE), "-o", str(made), "-lpthread"], check=True)
    spec = importlib.util.spec_from_file_location("layercast.runtime._programs", made)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("channels", "outputs"), [(4, 4), (30, 57), (108, 108)])
def test_dot_products_give_the_integers_of_int64(
    emulated: ModuleType, channels: int, outputs: int, extreme: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "avx512vnni" in emulated.SETS
    monkeypatch.setattr(plan, "compiled", emulated)
    monkeypatch.setattr(network, "INSTRUCTIONS", emulated.SETS)
    model = block(channels, outputs, extreme)
    made = ProgramNetwork(model.SerializeToString(), "block", 2, "avx512vnni")
    for h, w in ((1, 1), (2, 7), (9, 4)):
        feeds = picture(channels, h, w)
        np.testing.assert_array_equal(made.run(feeds)["y"], evaluate(model, feeds)["y"])


def test_products_of_floats(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    x = b.input("x", 31)
    b.output(b.op("Relu", b.matmul(x, 31, 45)), "y")
    feeds = {"x": floats(3, 19, 31)}
    expected = ProgramNetwork(b.model(), "g", 1, "avx2", exact=False).run(feeds)["y"]
    monkeypatch.setattr(plan, "compiled", emulated)
    monkeypatch.setattr(network, "INSTRUCTIONS", emulated.SETS)
    for threads in (1, 2):
        made = ProgramNetwork(b.model(), "g", threads, "avx512vnni", exact=False).run(feeds)["y"]
        np.testing.assert_array_equal(made, expected)
