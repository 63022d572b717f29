"""The flagship: hierarchical latents, embedded quantiser, integer-exact prior, int8 networks.

docs/codecs.md explains how it works on one page. `codec` is what callers see, `walk` the order in which both
ends visit the symbols, `model` what a zoo entry holds.
"""

from layercast.codecs.hierarchical.codec import HierarchicalCodec

__all__ = ["HierarchicalCodec"]
