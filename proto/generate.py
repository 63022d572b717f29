"""Generate the Python code for proto/, or check that the committed code is current.

    python proto/generate.py           write sdk/layercast/transport/_pb/
    python proto/generate.py --check   exit 1 if the committed code does not match the proto files

The run-time version check that protoc writes is taken out: it would tie the package to one or two major
versions of the protobuf runtime, and the messages here use nothing newer than proto3 scalars and `repeated`.
The check compares descriptors, not text, so that it passes under any version of grpcio-tools.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
SOURCE = "layercast/v1/transport.proto"
TARGET = PROTO.parent / "sdk/layercast/transport/_pb"
MODULE = "transport_pb2"
VERSION_CHECK = re.compile(
    r"^from google\.protobuf import runtime_version[^\n]*\n|^_runtime_version\.Validate[^)]*\)\n"
    r"|^# Protobuf Python Version[^\n]*\n|^# NO CHECKED-IN PROTOBUF GENCODE\n",
    re.MULTILINE,
)


def run_protoc(*arguments: str) -> None:
    """Run protoc on the contract, or exit with its complaint."""
    include = Path(grpc_tools.__file__).parent / "_proto"
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *arguments, SOURCE]) != 0:
        sys.exit("protoc failed")


def generate(target: Path) -> None:
    """Write `transport_pb2.py` and `.pyi` into `target`."""
    with tempfile.TemporaryDirectory() as temporary:
        run_protoc(f"--python_out={temporary}", f"--pyi_out={temporary}")
        made = Path(temporary) / "layercast/v1"
        target.mkdir(parents=True, exist_ok=True)
        (target / "__init__.py").touch()
        code = (
            (made / f"{MODULE}.py")
            .read_text()
            .replace(f"layercast.v1.{MODULE}", f"layercast.transport._pb.{MODULE}")
        )
        (target / f"{MODULE}.py").write_text(VERSION_CHECK.sub("", code))
        (target / f"{MODULE}.pyi").write_text((made / f"{MODULE}.pyi").read_text())


def wanted_descriptor() -> FileDescriptorProto:
    """The descriptor that protoc makes from the proto file now."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "set.bin"
        run_protoc(f"--descriptor_set_out={out}")
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def committed_descriptor() -> FileDescriptorProto:
    """The descriptor inside the committed module, read without importing it."""
    tree = ast.parse((TARGET / f"{MODULE}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            return FileDescriptorProto.FromString(node.value)
    raise SystemExit(f"{TARGET / MODULE}.py holds no descriptor")


def without_json_names(descriptor: FileDescriptorProto) -> FileDescriptorProto:
    """Drop the JSON names, which protoc writes into one output and not into the other."""
    for message in descriptor.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return descriptor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the code is stale")
    if not parser.parse_args().check:
        generate(TARGET)
    elif without_json_names(wanted_descriptor()) != without_json_names(committed_descriptor()):
        sys.exit("generated code is stale: run `python proto/generate.py` (or `make proto`) and commit it")


if __name__ == "__main__":
    main()
