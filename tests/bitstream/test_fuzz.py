"""Over 100,000 damaged and forged inputs: only the package's own errors, bounded memory, bounded work."""

import io
import time
import tracemalloc
from collections import Counter
from random import Random

import pytest

from layercast.bitstream import (
    MAX_LAYERS,
    MAX_SIDE,
    ContainerReader,
    ContainerWriter,
    decode_description,
    encode_description,
    pack,
    read_index,
    trim,
    unpack,
)
from layercast.bitstream.container import MARK, record_header
from layercast.errors import BitstreamError

from .cases import DESCRIPTION, header
from .mutation import mutate, reseal_container, reseal_description, reseal_unit, units

ROUNDS = {"unit": 50_000, "description": 30_000, "container": 30_000}

ALLOCATION_BYTES = 1 << 20
ALLOCATION_PER_BYTE = 8
"""The bound stated in docs/bitstream.md: a parser holds at most 1 MiB, and 8 bytes per byte of its input."""

READ_BYTES = 4096
READ_PER_BYTE = 30
"""A container of n bytes is opened and read through with at most so much reading: linear, whatever it claims.
The factor is for files of nothing but overlapping records, after each of which the search begins again."""

LONGEST_S = 1.0
"""No input takes so much processor time, in seconds; the longest honest one takes under a millisecond."""


def parse_unit(data: bytes) -> None:
    index = None
    try:
        index = read_index(data)
    finally:
        # What the index accepts, unpack must take too; what it refuses, unpack may still rescue.
        try:
            unit = unpack(data)
        except BitstreamError:
            assert index is None
        else:
            picture = unit.header.picture
            assert 1 <= picture.width <= MAX_SIDE
            assert 1 <= picture.height <= MAX_SIDE
            assert len(unit.layers) <= MAX_LAYERS
            assert sum(map(len, unit.layers)) < len(data)
            assert unit.damage is None or unit.damage.layer == len(unit.layers)
    assert index.ends[-1] == len(data)
    for keep in (0, 1, index.kept - 1):
        assert len(trim(data, keep)) == index.ends[max(0, min(keep, index.kept))]


class CountedFile(io.BytesIO):
    """Counts the bytes that are read from it."""

    def __init__(self, data: bytes):
        super().__init__(data)
        self.count = 0

    def read(self, size=-1):
        data = super().read(size)
        self.count += len(data)
        return data


def parse_container(data: bytes) -> None:
    file = CountedFile(data)
    try:
        with ContainerReader(file) as reader:
            total = 0
            for unit in reader:
                total += len(unit)
                unpack(unit)
            assert total <= len(data)
            assert reader.truncated or len(reader) * 12 < len(data)
    finally:
        assert file.count <= READ_BYTES + READ_PER_BYTE * len(data)


def containers() -> list[bytes]:
    files = []
    for chosen in (units()[:1], units(), [pack(header(at), [bytes(at)]) for at in range(12)]):
        file = io.BytesIO()
        with ContainerWriter(file, DESCRIPTION) as writer:
            for unit in chosen:
                writer.write(unit)
        files.append(file.getvalue())
    return files


TARGETS = {
    "unit": (parse_unit, units(), lambda random, data: reseal_unit(data)),
    "description": (
        decode_description,
        [encode_description(DESCRIPTION)],
        lambda random, data: reseal_description(data),
    ),
    "container": (parse_container, containers(), reseal_container),
}


def held(parse, data: bytes) -> int:
    """Most bytes that parsing held at one time."""
    tracemalloc.start()
    try:
        parse(data)
    except BitstreamError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_there_are_at_least_100000_inputs():
    assert sum(ROUNDS.values()) >= 100_000


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_and_forged_bytes_raise_nothing_but_bitstream_errors(target):
    parse, corpus, reseal = TARGETS[target]
    random = Random(f"layercast {target}")
    outcomes = Counter()
    for number in range(ROUNDS[target]):
        data = mutate(random, random.choice(corpus), corpus)
        if number % 2:
            data = reseal(random, data)
        begin = time.process_time()
        try:
            parse(data)
            outcomes["accepted"] += 1
        except BitstreamError as error:
            outcomes[error.code] += 1
        assert time.process_time() - begin < LONGEST_S, data.hex()
        if number % 40 == 0:
            assert held(parse, data) <= ALLOCATION_BYTES + ALLOCATION_PER_BYTE * len(data), data.hex()
    # Not vacuous: the inputs get past the checksums often, and fail in every way there is.
    assert outcomes["accepted"] > ROUNDS[target] // 100, outcomes
    assert {"truncated", "corrupt", "unsupported-version", "limit"} <= set(outcomes), outcomes


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (unpack, reseal_unit(b"LU\x01\x00\xff" + b"\xdc\x00\x40" * 85 + bytes(5))),
        (unpack, reseal_unit(b"LU\x01\x00\xff" + b"\xdd\xff\xff\xff\xff" * 51 + bytes(5))),
        (decode_description, reseal_description(b"LD\x01" + b"\xdc\x00\x40" * 1362 + bytes(4))),
        (decode_description, reseal_description(b"LD\x01" + b"\xdc\x0f\x00" * 1362 + bytes(4))),
        (decode_description, reseal_description(b"LD\x01" + b"\xde\x00\x40\xa0" * 1000 + bytes(4))),
    ],
    ids=["nested arrays", "huge arrays", "nested in description", "greedy in description", "nested maps"],
)
def test_forged_nesting_stays_within_the_allocation_bound(parse, data):
    with pytest.raises(BitstreamError):
        parse(data)
    assert held(parse, data) <= ALLOCATION_BYTES + ALLOCATION_PER_BYTE * len(data)


@pytest.mark.parametrize(
    "filling",
    [
        MARK,
        MARK + b"U",
        record_header(ord("U"), 0),
        record_header(ord("U"), 2**32 - 1),
        record_header(ord("N"), 0),
        record_header(ord("U"), len(units()[2])) + units()[2],
        record_header(ord("U"), 100_000) + units()[2],
        record_header(ord("N"), 100_000),
    ],
    ids=["marks", "types", "empty", "far", "unknown", "honest", "overlapping", "overlapping unknown"],
)
def test_a_long_file_of_tricky_records_is_read_in_linear_work(filling):
    """Each would cost quadratic work if a search or a length could be made to start over."""
    data = containers()[0][:-16] + filling * (400_000 // len(filling))
    parse_container(data)
    assert held(parse_container, data) <= ALLOCATION_BYTES + ALLOCATION_PER_BYTE * len(data)
