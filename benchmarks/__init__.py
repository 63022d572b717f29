"""The comparison with other codecs, which anybody can run again; BENCHMARKS.md is rendered from it.

Each part is a command that measures, and writes JSON under ``benchmarks/results``::

    python -m benchmarks.rd           rate-distortion of layercast and its peers over a folder of pictures
    python -m benchmarks.proof        the harness against figures published by others
    python -m benchmarks.progressive  PSNR over the bytes received of one picture
    python -m benchmarks.speed        time and memory
    python -m benchmarks.video        clips as camera streams, beside video encoders
    python -m benchmarks.entropy      the entropy coder, beside others
    python -m benchmarks.exactness    whether two unlike ends of `hierarchical` agree on every symbol
    python -m benchmarks.control      how a relay follows simulated links
    python -m benchmarks.links        how it follows shaped ones
    python -m benchmarks.faults       how a chain of relays heals
    python -m benchmarks.guard        fails when a quick exact figure got worse
    python -m benchmarks.render       BENCHMARKS.md and its plots, from the JSON

None of it is part of the installed package. It needs ``pip install -e ".[bench]"``.
"""
