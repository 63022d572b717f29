"""The exact prior's networks, compiled: the same integers as ONNX Runtime's in about 0.7 of its time on AVX2.

`ProgramNetwork` turns an ONNX graph of fixed-point layers (QLinearConv with power-of-two scales, sums, a few moves) into
a program for `_exact`. What ONNX Runtime does operation by operation over whole tensors, the program does row by row:
all operations up to the next 5x5 filter, which has to see its neighbours, form a stage; what lies between them never
leaves the cache, and threads share the stage's rows.

`load_network` gives such a network where the processor has the instructions for it, else ONNX Runtime's.
"""

from layercast.runtime.programs.compiled import INSTRUCTIONS
from layercast.runtime.programs.network import ProgramNetwork, load_network
from layercast.runtime.programs.graph import Unsupported

__all__ = ["INSTRUCTIONS", "ProgramNetwork", "Unsupported", "load_network"]
