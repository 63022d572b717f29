"""From the command line to one subcommand, and from whatever it raises to one line and an exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import layercast
from layercast.cli import bench, codecs, decode, demo, encode, info, receive, relay, send, token, trace, trim
from layercast.cli.arguments import Formatter
from layercast.errors import LayercastError, MediaError, MissingDependencyError

EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE

EPILOG = """\
first steps:
  layercast demo                                   see it work, on this machine alone
  layercast encode photo.png photo.lcast           a picture as layers
  layercast trim photo.lcast small.lcast --bytes 20k
  layercast decode small.lcast small.png

over the network, in three terminals:
  layercast relay --listen 127.0.0.1:7400
  layercast receive --from 127.0.0.1:7400 --stream cam1 --max-bitrate 500k frames/
  layercast send pattern:640x480@15 --to 127.0.0.1:7400 --stream cam1

exit codes: 0 done, 1 the demo's promise was not kept, 2 wrong usage or settings, 3 damaged bytes,
  4 codec or model, 5 network, 6 access refused, 7 picture, video, camera or disk,
  8 a package is missing, 130 interrupted, 141 the reader of the output went away

`layercast COMMAND --help` tells more about each command, with examples."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="layercast",
        description="Images and video as layers: every prefix of a frame's layers is a good picture.",
        epilog=EPILOG,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"layercast {layercast.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (encode, decode, trim, info, send, relay, receive, token, trace, codecs, bench, demo):
        module.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (sys.argv by default) and return the exit code."""
    args = build_parser().parse_args(arguments)
    # gRPC's own log lines would stand beside the one line that names the error and its cure.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # The codecs' matrices are small. A BLAS thread per core gains little on an idle machine, and on a busy one its
    # threads wait for each other: ten times slower was measured with two other processes on two cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it exits: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except (LayercastError, OSError, ImportError) as error:
        typed = _typed(error)
        print(f"layercast: error: {' '.join(str(typed).split())}", file=sys.stderr)
        return typed.exit_code
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _typed(error: LayercastError | OSError | ImportError) -> LayercastError:
    if isinstance(error, LayercastError):
        return error
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return MediaError(
            f"{name}{error.strerror or error}", hint="check the path, its rights and the free space"
        )
    if (error.name or "").startswith("layercast"):
        raise error
    return MissingDependencyError(
        f"this command needs the package {error.name!r}", hint='install it with: pip install "layercast[all]"'
    )


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
