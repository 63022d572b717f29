"""The one part that is compiled, and that layercast does without where no compiler is: see docs/entropy.md."""

import os
from glob import glob

from setuptools import Extension, setup

NATIVE = "sdk/layercast/entropy"
FLAGS = ["-std=c11", "-O3"] if os.name == "posix" else ["/std:c11", "/experimental:c11atomics"]

setup(
    ext_modules=[
        Extension(
            "layercast.entropy._range",
            [f"{NATIVE}/_range.c"],
            depends=sorted(glob(f"{NATIVE}/native/*.h")),
            extra_compile_args=FLAGS,
            optional=True,
        )
    ]
)
