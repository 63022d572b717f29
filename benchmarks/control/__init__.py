"""The control loop over simulated links: `python -m benchmarks.control` from the repository root."""
