"""The one description of the `hierarchical` codec's shape, shared by training, export and (as JSON) the runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PLANES = 3
"""Planes of the embedded quantiser: steps 9, 3 and 1 (in units of the final step)."""

PLANE_FACTOR = 3
"""Ratio of one plane's step to the next one's; odd, so that the grids nest (DPICT, Lee et al. 2022)."""

MEAN_FRACTION = 16
"""The prior's means are integers in 1/16 of plane 0's step."""

COARSE_MEANS = 0.5
"""How much of a mean counts at strides 32 and 16, where trits that have not come stand at it, as in the runtime's
`walk.py`."""

LOGIT_FRACTION = 4
"""Trit logits are integers in quarters: the rate lost to the grid is about 0.1 %."""

CENTRE_MIN, CENTRE_MAX = -2 * LOGIT_FRACTION, 8 * LOGIT_FRACTION
"""Range of the centre logit (log odds of trit 0 against the geometric mean of -1 and +1), in quarters."""

TILT_MAX = 4 * LOGIT_FRACTION
"""Largest tilt logit (half the log odds of +1 against -1), in quarters; negative tilts mirror the trit."""

SCALE_ROWS = 64
"""Rows of plane 0's table: standard deviations SCALE_MIN * exp(index * SCALE_LOG_STEP), unit plane 0's step."""

SCALE_MIN, SCALE_MAX = 0.06, 24.0
SCALE_LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_ROWS - 1)

OFFSETS = 16
"""Rows of plane 0's table for each standard deviation, by how far the distribution lies off 0; negative offsets mirror
the symbol."""

OFFSET_FRACTION = 8
"""Offsets are integers in eighths of the standard deviation."""


@dataclass(frozen=True)
class Config:
    """Sizes of every network.

    Attributes:
        latents: channels of the levels at strides 32, 16, 8.
        widths: feature channels of analysis and synthesis at strides 32, 16, 8.
        width4: feature channels of synthesis at stride 4.
        depths: blocks of analysis and synthesis at strides 32, 16, 8.
        prior: hidden channels of the priors at strides 32, 16, 8.
        groups: channels of stride 8's layers in plane 0.
        signed: channels of stride 8, the first ones, whose signs the prior uses: as context, and to say which sign a
            symbol in plane 0, or one that is 0 so far, may get, or whether one that is not will grow. The finer ones'
            signs are as good as random.
        sized: channels of stride 8, the first ones, whose magnitudes planes 1 and 2 use as context. Those of the finer
            ones were worth 0.05 % of the bits.
        surprising: channels of stride 8, the first ones, of which corrections within a plane see how they turned out.
        classes: classes of worth of stride 8's trits in planes 1 and 2; each is a layer.
        follow: of planes 1 and 2, how many classes are known when a network corrects what is expected of the rest.
            Before the last class of plane 2 alone costs 0.1 % of the bits at quality 1, 0.8 % at 0.25 and 1.1 % at 0
            more than before its last two, before training anew, and 3 % less decoding time; before all four classes
            that are not their plane's first saved another 0.6 % of the bits, for 7 % more time.
        log_lambda: natural logarithms of lambda at quality 0 and 1 (rate in bits per pixel, distortion
            lambda * 255**2 * MSE over RGB in [0, 1]).
        step_energy: final step**2 * lambda, in units of (1/255)**2 (TRAINING.md: 26).
        knots: knots of the quality splines over [0, 1].
        hidden: hidden units of modules that have fewer than they begin with (`training.prune`), by module name.
    """

    latents: tuple[int, int, int] = (24, 32, 108)
    widths: tuple[int, int, int] = (144, 144, 112)
    width4: int = 40
    depths: tuple[int, int, int] = (1, 2, 3)
    prior: tuple[int, int, int] = (48, 64, 80)
    groups: tuple[int, ...] = (12, 96)
    signed: int = 36
    sized: tuple[int, int] = (36, 72)
    surprising: int = 72
    classes: tuple[int, int] = (2, 4)
    follow: tuple[tuple[int, ...], tuple[int, ...]] = ((), (3,))
    log_lambda: tuple[float, float] = (math.log(0.0007), math.log(0.16))
    step_energy: float = 26.0
    knots: int = 8
    hidden: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(self.groups) != self.latents[2]:
            raise ValueError(f"groups {self.groups} do not add up to {self.latents[2]} channels")
        if max(self.signed, *self.sized, self.surprising) > self.latents[2]:
            raise ValueError(f"stride 8 has {self.latents[2]} channels; some of them are more")
        for follow, count in zip(self.follow, self.classes, strict=True):
            if list(follow) != sorted(set(follow)) or not set(follow) <= set(range(1, count)):
                raise ValueError(f"{follow} are no ascending numbers of known classes, of {count}")

    def log_lambda_at(self, quality: float) -> float:
        """Natural logarithm of lambda at `quality` (0..1); of a tensor of qualities, a tensor."""
        low, high = self.log_lambda
        return low + quality * (high - low)

    def log_gain(self, quality: float) -> float:
        """log(1 / step) of the final plane's step at `quality` (0..1), pixels in [0, 1]."""
        return math.log(255.0) - 0.5 * (math.log(self.step_energy) - self.log_lambda_at(quality))

    def units(self, name: str, usual: int) -> int:
        """Hidden units of the module `name`."""
        return self.hidden.get(name, usual)

    @property
    def parts(self) -> int:
        """Layers of plane 0."""
        return 2 + len(self.groups)

    @property
    def plane_quality(self) -> float:
        """How much quality one plane is worth: lambda grows by PLANE_FACTOR**2 with each plane."""
        return 2 * math.log(PLANE_FACTOR) / (self.log_lambda[1] - self.log_lambda[0])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Config:
        found = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        # Earlier descriptions lack these: a network before every class, all channels.
        follow = data.get("follow", [range(1, count) for count in data["classes"]])
        every = data["latents"][2]
        earlier = {"sized": (every, every), "surprising": every}
        return cls(**earlier | found | {"follow": tuple(tuple(f) for f in follow)})
