"""The access unit: what goes in comes out, trimming is slicing, and damage never passes for a picture."""

import doctest
import math
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import layercast.bitstream.unit as unit_module
from layercast.bitstream import (
    MAX_LAYERS,
    MAX_UNIT_BYTES,
    FrameHeader,
    FrameKind,
    PictureInfo,
    pack,
    read_index,
    trim,
    unpack,
)
from layercast.errors import (
    BitstreamError,
    ConfigError,
    CorruptError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)

from .cases import deterministic, frames, header

SMALL = pack(header(7, total_layers=5), [b"coarse", b"", b"finer", b"finest"], [20.0, 0.0, 3.25, 1.5])
"""Four of five layers, one of them empty."""

FULLEST = FrameHeader(
    frame_id=2**32 - 1,
    timestamp_us=2**63 - 1,
    picture=PictureInfo(width=8192, height=8192, channels=3, quality_index=255),
    kind=FrameKind.DELTA,
    reference_id=2**32 - 1,
    total_layers=MAX_LAYERS,
)
"""Every field at its largest value."""


def overhead(unit: bytes, layers: list[bytes]) -> int:
    return len(unit) - sum(map(len, layers)) - 8 * len(layers)


def test_the_example_in_the_module_docstring_is_true():
    assert doctest.testmod(unit_module).failed == 0


# Round trips.


@deterministic
@given(frames())
def test_unpack_gives_back_what_pack_was_given(frame):
    stated, layers, gains = frame
    unit = unpack(pack(stated, layers, gains))
    assert (unit.header, unit.layers, unit.gains_db, unit.damage) == (stated, tuple(layers), gains, None)


@deterministic
@given(frames())
def test_the_index_agrees_with_the_unit_and_takes_any_buffer(frame):
    stated, layers, gains = frame
    unit = pack(stated, layers, gains)
    index = read_index(unit)
    assert (index.header, index.kept, index.gains_db) == (stated, len(layers), gains)
    assert index.ends[-1] == len(unit)
    assert read_index(memoryview(unit)) == index
    assert unpack(memoryview(unit)) == unpack(unit)


def test_total_layers_is_filled_in_when_left_at_zero():
    assert unpack(pack(header(total_layers=0), [b"a", b"b"])).header.total_layers == 2
    assert unpack(pack(header(total_layers=9), [b"a", b"b"])).header.total_layers == 9


def test_gains_are_rounded_to_quarter_decibels_and_clipped():
    unit = pack(header(), [b""] * 5, [23.3, -1.0, 0.1, 99.0, math.inf])
    assert read_index(unit).gains_db == (23.25, 0.0, 0.0, 63.5, 63.5)


def test_gains_are_withheld_when_one_kept_layer_does_not_state_it():
    unit = pack(header(), [b"a", b"b", b"c"], [20.0, 3.0, math.nan])
    assert read_index(unit).gains_db == ()
    assert read_index(trim(unit, 2)).gains_db == (20.0, 3.0)


# Trimming.


@deterministic
@given(frames(), st.integers(-2, 40), st.integers(-2, 40))
def test_trim_keeps_a_prefix_and_trimming_twice_is_trimming_once(frame, first, second):
    stated, layers, gains = frame
    unit = pack(stated, layers, gains)
    cut = trim(unit, first)
    kept = max(0, min(first, len(layers)))
    assert unpack(cut).layers == tuple(layers[:kept])
    assert read_index(cut) == replace(
        read_index(unit), kept=kept, gains_db=gains[:kept], ends=read_index(unit).ends[: kept + 1]
    )
    assert trim(cut, second) == trim(unit, min(first, second))
    assert trim(cut, first) == cut
    assert trim(unit, first, read_index(unit)) == cut


@deterministic
@given(frames())
def test_ends_are_the_sizes_that_trim_makes(frame):
    unit = pack(*frame)
    index = read_index(unit)
    assert index.ends == tuple(len(trim(unit, keep)) for keep in range(index.kept + 1))


def test_trim_returns_the_same_object_when_there_is_nothing_to_drop():
    assert trim(SMALL, 4) is SMALL
    assert trim(SMALL, 99) is SMALL


def test_trim_changes_one_byte_and_cuts_the_rest():
    short = trim(SMALL, 2)
    assert len(short) == read_index(SMALL).ends[2]
    assert [at for at in range(len(short)) if short[at] != SMALL[at]] == [read_index(SMALL).ends[0] - 1]


def test_a_unit_of_no_layers_is_legal():
    assert unpack(trim(SMALL, 0)).layers == ()
    assert unpack(pack(header(), [])).damage is None


# Size.


