"""Hidden units of analysis and synthesis that no picture switches on: find them, and give them a new start.

    python -m models.training.revive --checkpoint models/checkpoints/hierarchical-1.pt --data TRAIN --out revived.pt \\
        --blocks analysis.e8.1 analysis.e16.2 analysis.e32.1

Behind a ReLU a unit that is off for every picture gets no gradient and stays so. Export leaves such units out
(`models.export.dead`); here those of chosen blocks become what a fresh network has, with weight 0 on what reads them,
so that the network goes on from where it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from models.export.dead import dead_units, transform_blocks
from models.hierarchical.codec import Codec
from models.hierarchical.transforms import Block


@torch.no_grad()
def revive(block: Block, dead: Tensor) -> None:
    """Fresh weights for the dead (bool, (hidden,)) units of a block; its filters too, if all are dead."""
    channels = block.dw.in_channels
    fresh = Block(channels, False, hidden=len(dead))
    if bool(dead.all()):
        block.dw.load_state_dict(fresh.dw.state_dict())
    block.a.weight[dead], block.a.bias[dead] = fresh.a.weight[dead], fresh.a.bias[dead]
    block.b.weight[:, dead] = 0


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--checkpoint", required=True)
    ap.add_argument("--data", required=True, help="training pictures")
    ap.add_argument("--out", required=True, type=Path)
    ap.add_argument("--blocks", nargs="*", help="names, as they are printed; all with dead units by default")
    o = ap.parse_args()
    model, state = Codec.of_checkpoint(o.checkpoint)
    dead = dead_units(model, o.data)
    for name, block in transform_blocks(model).items():
        print(f"{name}: {int(dead[name].sum())} of {len(dead[name])} units dead")
        if o.blocks is None or name in o.blocks:
            revive(block, dead[name])
    torch.save(state | {"average": model.state_dict()}, o.out)


if __name__ == "__main__":
    main()
