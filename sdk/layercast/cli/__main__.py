"""`python -m layercast.cli`, for when the `layercast` script is not on the path."""

from __future__ import annotations

import sys

from layercast.cli.main import main

sys.exit(main())
