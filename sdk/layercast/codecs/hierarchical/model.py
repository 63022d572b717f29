"""A zoo entry of the `hierarchical` codec: networks, tables and numbers, checked before use."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layercast.codecs.hierarchical import kernels
from layercast.codecs.hierarchical.kernels import KEYS, ROW_MIRROR, Costs, Ranked
from layercast.codecs.hierarchical.streams import VERSION as STREAMS_VERSION
from layercast.entropy import VERSION as ENTROPY_VERSION
from layercast.entropy import CdfTables
from layercast.errors import ModelError
from layercast.runtime import ProgramNetwork, Session, SessionOptions, keep_freed_memory, load_network
from layercast.runtime.session import MAX_MODEL_BYTES

DEFAULT_ENTRY = "hierarchical-1"
"""The zoo entry that ships with this version."""

GROUP_LETTERS = "abcdefgh"

FORMAT = 8
"""Version of the entry's layout; a newer one needs a newer layercast."""

TRANSFORMS = ("analysis", "synthesis")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Which trits of one refinement plane are coded, and in what order.

    Attributes:
        coded: (KEYS,) bool; false where a trit is near-certain and not coded.
        order: (entries,) int64, row keys of what is coded, in descending order of worth.
        bits: (entries,) int64, expected bits of a trit of each, in 1/1024.
    """

    coded: NDArray[np.bool_]
    order: NDArray[np.int64]
    bits: NDArray[np.int64]

    def classes(
        self,
        logits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
        table: NDArray[np.int16],
        energy: NDArray[np.float32],
        count: int,
        keys: NDArray[np.int16],
        threads: int,
    ) -> list[Ranked]:
        """Row keys, and the classes of worth with what each is expected to remove, as `kernels.rank`; what is
        near-certain is in none. Keys and positions are found in integers, so that both ends find the same."""
        order = self.order, self.bits
        return kernels.rank(logits, table, order, energy, count, keys, threads)


def prior_networks(groups: int, follow: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Names of the exact prior's networks for a model with so many groups of stride 8's channels in plane 0, that
    corrects what is expected of a trit in planes 1 and 2 once so many classes are known."""
    names = ["base16", *(f"base8{letter}" for letter in GROUP_LETTERS[:groups])]
    for plane, numbers in enumerate(follow, 1):
        names += [f"coarse{plane}", f"fine{plane}", *(f"follow{plane}_{k}" for k in numbers)]
    return tuple(names)


