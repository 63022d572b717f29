"""Analysis and synthesis as ONNX: pictures in and out as bytes, in float32, or int8 around a float32 pyramid.

`analysis`    image (1, H, W, 3) uint8, scales (latents,) -> y32, y16, y8 float32 in final steps
`synthesis`   z32, z16, z8 float32 in final steps, scales (N,) -> image (1, H, W, 3) uint8
`projection`  error (1, H, W, 3) float32 in levels -> projected (1, H/8, W/8, C) on synthesis' functions at stride 8

Channels' scales depend on the quality and on how precisely the latents are known; they are computed outside, from
`scale_tables`.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
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
from models.hierarchical.int8 import CLIPPED, weight_scale
from models.hierarchical.transforms import PRECISION_MIN, Block

DELICATE = ("/d4/",)
"""Convolutions of synthesis that stay in float32: stride 4's, whose errors land in the picture as they are. In int8
they lose 0.31 dB at quality 1 (six Kodak crops). With 48 more hidden units and 26 minutes of training for it they
reached, in int8 and in the same time, what they are in float32 without."""

ROUNDED = ("/u4/", "/u8/")
"""Matrix products of synthesis that run in int8: the steps up to strides 4 and 8, which lose 0.01 and 0.03 dB at
quality 1 before training for it, less than that training gains after it. The one to stride 16 is small. What takes in
latents, whose range is wide, and what makes the picture stay in float32."""

BANDS = (0, 4, 8, 1, 2, 3, 5, 6, 7, 9, 10, 11)
"""Of three colours' four bands at stride 16, one colour's behind another's: those that come from stride 32 first, then
the other nine."""


def first(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


def last(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


class Pointwise(nn.Module):
    """A 1x1 convolution with channels last, as a matrix product: a fifth less time than a convolution, for which ONNX
    Runtime moves the channels to other places and back."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight (cout, cin), or (cout, cin, 1, 1) of a convolution; bias (cout,)."""
        super().__init__()
        self.weight = nn.Parameter(weight.detach().flatten(1).T.contiguous())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class Spread(nn.Module):
    """A 1x1 convolution to side * side * C channels, ordered (y, x, C), and these to side x side pixels of C channels;
    channels are last. In this order whole rows of channels move, four times as fast as in a pixel shuffle.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight (side, side, C, cin), bias (side, side, C)."""
        super().__init__()
        self.side, self.channels = weight.shape[1:3]
        self.mix = Pointwise(weight.reshape(-1, weight.shape[3]), None if bias is None else bias.reshape(-1))

    @classmethod
    def of_transposed(cls, conv: nn.ConvTranspose2d) -> Spread:
        """The same map as a transposed convolution whose filters do not overlap."""
        weight, groups, side = conv.weight.detach(), conv.groups, conv.stride[0]
        cin, each = weight.shape[:2]
        full = torch.zeros(side, side, groups * each, cin)
        for g in range(groups):
            inputs = slice(g * cin // groups, (g + 1) * cin // groups)
            full[:, :, g * each : (g + 1) * each, inputs] = weight[inputs].permute(2, 3, 1, 0)
        return cls(full)

    @classmethod
    def of_shuffled(cls, up: nn.Sequential, more: Tensor) -> Spread:
        """The same map as a 1x1 convolution and a pixel shuffle by 2, and `more` (C,) added to every pixel."""
        weight, bias = up[0].weight.detach(), up[0].bias.detach()
        channels = len(bias) // 4
        return cls(
            weight.view(channels, 2, 2, -1).permute(1, 2, 0, 3),
            bias.view(channels, 2, 2).permute(1, 2, 0) + more.detach(),
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x (1, H, W, cin); size: (H, W), from a graph's input so that no shape is asked of what it computes."""
        (h, w), side, channels = size, self.side, self.channels
        y = self.mix(x).reshape(h, w, side, side * channels)
        return y.permute(0, 2, 1, 3).reshape(1, side * h, side * w, channels)


class Scales:
    """Takes what belongs to each part, in turn, from a network's `scales`."""

    def __init__(self, scales: Tensor) -> None:
        self._scales, self._at = scales, 0

    def take(self, count: int) -> Tensor:
        self._at += count
        return self._scales[self._at - count : self._at]


class Gather(nn.Module):
    """A convolution whose filters do not overlap, channels last: side x side pixels become one of side * side * C
    channels, ordered (y, x, C), and these are mixed. The inverse of `Spread`'s moves."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight (cout, C, side, side) of the convolution, bias (cout,)."""
        super().__init__()
        self.channels, self.side = weight.shape[1:3]
        self.mix = Pointwise(weight.permute(0, 2, 3, 1).flatten(1), bias)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x (1, side * H, side * W, C); size: (H, W), from the graph's input."""
        return self.mix(self.gathered(x, size))

    def gathered(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """What is mixed."""
        (h, w), side, channels = size, self.side, self.channels
        return (
            x.reshape(h, side, w, side * channels)
            .permute(0, 2, 1, 3)
            .reshape(1, h, w, side * side * channels)
        )


def ungrouped(conv: nn.Conv2d) -> Tensor:
    """A grouped convolution's weights as those of a plain one."""
    cout, each, *side = conv.weight.shape
    full = torch.zeros(cout, conv.in_channels, *side)
    for i, weight in enumerate(conv.weight.detach()):
        begin = i * conv.groups // cout * each
        full[i, begin : begin + each] = weight
    return full


def living(stage: nn.Sequential) -> tuple[Tensor, nn.ModuleList]:
    """The blocks of a stage of analysis that have hidden units, and the bias (C,) of the stage's first convolution.

    A block without any adds its last bias, which becomes part of the bias before it.
    """
    bias = stage[0].bias.detach().clone()
    blocks: list[Block] = []
    for block in stage[1:]:
        if block.a.out_channels:
            blocks.append(block)
        elif blocks:
            blocks[-1].b.bias.data += block.b.bias.detach()
        else:
            bias += block.b.bias.detach()
    return bias, nn.ModuleList(LastBlock(block) for block in blocks)


class LastBlock(nn.Module):
    """`Block` with channels last outside its convolutions."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.dw, self.a, self.b = block.dw, block.a, block.b

    def forward(self, x: Tensor, scales: Scales | None = None) -> Tensor:
        y = first(x if scales is None else x * scales.take(self.dw.in_channels))
        return x + last(self.b(torch.relu(self.a(self.dw(y)))))


class AnalysisGraph(nn.Module):
    """Analysis as a CPU runs it fastest: channels last; what both the pyramid and the networks see is mixed at once."""

    def __init__(self, model: Codec) -> None:
        super().__init__()
        a = copy.deepcopy(model.analysis)
        self.latents = model.config.latents
        c8 = a.l8.out_channels
        # Of a picture in levels 0..255: stride 8's functions, DC, the networks' features.
        filters = torch.cat([a.l8.weight, a.ldc.weight, a.e8[0].weight]).detach() / 255
        bias = -127.5 * filters.sum((1, 2, 3))
        bias8, self.e8 = living(a.e8)
        bias[c8 + 3 :] += bias8
        self.split = (c8, c8 + 3)
        self.enter = Gather(filters, bias)
        self.bands16, self.bands32 = Gather(ungrouped(a.l16)[list(BANDS)]), Gather(ungrouped(a.l32))
        (bias16, self.e16), (bias32, self.e32) = living(a.e16), living(a.e32)
        self.down16, self.down32 = Gather(a.e16[0].weight, bias16), Gather(a.e32[0].weight, bias32)
        # The pyramid reaches the first channels of a level; a network finds the `rest` alone.
        pairs = list(zip(a.y, (a.l32.out_channels, 9, c8), strict=True))
        self.y = nn.ModuleList(Pointwise(y.weight[:n], y.bias[:n]) for y, n in pairs)
        self.rest = nn.ModuleList(
            Pointwise(y.weight[n:], y.bias[n:]) if n < y.out_channels else nn.Identity() for y, n in pairs
        )

    def forward(self, image: Tensor, scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of, (c8, end) = Scales(scales), self.split
        h, w = (n // 32 for n in image.shape[1:3])
        f = self.enter.mix(self.enter.gathered(image, (4 * h, 4 * w)).float())
        linear8, dc, f8 = f[..., :c8], f[..., c8:end], f[..., end:]
        for block in self.e8:
            f8 = block(f8)
        bands = self.bands16(dc, (2 * h, 2 * w))
        f16 = self.down16(f8, (2 * h, 2 * w))
        for block in self.e16:
            f16 = block(f16)
        f32 = self.down32(f16, (h, w))
        for block in self.e32:
            f32 = block(f32)
        linear = self.bands32(bands[..., :3], (h, w)), bands[..., 3:], linear8
        found = []
        for x, y, rest, known, n in zip((f32, f16, f8), self.y, self.rest, linear, self.latents, strict=True):
            z = y(x) + known
            if isinstance(rest, Pointwise):
                z = torch.cat([z, rest(x)], 3)
            found.append(z * of.take(n))
        return tuple(found)


class SynthesisGraph(nn.Module):
    """Synthesis as a CPU runs it fastest: channels last, and the picture as 48 channels at stride 4, (y, x, colour) of
    a tile, until it is bytes."""

    def __init__(self, model: Codec) -> None:
        super().__init__()
        s = copy.deepcopy(model.synthesis)
        self.latents = model.config.latents
        self.s32, self.s16 = Spread.of_transposed(s.s32), Spread.of_transposed(s.s16)
        self.s16.mix.weight.data = self.s16.mix.weight.data[list(BANDS)]
        order = torch.arange(48).view(3, 4, 4).permute(1, 2, 0).reshape(-1)
        # 1/2 for pixels that are 0 in the middle, and 1/2 of a level for rounding, since a cast cuts off.
        level = (255 * (s.out.bias[order] + 0.5) + 0.5).detach()
        pyramid = torch.cat([s.s8.weight, s.sdc.weight]).detach()  # (c8 + 3, 3, 8, 8)
        tiles = 255 * pyramid.view(-1, 3, 2, 4, 2, 4).permute(2, 4, 3, 5, 1, 0).reshape(2, 2, 48, -1)
        self.tiles = Spread(tiles, level.expand(2, 2, 48))  # tile y, x; y, x in it and colour
        self.i32, self.i16, self.i8 = (
            Pointwise(s.i32.weight, s.i32.bias),
            Pointwise(s.i16.weight),
            Pointwise(s.i8.weight),
        )
        self.d32, self.d16, self.d8 = (
            nn.ModuleList(LastBlock(block) for block in blocks) for blocks in (s.d32, s.d16, s.d8)
        )
        lin4 = s.lin4.weight.detach().permute(0, 2, 3, 1).flatten(1) / 255
        self.u16, self.u8, self.u4 = (
            Spread.of_shuffled(up, more)
            for up, more in ((s.u16, s.i16.bias), (s.u8, s.i8.bias), (s.u4, s.lin4.bias - lin4 @ level))
        )
        self.lin4, self.d4 = Pointwise(lin4), LastBlock(s.d4)
        self.out = Pointwise(255 * s.out.weight[order])

    def forward(self, z32: Tensor, z16: Tensor, z8: Tensor, scales: Tensor) -> Tensor:
        of = Scales(scales)
        size32, size16, size8 = (z.shape[1:3] for z in (z32, z16, z8))
        t32, t16, t8 = (z * of.take(n) for z, n in zip((z32, z16, z8), self.latents, strict=True))
        dc = self.s32(t32[..., :12], size32)
        dc = self.s16(torch.cat([dc, t16[..., :9]], 3), size16)
        linear = self.tiles(torch.cat([t8, dc], 3), size8)
        d = self.i32(t32)
        for block in self.d32:
            d = block(d, of)
        d = self.i16(t16) + self.u16(d, size32)
        for block in self.d16:
            d = block(d, of)
        d = self.i8(t8) + self.u8(d, size16)
        for block in self.d8:
            d = block(d, of)
        d = self.lin4(linear) + self.u4(d, size8)
        d = self.d4(d, of)
        tiles = (linear + self.out(d)).clamp(0, 255).to(torch.uint8)
        h, w = size8
        return tiles.reshape(2 * h, 2 * w, 4, 12).permute(0, 2, 1, 3).reshape(1, 8 * h, 8 * w, 3)


class ProjectionGraph(nn.Module):
    """An error of the picture on stride 8's linear functions of synthesis: half the slope of its square."""

    def __init__(self, model: Codec) -> None:
        super().__init__()
        self.gather = Gather(model.synthesis.s8.weight.detach() / 255)

    def forward(self, error: Tensor) -> Tensor:
        h, w = (n // 8 for n in error.shape[1:3])
        return self.gather(error, (h, w))


def scale_tables(model: Codec) -> dict[str, np.ndarray]:
    """What `scales` of both networks are made of (`Model.analysis_scales`, `Model.synthesis_scales`).

    Returns:
        gain: (latents,) of analysis, without the quality's; knots: (PRECISION_KNOTS, N) of synthesis, at precisions
        from `precision_min` to 1, of latents (as logarithms) and of blocks; levels: (N,) the level whose precision
        each depends on; filter_energy: (C,) sums of squares of stride 8's functions, pixels in 0..1.
    """
    s = model.synthesis
    gain = np.concatenate([g.detach().numpy().ravel() for g in model.gain])
    splines = [(level, spline.t) for level, spline in enumerate(s.shrink)]
    for level, blocks in enumerate((s.d32, s.d16, s.d8)):
        splines += [(level, block.scale.t) for block in blocks]
    splines.append((2, s.d4.scale.t))
    knots = np.concatenate([t.detach().numpy() for _, t in splines], 1).astype(np.float32)
    knots[:, : len(gain)] -= gain
    knots[:, len(gain) :] += 1
    return {
        "gain": np.exp(gain).astype(np.float32),
        "knots": knots,
        "levels": np.concatenate([np.full(t.shape[1], level, np.uint8) for level, t in splines]),
        "precision_min": np.float32(PRECISION_MIN),
        "filter_energy": s.s8.weight.detach().square().sum((1, 2, 3)).numpy().astype(np.float32),
    }


def export_float(model: Codec, folder: Path) -> dict[str, Path]:
    """All three as float32 ONNX with dynamic height and width; latents are channels-last."""
    c32, c16, c8 = model.config.latents
    grids = {"z32": (c32, 2), "z16": (c16, 4), "z8": (c8, 8)}
    latents = tuple(torch.zeros(1, s, s + s // 2, c) for c, s in grids.values())
    jobs = {
        "analysis": (
            AnalysisGraph(model),
            (torch.zeros(1, 64, 96, 3, dtype=torch.uint8), torch.ones(sum(model.config.latents))),
            ["image", "scales"],
            ["y32", "y16", "y8"],
            {"image": {1: "height", 2: "width"}},
        ),
        "synthesis": (
            SynthesisGraph(model),
            (*latents, torch.ones(len(scale_tables(model)["levels"]))),
            [*grids, "scales"],
            ["image"],
            {n: {1: f"h{n[1:]}", 2: f"w{n[1:]}"} for n in grids},
        ),
        "projection": (
            ProjectionGraph(model),
            (torch.zeros(1, 64, 96, 3),),
            ["error"],
            ["projected"],
            {"error": {1: "height", 2: "width"}},
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
        # Folds what is constant, which is all that a program cannot read.
        quant_pre_process(str(paths[name]), str(paths[name]), skip_symbolic_shape=True)
        tidy(paths[name])
    return paths


class Feeds(CalibrationDataReader):
    def __init__(self, feeds: Iterable[dict[str, np.ndarray]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def filter_scales(source: Path) -> dict[str, list[dict[str, Any]]]:
    """Scales of depthwise filters' weights by name and channel, which alone are not given by the largest weight."""
    weights = {i.name: numpy_helper.to_array(i) for i in onnx.load(source).graph.initializer}
    filters = {name: w for name, w in weights.items() if w.ndim == 4 and w.shape[1] == 1}
    return {
        name: [
            {"quant_type": QuantType.QInt8, "axis": 0, "scale": scale, "zero_point": np.int8(0)}
            for scale in weight_scale(torch.tensor(w)).numpy()
        ]
        for name, w in filters.items()
    }


def quantise(
    source: Path, target: Path, feeds: Iterable[dict[str, np.ndarray]], outputs: bool = False
) -> None:
    """Static int8 of what `export_float` made: convolutions that are not DELICATE, products that are ROUNDED; weights
    of 7 bits per channel, so that CPUs without VNNI do not saturate.

    Args:
        outputs: whether what they make is rounded even where no other of them reads it, as NPUs want it.
    """
    kinds = ["Conv", "Relu", "MatMul"]
    spared = [n.name for n in onnx.load(source).graph.node if is_spared(n)]
    quantize_static(
        str(source),
        str(target),
        Feeds(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=kinds,
        nodes_to_exclude=spared,
        calibrate_method=CalibrationMethod.Percentile,
        extra_options={
            "CalibPercentile": CLIPPED,
            "TensorQuantOverrides": filter_scales(source),
            "OpTypesToExcludeOutputQuantization": [] if outputs else kinds,
        },
    )
    tidy(target)


def is_spared(node: onnx.NodeProto) -> bool:
    """Whether a node of a transform stays in float32."""
    if node.op_type == "MatMul":
        return not any(part in node.name for part in ROUNDED)
    return any(part in node.name for part in DELICATE)


def tidy(path: Path) -> None:
    """Every constant as raw bytes, which is how the runtime reads them, and a version that older runtimes know."""
    model = onnx.load(path)
    model.ir_version = IR_VERSION
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, path)


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
