"""Networks as compiled programs: the exact prior's, analysis and synthesis, quicker than ONNX Runtime on AVX2.

`ProgramNetwork` turns an ONNX graph (fixed-point layers, or matrix products of floats and int8 convolutions between
them) into a program for `_programs`. What ONNX Runtime does operation by operation over whole tensors, the program does
row by row: all operations up to the next 5x5 filter, which has to see its neighbours, form a stage; what lies between
them never leaves the cache, and threads share the stage's rows.

`load_network` gives such a network where the processor has the instructions for it, else ONNX Runtime's.
"""

from layercast.runtime.programs.compiled import INSTRUCTIONS
from layercast.runtime.programs.graph import Unsupported
from layercast.runtime.programs.network import ProgramNetwork, load_network

__all__ = ["INSTRUCTIONS", "ProgramNetwork", "Unsupported", "load_network"]