class Model:
    """Networks and tables of one entry.

    Args:
        folder: the entry's files; None for the one inside the package.
        options: how the networks run.

    Raises:
        ModelError: a file is missing, damaged, of a newer format, or fails its known-answer test.
    """

    def __init__(self, folder: str | Path | None = None, options: SessionOptions | None = None) -> None:
        keep_freed_memory()
        self.options = options or SessionOptions()
        self.files = _Files(folder)
        self.manifest = self.files.manifest
        data = self.files.arrays("tables.npz")
        config = self.manifest["config"]
        self.latents: tuple[int, int, int] = tuple(config["latents"])
        self.log_lambda: tuple[float, float] = tuple(config["log_lambda"])
        self.step_energy: float = config["step_energy"]
        self.base_tables = CdfTables.from_bytes(self.files.read("base.cdf"))
        self.trit_tables = CdfTables.from_bytes(self.files.read("trits.cdf"))
        self.top_mean: NDArray[np.int16] = data["top_mean"]
        self.top_scale: NDArray[np.uint8] = data["top_scale"]
        self.classes: tuple[int, int] = tuple(config["classes"])
        self.follow: tuple[tuple[int, ...], ...] = tuple(tuple(numbers) for numbers in config["follow"])
        self.groups: tuple[int, ...] = tuple(config["groups"])
        self.signed: int = config["signed"]
        self.sized: tuple[int, int] = tuple(config["sized"])
        self.prior_networks = prior_networks(len(self.groups), self.follow)
        self.biases = {name: data[f"bias_{name}"] for name in self.prior_networks if f"bias_{name}" in data}
        self.key_table = parted(data["key_table"])
        self.trit_mean: NDArray[np.float32] = data["trit_mean"]
        self.trit_energy: NDArray[np.float32] = data["trit_energy"]
        self.latent_energy: NDArray[np.float32] = data["latent_energy"]
        self.rankings = tuple(Ranking(data[f"coded{p}"], data[f"order{p}"], data[f"bits{p}"]) for p in (1, 2))
        self.surprise = surprises(self.trit_tables)
        self._scales = self.files.arrays("transforms.npz")
        self.filter_energy: NDArray[np.float32] = self._scales["filter_energy"]
        digest = hashlib.sha256(b"hierarchical" + bytes([ENTROPY_VERSION, STREAMS_VERSION]))
        for name in (*(f"{n}.onnx" for n in self.prior_networks), "tables.npz", "base.cdf", "trits.cdf"):
            digest.update(self.files.read(name))
        self.fingerprint = digest.digest()[:16]
        self._prior_options = SessionOptions("CPU", self.options.threads, self.options.optimise)

    @cached_property
    def networks(self) -> Mapping[str, Session | ProgramNetwork]:
        """The exact prior's networks, loaded at first use."""
        return {
            name: load_network(self.files.read(f"{name}.onnx"), name, self._prior_options)
            for name in self.prior_networks
        }

    @cached_property
    def analysis(self) -> Session | ProgramNetwork:
        return self._transform("analysis")

    @cached_property
    def synthesis(self) -> Session | ProgramNetwork:
        return self._transform("synthesis")

    @cached_property
    def projection(self) -> Session | ProgramNetwork:
        """Errors of a picture on stride 8's functions, which only an encoder that refines needs."""
        return self._transform("projection")

    @cached_property
    def chances(self) -> NDArray[np.uint64]:
        """What shifts of planes 1 and 2 are chosen by, which only an encoder does."""
        return chances(self.trit_tables)

    @cached_property
    def base_costs(self) -> Costs:
        """What those of plane 0 are chosen by."""
        return base_costs(self.base_tables)

    def _transform(self, name: str) -> Session | ProgramNetwork:
        return load_network(self.files.read(f"{name}.onnx"), name, self.options, exact=False)

    def prior(self, name: str, quality_index: int, **feeds: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Run one of the prior's networks at a quality index."""
        if name in self.biases:
            feeds["bias"] = self.biases[name][quality_index]
        return self.networks[name].run(feeds)

    def analysis_scales(self, quality_index: int) -> NDArray[np.float32]:
        """What multiplies analysis' latents to final steps, by channel."""
        gain: NDArray[np.float32] = self._scales["gain"] * np.float32(math.exp(self.log_gain(quality_index)))
        return gain

    def synthesis_scales(self, quality_index: int, missing: Sequence[float]) -> NDArray[np.float32]:
        """Channels' scales of synthesis' latents and blocks, by how precisely each level is known: first-order splines
        (Duan et al. 2023; NTC section 5).

        Args:
            missing: per level, planes that are missing, averaged over its symbols.
        """
        precision = quality_index / 255 - self.plane_quality * np.asarray(missing)
        return splined(self._scales, precision, math.exp(-self.log_gain(quality_index)))

    def log_gain(self, quality_index: int) -> float:
        """log(1 / final step) for pixels in 0..1."""
        return math.log(255.0) - 0.5 * (math.log(self.step_energy) - self.log_lambda_at(quality_index))

    def log_lambda_at(self, quality_index: int) -> float:
        """Logarithm of lambda: bits per pixel + lambda * 255**2 * MSE, pixels in 0..1, is what was trained for."""
        low, high = self.log_lambda
        return low + quality_index / 255 * (high - low)

    @property
    def plane_quality(self) -> float:
        """How much quality one plane is worth."""
        return 2 * math.log(3) / (self.log_lambda[1] - self.log_lambda[0])

    def self_test(self) -> None:
        """Run the prior on a fixed vector and compare with the manifest's known answer.

        Raises:
            ModelError: this machine's arithmetic gives other integers, so no stream could be decoded.
        """
        answer = known_answer(self)
        if answer != self.manifest["known_answer"]:
            raise ModelError(
                f"the exact prior gives {answer[:12]}, expected {self.manifest['known_answer'][:12]}",
                hint="this ONNX Runtime or execution provider is not exact: try another version",
            )


def splined(
    tables: Mapping[str, NDArray[Any]], precision: NDArray[np.float64], inverse_gain: float
) -> NDArray[np.float32]:
    """Synthesis' scales, (N,), from `transforms.npz`; precision (3,): of each level; latents are in steps of 1 /
    `inverse_gain`."""
    knots, levels, low = (tables[name] for name in ("knots", "levels", "precision_min"))
    position = np.clip((precision - low) / (1 - low), 0, 1) * (len(knots) - 1)
    basis = np.clip(1 - np.abs(np.arange(len(knots)) - position[:, None]), 0, None)  # hats, by level
    scales: NDArray[np.float32] = (basis.astype(np.float32) @ knots)[levels, np.arange(len(levels))]
    latents = len(tables["gain"])
    scales[:latents] = np.exp(scales[:latents]) * np.float32(inverse_gain)
    return scales


def parted(table: NDArray[np.int16]) -> NDArray[np.int16]:
    """Row keys by `centre << 8 | tilt`, (65536,), as what each logit contributes, (512,): sums of two small tables are
    quicker than one that the first cache does not hold.

    Raises:
        ModelError: they are no sums.
    """
    by_logits = table.reshape(256, 256)
    parts = np.concatenate([by_logits.min(1), by_logits[0] - by_logits[0].min()])
    if not np.array_equal(parts[:256, None] + parts[256:], by_logits):
        raise ModelError("row keys that are no sums", hint="update layercast")
    return parts


def surprises(tables: CdfTables) -> NDArray[np.uint8]:
    """(KEYS * 9,) uint8: 128 + 64 * (how far a symbol's magnitude grew above its expectation) by
    `9 key + 3 (trit + 1) + sign + 1`, sign that of the symbol before this plane; from integers alone."""
    down, _, up = tables.frequencies.reshape(-1, 3).astype(np.int64).T[:, :, None]
    grown, mean = (down + up + 512) >> 10, (up - down + 512) >> 10  # (rows, 1), in 1/64
    trit = np.array([-1, 0, 1])
    table = np.zeros((KEYS, 3, 3), np.int64)
    for start, centre in ((0, mean), (ROW_MIRROR, -mean)):
        off = 64 * trit - centre
        table[start : start + len(tables)] = np.stack([-off, 64 * np.abs(trit) - grown, off], axis=-1)
    clipped: NDArray[np.uint8] = np.clip(table + 128, 0, 255).astype(np.uint8).ravel()
    return clipped


def chances(tables: CdfTables) -> NDArray[np.uint64]:
    """(KEYS,) of a trit that is not 0, and from bit 24 on that times the rest, in 1/65536."""
    other = 65536 - tables.frequencies.reshape(-1, 3)[:, 1].astype(np.uint64)
    found = np.zeros(KEYS, np.uint64)
    for start in (0, ROW_MIRROR):
        found[start : start + len(tables)] = other + (other * (65536 - other) // 65536 << np.uint64(24))
    return found


ESCAPE_BITS = 12
"""About what telling an escaped symbol costs beside the escape."""


def base_costs(tables: CdfTables) -> Costs:
    """What plane 0's symbols cost."""
    bits = 16 - np.log2(tables.frequencies)
    bits[tables.starts[1:] - 1] += ESCAPE_BITS * tables.escaped
    return Costs(np.rint(256 * bits).astype(np.int32), tables.starts.astype(np.int32), tables.offsets)


def known_answer(model: Model) -> str:
    """SHA-256 over every integer output of the prior for a fixed pseudo-random input."""
    c32, c16, c8 = model.latents
    shapes = {"32": (1, 2, 3, c32), "16": (1, 4, 6, c16), "8": (1, 8, 12, c8)}
    state = np.random.RandomState(20)  # the legacy generator: its stream is frozen
    digest = hashlib.sha256()

    def draw(low: int, high: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return state.randint(low, high + 1, shape).astype(np.uint8)

    known = {level: draw(64, 192, shape) for level, shape in shapes.items()}
    rest = {
        f"{name}{level}": draw(low, high, shape)
        for name, low, high in (("s", 128, 248), ("u", 0, 2), ("g", 0, 2), ("e", 0, 63))
        for level, shape in shapes.items()
    }
    values = {f"c{level}": x for level, x in known.items()} | rest
    values["c8"] = np.ascontiguousarray(known["8"][..., : model.signed])
    finest = {name: x for name, x in values.items() if name[1:] == "8"}
    coarser = {name: x for name, x in values.items() if name[1:] != "8"}
    both = {name: x for name, x in coarser.items() if name[0] in "cs"} | finest
    sizes = [np.ascontiguousarray(finest["s8"][..., :sized]) for sized in model.sized]
    for quality in (0, 255):
        a = model.prior("base16", quality, c32=known["32"])
        outputs = [a, model.prior("base8a", quality, x16=a["x16"], c16=known["16"])]
        x16, x8 = outputs[1]["x16m"], outputs[1]["x8n"]
        for letter, group in zip(GROUP_LETTERS[1:], model.groups[:-1], strict=False):
            outputs.append(model.prior(f"base8{letter}", quality, x8=x8, c8=known["8"][..., :group]))
            x8 = outputs[-1]["x8n"]
        for plane, numbers in enumerate(model.follow, 1):
            coarse = model.prior(f"coarse{plane}", quality, **coarser, x16=x16)
            given = both | {"s8": sizes[plane - 1], "x16": coarse["y16"], "x8": x8}
            fine = model.prior(f"fine{plane}", quality, **given)
            x16, x8 = fine["y16"], fine["y8"]
            outputs += [coarse, fine]
            for k in numbers:
                given = {"x8": x8, "r8": known["8"], "centre8": fine["centre8"]}
                outputs.append(model.prior(f"follow{plane}_{k}", quality, **given))
        for out in outputs:
            for name in sorted(out):
                digest.update(out[name].tobytes())
    return digest.hexdigest()


class _Files:
    """An entry's files with their checksums."""

    def __init__(self, folder: str | Path | None) -> None:
        self._root = Path(folder) if folder is not None else resources.files("layercast.zoo") / DEFAULT_ENTRY
        try:
            self.manifest: dict[str, Any] = json.loads((self._root / "manifest.json").read_bytes())
        except (OSError, ValueError) as error:
            raise ModelError(f"no readable manifest in {self._root}", hint="reinstall layercast") from error
        if self.manifest.get("format") != FORMAT:
            raise ModelError(
                f"zoo entry of format {self.manifest.get('format')}, this layercast reads {FORMAT}",
                hint="update layercast",
            )
        self._cache: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        if name not in self._cache:
            try:
                data = (self._root / name).read_bytes()
            except OSError as error:
                raise ModelError(f"model file {name} is missing", hint="reinstall layercast") from error
            if len(data) > MAX_MODEL_BYTES or hashlib.sha256(data).hexdigest() != self.manifest["files"].get(
                name
            ):
                raise ModelError(f"model file {name} is damaged", hint="reinstall layercast")
            self._cache[name] = data
        return self._cache[name]

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        with np.load(io.BytesIO(self.read(name)), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