def test_a_header_costs_at_most_40_bytes_beside_8_per_layer():
    """msgpack integers never get shorter as they grow, so the header with every field at its largest is the
    longest; checked on both sides of every value at which msgpack changes the length."""
    assert overhead(pack(FULLEST, [b""] * MAX_LAYERS), [b""] * MAX_LAYERS) == 40
    steps = [at for power in (5, 7, 8, 15, 16, 31, 32, 63) for at in (2**power - 1, 2**power, 2**power + 1)]
    for name, owner in [
        ("frame_id", FULLEST),
        ("timestamp_us", FULLEST),
        ("reference_id", FULLEST),
        ("total_layers", FULLEST),
        ("width", FULLEST.picture),
        ("height", FULLEST.picture),
        ("quality_index", FULLEST.picture),
    ]:
        largest = getattr(owner, name)
        for value in [1, *(at for at in steps if at <= largest), largest]:
            changed = replace(owner, **{name: value})
            stated = changed if owner is FULLEST else replace(FULLEST, picture=changed)
            assert overhead(pack(stated, [b""]), [b""]) <= 40


@deterministic
@given(frames())
def test_overhead_holds_for_arbitrary_frames(frame):
    stated, layers, gains = frame
    assert overhead(pack(stated, layers, gains), layers) <= 40


def test_a_layer_of_16_mib_gets_a_wide_length():
    """2**24 bytes do not fit 24 bits; the gains give way, the overhead stays."""
    layers = [b"coarse", bytes(2**24), b"fine"]
    unit = pack(header(), layers, [20.0, 1.0, 1.0])
    assert unpack(unit).layers == tuple(layers)
    assert read_index(unit).gains_db == ()
    assert unpack(trim(unit, 1)).layers == (b"coarse",)
    assert overhead(unit, layers) == overhead(pack(header(), [b"a"] * 3), [b"a"] * 3)
    narrow = pack(header(), [bytes(2**24 - 1)], [20.0])
    assert read_index(narrow).gains_db == (20.0,)


# Damage.


def test_every_flipped_bit_is_noticed():
    """A flip either raises or is reported, with the layers before it intact: CRC-32 sees every single-bit
    error, and the count of layers must agree with the bytes present."""
    whole = unpack(SMALL)
    for at in range(len(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[at] ^= 1 << bit
            try:
                unit = unpack(bytes(damaged))
            except BitstreamError:
                assert at < read_index(SMALL).ends[0]
                continue
            assert unit.damage is not None
            assert unit.damage.layer == len(unit.layers)
            assert unit.layers == whole.layers[: len(unit.layers)]
            assert unit.header == whole.header


@deterministic
@given(frames(least=1), st.data())
def test_a_damaged_layer_ends_the_usable_prefix(frame, data):
    stated, layers, gains = frame
    unit = bytearray(pack(stated, layers, gains))
    ends = read_index(bytes(unit)).ends
    at = data.draw(st.integers(ends[0], len(unit) - 1), label="damaged byte")
    unit[at] ^= data.draw(st.integers(1, 255), label="flips")
    bad = max(layer for layer in range(len(ends) - 1) if ends[layer] <= at)
    found = unpack(bytes(unit))
    assert found.damage.layer == bad
    assert found.layers == tuple(layers[:bad])
    assert found.gains_db == gains[:bad]


def test_a_unit_cut_anywhere_gives_the_layers_before_the_cut():
    ends = read_index(SMALL).ends
    for size in range(len(SMALL)):
        cut = SMALL[:size]
        with pytest.raises(TruncatedError):
            read_index(cut)
        if size < ends[0]:
            with pytest.raises(TruncatedError):
                unpack(cut)
            continue
        unit = unpack(cut)
        complete = sum(end <= size for end in ends[1:])
        assert unit.damage.layer == complete
        assert unit.layers == unpack(SMALL).layers[:complete]


def test_a_layer_of_another_frame_or_place_does_not_pass():
    """The checksums form a chain from the header on."""
    ends = read_index(SMALL).ends
    other = pack(header(frame_id=8, total_layers=5), unpack(SMALL).layers, unpack(SMALL).gains_db)
    assert read_index(other).ends == ends
    spliced = SMALL[: ends[2]] + other[ends[2] :]
    assert unpack(spliced).damage.layer == 2
    twins = pack(header(total_layers=3), [b"same", b"same"])
    first, second, end = read_index(twins).ends
    swapped = twins[:first] + twins[second:end] + twins[first:second]
    assert unpack(swapped).damage.layer == 0


def test_a_count_that_contradicts_the_bytes_is_noticed():
    at = read_index(SMALL).ends[0] - 1
    fewer, more, absurd = (SMALL[:at] + bytes((count,)) + SMALL[at + 1 :] for count in (3, 5, 6))
    with pytest.raises(CorruptError, match="follow the last"):
        read_index(fewer)
    assert unpack(fewer).layers == unpack(SMALL).layers[:3]
    assert unpack(fewer).damage.layer == 3
    with pytest.raises(TruncatedError):
        read_index(more)
    assert unpack(more).layers == unpack(SMALL).layers
    assert unpack(more).damage.layer == 4
    with pytest.raises(CorruptError, match="6 layers of 5"):
        unpack(absurd)


def test_bytes_after_the_unit_are_noticed():
    with pytest.raises(CorruptError):
        read_index(SMALL + b"x")
    assert unpack(SMALL + b"x").layers == unpack(SMALL).layers
    assert unpack(SMALL + b"x").damage.layer == 4


@pytest.mark.parametrize("data", [b"x", b"LX", b"PNG and more of it", b"\x00" * 100])
def test_other_bytes_are_called_no_access_unit(data):
    with pytest.raises(CorruptError, match="not an access unit"):
        unpack(data)


# Versions.


def with_header(array: bytes, version: int = 1, flags: int = 0) -> bytes:
    """A unit of no layers around these header bytes, its checksum right."""
    start = struct.pack(">2sBBB", b"LU", version, flags, len(array)) + array
    return start + struct.pack(">I", unit_module.crc32(start)) + b"\0"


PLAIN = [1, 2, 180, 768, 512, 3, None, 4]


def array(*elements) -> bytes:
    return unit_module.msgpack.packb(elements)


def test_the_hand_made_header_is_read():
    expected = FrameHeader(1, 2, PictureInfo(768, 512, 3, 180), FrameKind.KEY, None, 4)
    assert read_index(with_header(array(*PLAIN))).header == expected


@pytest.mark.parametrize(("version", "flags"), [(0, 0), (2, 0), (1, 2), (1, 0x80)])
def test_an_unknown_version_or_flag_is_refused_as_such(version, flags):
    with pytest.raises(UnsupportedVersionError, match="upgrade"):
        unpack(with_header(array(*PLAIN), version, flags))


def test_elements_after_the_known_ones_are_ignored():
    stated = unpack(with_header(array(*PLAIN))).header
    assert unpack(with_header(array(*PLAIN, "new", [1, 2], {"a": None}, b"\0", 1.5))).header == stated


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, -1, LimitError),
        (0, 2**32, LimitError),
        (0, "1", CorruptError),
        (0, True, CorruptError),
        (0, 1.0, CorruptError),
        (1, 2**63, LimitError),
        (1, None, CorruptError),
        (2, 256, LimitError),
        (3, 0, LimitError),
        (3, 8193, LimitError),
        (4, 0, LimitError),
        (4, 8193, LimitError),
        (5, 0, LimitError),
        (5, 2, LimitError),
        (5, 4, LimitError),
        (6, 2**32, LimitError),
        (6, [1], CorruptError),
        (7, 33, LimitError),
        (7, -1, LimitError),
    ],
)
def test_a_field_out_of_its_bounds_is_refused(position, value, error):
    with pytest.raises(error):
        unpack(with_header(array(*(value if at == position else old for at, old in enumerate(PLAIN)))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        array(*PLAIN[:7]),
        array(*PLAIN) + b"\0",
        unit_module.msgpack.packb({"frame_id": 1}),
        b"\x91" * 255,
        b"\xdd\xff\xff\xff\xff",
        b"\xc7\x05\xff12345",
    ],
    ids=["empty", "reserved", "cut", "short", "extra", "map", "nested", "huge", "bad timestamp"],
)
def test_a_header_that_is_not_such_an_array_is_corrupt(data):
    with pytest.raises(CorruptError):
        unpack(with_header(data))


