"""One network in ONNX Runtime, and which execution provider runs it.

Analysis and synthesis may run anywhere. The exact prior runs on whatever passes its known-answer test; the
default is the CPU for it, because moving small integer tensors to an accelerator costs more than it saves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from layercast.errors import ConfigError, ModelError

PREFERENCE: tuple[tuple[str, str], ...] = (
    ("TensorrtExecutionProvider", "an NVIDIA GPU with TensorRT"),
    ("CUDAExecutionProvider", "an NVIDIA GPU"),
    ("CoreMLExecutionProvider", "an Apple accelerator"),
    ("DmlExecutionProvider", "a DirectX 12 GPU"),
    ("OpenVINOExecutionProvider", "an Intel accelerator"),
    ("QNNExecutionProvider", "a Qualcomm NPU"),
    ("CPUExecutionProvider", "the CPU"),
)
"""Execution providers by preference, each with what it stands for."""

MAX_MODEL_BYTES = 64 << 20
"""Largest network file that is read; the whole zoo entry is under 16 MB."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How networks run.

    Attributes:
        provider: "auto", or an execution provider's name as ONNX Runtime spells it, with or without
            the suffix "ExecutionProvider".
        threads: threads of one network; 0 means one per core that this process may use.
        optimise: run networks as programs where the CPU is to run them (`runtime.programs`), and ONNX Runtime's graph
            optimisations.
    """

    provider: str = "auto"
    threads: int = 0
    optimise: bool = True

    @property
    def thread_count(self) -> int:
        return self.threads or available_cores()


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_provider(wanted: str = "auto") -> tuple[str, str]:
    """(execution provider, reason), the reason being one line for people.

    Raises:
        ConfigError: the wanted provider is not in this build of ONNX Runtime.
    """
    available = ort.get_available_providers()
    if wanted != "auto":
        name = wanted if wanted.endswith("ExecutionProvider") else f"{wanted}ExecutionProvider"
        match = [p for p in available if p.lower() == name.lower()]
        if not match:
            raise ConfigError(
                f"execution provider {wanted!r} is not in this build of ONNX Runtime",
                hint=f"available: {', '.join(available)}",
            )
        return match[0], "asked for by name"
    for name, device in PREFERENCE:
        if name in available:
            return name, f"first of {len(available)} available: {device}"
    return available[0], "the only one available"


class Session:
    """A loaded network.

    Args:
        model: the ONNX file's bytes.
        name: for messages.
        options: how to run it.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """

    def __init__(self, model: bytes, name: str, options: SessionOptions) -> None:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.thread_count
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        # Spinning keeps worker threads hot between two networks of one frame, but also between frames,
        # where a camera wants its cores back.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        level = ort.GraphOptimizationLevel
        settings.graph_optimization_level = (
            level.ORT_ENABLE_ALL if options.optimise else level.ORT_DISABLE_ALL
        )
        self.provider, self.reason = choose_provider(options.provider)
        providers = [self.provider, *(["CPUExecutionProvider"] if self.provider[:3] != "CPU" else [])]
        try:
            self._session = ort.InferenceSession(model, settings, providers=providers)
        except Exception as error:  # ONNX Runtime raises a family of private types
            raise ModelError(
                f"cannot load network {name!r}: {str(error).splitlines()[0]}",
                hint="reinstall layercast, or update onnxruntime",
            ) from error
        self.name = name
        self._outputs = [o.name for o in self._session.get_outputs()]
        self._inputs = [i.name for i in self._session.get_inputs()]

    @property
    def inputs(self) -> list[str]:
        return list(self._inputs)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs by name.

        Raises:
            ModelError: the network refused its inputs or ran out of memory.
        """
        try:
            values = self._session.run(self._outputs, dict(feeds))
        except Exception as error:
            raise ModelError(
                f"network {self.name!r} failed: {str(error).splitlines()[0]}",
                hint="a smaller picture, or another execution provider",
            ) from error
        return {name: np.asarray(value) for name, value in zip(self._outputs, values, strict=True)}
