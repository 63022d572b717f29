"""What is compiled, and what layercast does without where no C compiler is: every `_*.c` is an extension module.

`docs/entropy.md` says what is gained. Everything else about the package is in pyproject.toml.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

FLAGS = ["-std=c11", "-O3"] if os.name == "posix" else ["/std:c11", "/experimental:c11atomics"]

SHARED = Path("sdk/layercast/native")


def extension(source: Path) -> Extension:
    name = ".".join(source.relative_to("sdk").with_suffix("").parts)
    headers = sorted({*map(str, source.parent.glob("**/*.h")), *map(str, SHARED.glob("*.h"))})
    return Extension(name, [str(source)], depends=headers, extra_compile_args=FLAGS, optional=True)


setup(ext_modules=[extension(source) for source in sorted(Path("sdk").glob("**/_*.c"))])
