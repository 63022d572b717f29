"""Integer tables and the range coder: symbols to bytes and back, exactly, on every machine."""

from layercast.entropy.coder import (
    COMPILED,
    VERSION,
    SymbolDecoder,
    SymbolEncoder,
    decode_streams,
    encode_symbols,
    plan,
)
from layercast.entropy.plain import Plan
from layercast.entropy.tables import CdfTables

__all__ = [
    "COMPILED",
    "VERSION",
    "CdfTables",
    "Plan",
    "SymbolDecoder",
    "SymbolEncoder",
    "decode_streams",
    "encode_symbols",
    "plan",
]
