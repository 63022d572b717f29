"""Makes tests/control/data/cellular.csv: ten minutes of a link rate as a phone in a moving car sees it.

A slow wander (cell and distance), a fast one (fading, the scheduler), and now and then a deep fade. Run
`python tests/control/cellular.py > tests/control/data/cellular.csv` to make the file again.
"""

from __future__ import annotations

import math
import random

SEED = 20
STEP_S = 0.1
SECONDS = 600


def rates(seed=SEED):
    """Bits per second for each step."""
    rng = random.Random(seed)
    slow = fast = 0.0
    fade_left = 0.0
    fade_depth = 1.0
    for _ in range(int(SECONDS / STEP_S)):
        slow += -slow * STEP_S / 8 + 0.5 * math.sqrt(2 * STEP_S / 8) * rng.gauss(0, 1)
        fast += -fast * STEP_S / 0.4 + 0.22 * math.sqrt(2 * STEP_S / 0.4) * rng.gauss(0, 1)
        if fade_left > 0:
            fade_left -= STEP_S
        elif rng.random() < STEP_S / 45:
            fade_left, fade_depth = rng.uniform(0.3, 2.5), rng.uniform(0.05, 0.35)
        rate = 2.2e6 * math.exp(slow + fast) * (fade_depth if fade_left > 0 else 1.0)
        yield min(2e7, max(2e4, rate))


if __name__ == "__main__":
    print("seconds,bits_per_second")
    for number, rate in enumerate(rates()):
        print(f"{number * STEP_S:.1f},{rate:.0f}")
