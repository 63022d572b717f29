"""Publish from an ordinary synchronous loop, as camera programs are written.

python examples/camera_loop.py camera:/dev/video0 127.0.0.1:7400 cam1
python examples/camera_loop.py pattern:640x480@15 127.0.0.1:7400 cam1
"""

import sys

from layercast import BlockingSender
from layercast.media import open_source

spec, relay, stream = sys.argv[1:4]
with open_source(spec, paced=True) as source, BlockingSender(relay, stream) as sender:
    for image, timestamp_us in source:
        if sender.send(image, timestamp_us):  # False: nobody listens, and nothing was encoded
            print(f"\r{sender.statistics().encoded} frames encoded", end="", flush=True)
