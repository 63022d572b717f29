"""Receive within a budget, and raise the budget half-way: the pictures get finer from the next frame on.

python examples/watch.py 127.0.0.1:7400 cam1 200000 [frames]
"""

import sys

from layercast import BlockingReceiver

relay, stream, bitrate = sys.argv[1], sys.argv[2], float(sys.argv[3])
frames = int(sys.argv[4]) if len(sys.argv) > 4 else 50
with BlockingReceiver(relay, stream, max_bitrate=bitrate) as receiver:
    for number, frame in enumerate(receiver, 1):
        print(f"{number}: {frame.layers} of {frame.header.total_layers} layers, {8 * len(frame.unit)} bits")
        if number == frames // 2:
            receiver.set_budget(max_bitrate=4 * bitrate)
        if number == frames:
            break