# What pack refuses.


@pytest.mark.parametrize(
    "stated",
    [
        replace(header(), frame_id=2**32),
        replace(header(), frame_id=-1),
        replace(header(), timestamp_us=-1),
        replace(header(), picture=PictureInfo(0, 1, 3, 0)),
        replace(header(), picture=PictureInfo(1, 8193, 3, 0)),
        replace(header(), picture=PictureInfo(1, 1, 2, 0)),
        replace(header(), picture=PictureInfo(1, 1, 3, 256)),
        replace(header(), total_layers=33),
    ],
)
def test_pack_refuses_what_unpack_would(stated):
    with pytest.raises(LimitError):
        pack(stated, [b""])


def test_pack_refuses_contradictions():
    with pytest.raises(ConfigError, match="reference"):
        pack(replace(header(), kind=FrameKind.DELTA), [b""])
    with pytest.raises(ConfigError, match="reference"):
        pack(replace(header(), reference_id=1), [b""])
    with pytest.raises(ConfigError, match="gains"):
        pack(header(), [b"", b""], [1.0])
    with pytest.raises(ConfigError, match="total"):
        pack(header(total_layers=1), [b"", b""])


def test_pack_refuses_too_many_layers_and_too_many_bytes():
    with pytest.raises(LimitError, match="33 layers"):
        pack(header(), [b""] * 33)
    shared = bytes(MAX_UNIT_BYTES // 32)
    with pytest.raises(LimitError, match="above"):
        pack(header(), [shared] * 32)


def test_a_unit_above_the_bound_is_refused_unread():
    with pytest.raises(LimitError):
        read_index(bytes(MAX_UNIT_BYTES + 1))


def test_numpy_like_integers_are_taken():
    class Integer:
        def __index__(self):
            return 640

    wide = replace(header(), picture=PictureInfo(Integer(), 480, 3, 1))
    assert unpack(pack(wide, [])).header.picture.width == 640
