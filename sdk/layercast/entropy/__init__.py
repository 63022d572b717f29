"""Integer tables and the range coder: symbols to bytes and back, exactly, on every machine."""

from layercast.entropy.coder import SymbolDecoder, SymbolEncoder, encode_symbols
from layercast.entropy.tables import CdfTables

__all__ = ["CdfTables", "SymbolDecoder", "SymbolEncoder", "encode_symbols"]
