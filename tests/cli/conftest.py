"""A codec for the command, and a way to run the command in this process."""

import pytest

from layercast.cli import main
from layercast.codecs.registry import codec_names, register

from .pairs import PairsCodec


@pytest.fixture(autouse=True)
def pairs():
    if "pairs" not in codec_names():
        register("pairs", PairsCodec)
    return PairsCodec()


@pytest.fixture
def run(capsys):
    """run("encode", ...) -> (exit code, stdout, stderr)."""

    def call(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse: usage errors and --help
            code = stopped.code
        out, err = capsys.readouterr()
        return code, out, err

    return call
