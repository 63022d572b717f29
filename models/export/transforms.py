"""Analysis and synthesis as ONNX: pictures in and out as bytes, in float32, or int8 around a float32 pyramid.

`analysis`   image (1, H, W, 3) uint8, gain (1,) -> y32, y16, y8 float32 in final steps
`synthesis`  z32, z16, z8 float32 in final steps, precision (1, 3), inverse_gain (1,) -> image (1, H, W, 3) uint8
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from models.export.graph import IR_VERSION, OPSET
from models.hierarchical.codec import Codec
from models.hierarchical.int8 import CLIPPED
from models.hierarchical.transforms import Synthesis

LINEAR = ("/l8/", "/ldc/", "/l16/", "/l32/", "/s16/", "/s32/", "/tiles/")
"""Node names of the linear pyramid: never quantised."""

DELICATE = ("/i32/", "/i16/", "/i8/", "/lin4/", "/d4/", "/out/")
"""Layers of synthesis that stay in float32 as well: what takes in latents, whose range is wide, and stride 4, whose
errors land in the picture as they are. With them in int8 quality 1 lost 0.40 dB on four validation pictures, without
0.14 dB."""


class AnalysisGraph(nn.Module):
    def __init__(self, model: Codec) -> None:
        super().__init__()
        self.analysis, self.gain = model.analysis, model.gain

    def forward(self, image: Tensor, gain: Tensor) -> tuple[Tensor, ...]:
        x = image.permute(0, 3, 1, 2).float() * (1 / 255)
        return tuple(
            (y * torch.exp(g.detach()) * gain).permute(0, 2, 3, 1)
            for y, g in zip(self.analysis(x), self.gain, strict=True)
        )


def as_shuffle(conv: nn.ConvTranspose2d) -> nn.Sequential:
    """The same map as a non-overlapping transposed convolution: 1x1, then pixel shuffle (4 times faster on a CPU)."""
    side, cout = conv.stride[0], conv.out_channels
    pointwise = nn.Conv2d(conv.in_channels, cout * side * side, 1, groups=conv.groups, bias=False)
    weight = conv.weight.detach()  # (cin, cout / groups, side, side)
    per_group = weight.view(conv.groups, -1, cout // conv.groups * side * side)
    pointwise.weight.data = per_group.transpose(1, 2).reshape(cout * side * side, -1, 1, 1).clone()
    return nn.Sequential(pointwise, nn.PixelShuffle(side))


def as_transposed(up: nn.Sequential) -> nn.ConvTranspose2d:
    """A 1x1 convolution and pixel shuffle by 2 as one transposed convolution (1.6 times faster on a CPU).

    Its bias is the mean of the four pixels' biases, which differ by 0.03 at most: below 0.003 dB.
    """
    conv = up[0]
    channels = conv.out_channels // 4
    out = nn.ConvTranspose2d(conv.in_channels, channels, 2, 2)
    out.weight.data = conv.weight.detach().view(channels, 2, 2, -1).permute(3, 0, 1, 2).clone()
    out.bias.data = conv.bias.detach().view(channels, 4).mean(1)
    return out


class FastSynthesis(Synthesis):
    """Synthesis with its pictures as 48 channels at stride 4, so that full size is reached once, at the end."""

    def __init__(self, source: Synthesis) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy.deepcopy(source).__dict__)
        for name in ("s16", "s32"):
            setattr(self, name, as_shuffle(getattr(self, name)))
        for name in ("u16", "u8", "u4"):
            setattr(self, name, as_transposed(getattr(self, name)))
        weight = torch.cat([self.s8.weight, self.sdc.weight]).detach()  # (c8 + 3, 3, 8, 8)
        n = len(weight)
        tiles = weight.view(n, 3, 2, 4, 2, 4).permute(0, 1, 3, 5, 2, 4)  # colour, y, x in the tile; tile y, x
        self.tiles = nn.ConvTranspose2d(n, 48, 2, 2, bias=False)
        self.tiles.weight.data = tiles.reshape(n, 48, 2, 2).clone()
        lin4 = nn.Conv2d(48, self.lin4.out_channels, 1)
        lin4.weight.data = self.lin4.weight.detach().view(-1, 48, 1, 1).clone()
        lin4.bias.data = self.lin4.bias.detach().clone()
        self.lin4 = lin4
        del self.s8, self.sdc

    def pyramid(self, t8: Tensor, dc: Tensor) -> Tensor:
        return self.tiles(torch.cat([t8, dc], 1))

    def corrected(self, linear: Tensor, correction: Tensor) -> Tensor:
        return self.shuffle(linear + correction) + 0.5


class SynthesisGraph(nn.Module):
    def __init__(self, model: Codec) -> None:
        super().__init__()
        self.synthesis, self.gain = FastSynthesis(model.synthesis), model.gain

    def forward(
        self, z32: Tensor, z16: Tensor, z8: Tensor, precision: Tensor, inverse_gain: Tensor
    ) -> Tensor:
        latents = tuple(
            z.permute(0, 3, 1, 2) * (torch.exp(-g.detach()) * inverse_gain)
            for z, g in zip((z32, z16, z8), self.gain, strict=True)
        )
        picture = self.synthesis(latents, precision)
        return torch.round(picture * 255).clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


def export_float(model: Codec, folder: Path) -> dict[str, Path]:
    """Both transforms as float32 ONNX with dynamic height and width; latents are channels-last."""
    c32, c16, c8 = model.config.latents
    grids = {"z32": (c32, 2), "z16": (c16, 4), "z8": (c8, 8)}
    latents = tuple(torch.zeros(1, s, s + s // 2, c) for c, s in grids.values())
    jobs = {
        "analysis": (
            AnalysisGraph(model),
            (torch.zeros(1, 64, 96, 3, dtype=torch.uint8), torch.ones(1)),
            ["image", "gain"],
            ["y32", "y16", "y8"],
            {"image": {1: "height", 2: "width"}},
        ),
        "synthesis": (
            SynthesisGraph(model),
            (*latents, torch.ones(1, 3), torch.ones(1)),
            [*grids, "precision", "inverse_gain"],
            ["image"],
            {n: {1: f"h{n[1:]}", 2: f"w{n[1:]}"} for n in grids},
        ),
    }
    paths = {}
    for name, (module, inputs, names, outputs, axes) in jobs.items():
        paths[name] = folder / f"{name}.float.onnx"
        dynamic = {**axes, **{o: {1: f"{o}_h", 2: f"{o}_w"} for o in outputs if o != "image"}}
        if name == "synthesis":
            dynamic["image"] = {1: "height", 2: "width"}
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                inputs,
                str(paths[name]),
                input_names=names,
                output_names=outputs,
                dynamic_axes=dynamic,
                opset_version=OPSET,
                dynamo=False,
            )
    return paths


class Feeds(CalibrationDataReader):
    def __init__(self, feeds: Iterable[dict[str, np.ndarray]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantise(source: Path, target: Path, feeds: Iterable[dict[str, np.ndarray]]) -> None:
    """Static int8 of every convolution that is neither LINEAR nor DELICATE; weights of 7 bits per channel, so that CPUs
    without VNNI do not saturate."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        graph = onnx.load(ready).graph
        spared = [n.name for n in graph.node if any(part in n.name for part in LINEAR + DELICATE)]
        quantize_static(
            str(ready),
            str(target),
            Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_exclude=spared,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": CLIPPED},
        )
    model = onnx.load(target)
    model.ir_version = IR_VERSION
    onnx.save(model, target)


def fix_shape(source: Path, target: Path, height: int, width: int) -> None:
    """The same network for pictures of one size (multiples of 32), as the compilers of NPUs want it."""
    if height % 32 or width % 32:
        raise ValueError(f"{height}x{width} is not a multiple of 32")
    sizes = {"height": height, "width": width}
    for stride in (32, 16, 8):
        sizes |= {f"h{stride}": height // stride, f"w{stride}": width // stride}
    model = onnx.load(source)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # This level folds what follows from sizes, and keeps the graph standard.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        model = onnx.load(options.optimized_model_filepath)
    onnx.save(onnx.shape_inference.infer_shapes(model, data_prop=True), target)
