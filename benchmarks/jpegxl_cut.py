"""Progressive JPEG XL, and a decoder for files cut short: two things that no Python package offers.

The shared libjxl inside the imagecodecs wheel, through ctypes; where a wheel has none (they are made so for
Linux), the comparison is left out.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_float, c_int, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path

import imagecodecs
import numpy as np

from benchmarks.pictures import Picture

QPROGRESSIVE_AC = 18
"""`JXL_ENC_FRAME_SETTING_QPROGRESSIVE_AC` of libjxl's encode.h: AC in passes of rising precision. Of that,
PROGRESSIVE_AC, PROGRESSIVE_DC and their combinations, this gives the best picture from half of a file."""

_NEED_MORE_INPUT, _NEED_OUTPUT, _ENCODER_NEED_MORE_OUTPUT = 2, 5, 2
_BASIC_INFO, _FULL_IMAGE = 0x40, 0x1000
_STRUCT_BYTES = 1024
"""More than any of libjxl's structs takes, so that none needs to be written out here."""


class _PixelFormat(ctypes.Structure):
    _fields_ = (
        ("num_channels", c_uint32),
        ("data_type", c_int),
        ("endianness", c_int),
        ("align", c_size_t),
    )


_RGB8 = _PixelFormat(3, 2, 0, 0)


def library() -> ctypes.CDLL | None:
    imagecodecs.jpegxl_version()  # loads what the library itself needs
    wheel = Path(imagecodecs.__file__).parent.parent / "imagecodecs.libs"
    found = next(iter(sorted(wheel.glob("libjxl-*.so*"))), None)
    if found is None:
        return None
    jxl = ctypes.CDLL(str(found))
    for name in ("JxlEncoderCreate", "JxlEncoderFrameSettingsCreate", "JxlDecoderCreate"):
        getattr(jxl, name).restype = c_void_p
    return jxl


def version(jxl: ctypes.CDLL) -> str:
    number = int(jxl.JxlDecoderVersion())
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def encode(jxl: ctypes.CDLL, picture: Picture, distance: float) -> bytes:
    """One picture with successively refined AC, at effort 7.

    Raises:
        OSError: libjxl refused a call.
    """
    height, width = picture.shape[:2]
    encoder = c_void_p(jxl.JxlEncoderCreate(None))
    try:
        info = (c_uint32 * (_STRUCT_BYTES // 4))()
        jxl.JxlEncoderInitBasicInfo(info)
        info[1], info[2], info[3] = width, height, 8
        info[9] = 0  # uses_original_profile: let it work in XYB
        _must(jxl.JxlEncoderSetBasicInfo(encoder, info))
        colour = (c_uint8 * _STRUCT_BYTES)()
        jxl.JxlColorEncodingSetToSRGB(colour, 0)
        _must(jxl.JxlEncoderSetColorEncoding(encoder, colour))
        settings = c_void_p(jxl.JxlEncoderFrameSettingsCreate(encoder, None))
        _must(jxl.JxlEncoderSetFrameDistance(settings, c_float(distance)))
        _must(jxl.JxlEncoderFrameSettingsSetOption(settings, QPROGRESSIVE_AC, ctypes.c_int64(1)))
        pixels = np.ascontiguousarray(picture).tobytes()
        _must(jxl.JxlEncoderAddImageFrame(settings, byref(_RGB8), pixels, c_size_t(len(pixels))))
        jxl.JxlEncoderCloseInput(encoder)
        out = (c_uint8 * (len(pixels) + _STRUCT_BYTES))()
        at, left = c_void_p(ctypes.addressof(out)), c_size_t(len(out))
        _must(jxl.JxlEncoderProcessOutput(encoder, byref(at), byref(left)))
        return bytes(out[: len(out) - left.value])
    finally:
        jxl.JxlEncoderDestroy(encoder)


def decode(jxl: ctypes.CDLL, data: bytes) -> Picture | None:
    """The picture from the first bytes of a file, or None while there is too little for one."""
    decoder = c_void_p(jxl.JxlDecoderCreate(None))
    try:
        _must(jxl.JxlDecoderSubscribeEvents(decoder, _BASIC_INFO | _FULL_IMAGE))
        _must(jxl.JxlDecoderSetInput(decoder, data, c_size_t(len(data))))
        picture: Picture | None = None
        while True:
            status = jxl.JxlDecoderProcessInput(decoder)
            if status == _BASIC_INFO:
                info = (c_uint32 * (_STRUCT_BYTES // 4))()
                _must(jxl.JxlDecoderGetBasicInfo(decoder, info))
                picture = np.zeros((info[2], info[1], 3), np.uint8)
            elif status == _NEED_OUTPUT and picture is not None:
                pointer = c_void_p(picture.ctypes.data)
                _must(jxl.JxlDecoderSetImageOutBuffer(decoder, byref(_RGB8), pointer, c_size_t(picture.size)))
            elif status == _FULL_IMAGE:
                return picture
            elif status == _NEED_MORE_INPUT:
                return picture if jxl.JxlDecoderFlushImage(decoder) == 0 else None
            else:
                return None
    finally:
        jxl.JxlDecoderDestroy(decoder)


def _must(status: int) -> None:
    if status != 0:
        raise OSError(f"libjxl returned status {status}")
