"""The `layercast` command. One file per subcommand; nothing heavy is imported before the subcommand runs."""

from __future__ import annotations

from layercast.cli.main import main

__all__ = ["main"]
