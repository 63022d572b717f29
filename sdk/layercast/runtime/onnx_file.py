"""Reads ONNX files without the `onnx` package: the few fields of its messages that our graphs use.

Field numbers are those of onnx.proto; protobuf skips every field that is not named here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

PACKAGE = "layercast.onnx"  # not `onnx`: that package's own descriptors may be in the process

MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelProto": {"graph": (7, "GraphProto")},
    "GraphProto": {
        "node": (1, "NodeProto*"),
        "initializer": (5, "TensorProto*"),
        "input": (11, "ValueInfoProto*"),
        "output": (12, "ValueInfoProto*"),
    },
    "NodeProto": {
        "input": (1, "string*"),
        "output": (2, "string*"),
        "op_type": (4, "string"),
        "attribute": (5, "AttributeProto*"),
    },
    "AttributeProto": {"name": (1, "string"), "i": (3, "int64"), "ints": (8, "int64*")},
    "TensorProto": {
        "dims": (1, "int64*"),
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "raw_data": (9, "bytes"),
    },
    "ValueInfoProto": {"name": (1, "string"), "type": (2, "TypeProto")},
    "TypeProto": {"tensor_type": (1, "TensorTypeProto")},
    "TensorTypeProto": {"elem_type": (1, "int32"), "shape": (2, "TensorShapeProto")},
    "TensorShapeProto": {"dim": (1, "DimensionProto*")},
    "DimensionProto": {"dim_value": (1, "int64")},
}
"""Messages with their fields: number and type, `*` where it is repeated."""

DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name) for number, name in ((1, "<f4"), (2, "u1"), (3, "i1"), (6, "<i4"), (7, "<i8"))
}
"""By TensorProto.DataType."""


def _message_class() -> type[Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": kinds.TYPE_STRING,
        "bytes": kinds.TYPE_BYTES,
        "int32": kinds.TYPE_INT32,
        "int64": kinds.TYPE_INT64,
    }
    file = descriptor_pb2.FileDescriptorProto(name="layercast/onnx.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            base = kind.rstrip("*")
            made = message.field.add(name=field, number=number)
            made.label = kinds.LABEL_REPEATED if kind != base else kinds.LABEL_OPTIONAL
            made.type = scalars.get(base, kinds.TYPE_MESSAGE)
            if base not in scalars:
                made.type_name = f".{PACKAGE}.{base}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made_class: type[Any] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{PACKAGE}.ModelProto")
    )
    return made_class


_Model = _message_class()


def read_graph(data: bytes) -> Any:
    """The graph of an ONNX file's bytes.

    Raises:
        google.protobuf.message.DecodeError: they are none.
    """
    return _Model.FromString(data).graph


def array(tensor: Any) -> NDArray[Any]:
    """An initialiser's values.

    Raises:
        KeyError: of a type that is not in `DTYPES`.
        ValueError: not as many as its shape says.
    """
    values: NDArray[Any] = np.frombuffer(tensor.raw_data, DTYPES[tensor.data_type])
    return values.reshape(tuple(tensor.dims))
