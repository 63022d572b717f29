"""JPEG files as an old Pillow writes and reads them, for `python -m benchmarks.proof --old-jpeg OUT`.

A script by itself, for an environment of its own::

    python3.8 -m venv old && old/bin/pip install pillow==7.2.0
    old/bin/python benchmarks/old_jpeg.py KODAK OUT
    python -m benchmarks.proof --pictures KODAK --old-jpeg OUT
"""

import io
import json
import pathlib
import sys

import PIL
from PIL import Image


def main(pictures: pathlib.Path, out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    sizes: dict = {}
    for quality in range(5, 100, 5):
        for path in sorted(pictures.glob("*.png")):
            file = io.BytesIO()
            Image.open(path).convert("RGB").save(file, "jpeg", quality=quality)
            sizes.setdefault(quality, {})[path.stem] = file.tell()
            Image.open(file).save(out / f"{path.stem}-{quality}.png")
    library = f"libjpeg {Image.core.jpeglib_version}, Pillow {PIL.__version__}"
    (out / "about.json").write_text(json.dumps({"library": library, "sizes": sizes}))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
