"""BENCHMARKS.md and its plots, from the JSON under benchmarks/results; it measures nothing."""

from __future__ import annotations

import argparse

from benchmarks import (
    codec_tables,
    relay_tables,
    results,
    speed_tables,
    still_tables,
    stream_tables,
    summary,
    training_tables,
)

PAGE = results.REPOSITORY / "BENCHMARKS.md"

INTRO = """\
# Benchmarks

Where layercast wins and where it loses. Every figure on this page was measured by the command named under
its table, or is marked as published by others. “Bits” are bits at equal PSNR (BD-rate); below 0 % layercast
needs fewer."""

COMMANDS = """\
## Run it yourself

```
make bench        what can be done in 20 minutes on two cores
make bench-full   everything but the relay; KODAK=folder of the 24 Kodak PNGs, CLIPS="clip.mp4 ..."
```

Each part is a command of its own, and writes JSON under `benchmarks/results/`:

| command | what it measures |
| --- | --- |
| `python -m benchmarks.rd --pictures DIR` | rate-distortion: every codec, every quality, every prefix |
| `python -m benchmarks.proof` | the harness against published curves |
| `python -m benchmarks.progressive` | one encoding while its bytes arrive |
| `python -m benchmarks.speed` | time and memory |
| `python -m benchmarks.video CLIP...` | clips as camera streams |
| `python -m benchmarks.entropy` | the entropy coder |
| `python -m benchmarks.exactness --pictures DIR` | whether two unlike ends agree on every symbol |
| `python -m benchmarks.without_planes --pictures DIR --checkpoint RUN` | what the same training gives without planes |
| `python -m benchmarks.links`, `python -m benchmarks.faults` | the relay over shaped links (root), and under faults |
| `python -m benchmarks.keep relay/uncapped layercast bench relay` | a relay's receivers, latency and CPU time |
| `python -m benchmarks.keep control/simulated python -m benchmarks.control` | the relay on simulated links |
| `python -m benchmarks.guard` | fails when a quick exact figure got worse than the stored one |
| `python -m benchmarks.render` | this page |

They need `pip install -e ".[bench]"`; with `make bench LEARNED=1` PyTorch and CompressAI are installed too, for the
rows that are theirs. Results of peers are kept until their settings, libraries or input
change (`--peers again` measures them anew). PSNR is `10 log10(255² / MSE)` over all RGB samples; MS-SSIM is Wang,
Simoncelli and Bovik's (2003) on RGB. layercast's bytes are those of whole access units, headers and checksums
included."""


def page() -> str:
    sections = [
        INTRO,
        summary.table(),
        COMMANDS,
        codec_tables.section(),
        still_tables.rate_distortion(),
        codec_tables.points(),
        training_tables.section(),
        still_tables.proof(),
        still_tables.progressive(),
        speed_tables.section(),
        stream_tables.video(),
        stream_tables.entropy(),
        relay_tables.section(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__)
    parser.parse_args()
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
