"""`.lcast` files: everything that was written is read, however the file ended."""

import contextlib
import errno
import io
import os
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layercast.bitstream import ContainerReader, ContainerWriter, encode_description, pack, read_index, unpack
from layercast.bitstream import writer as writer_module
from layercast.bitstream.container import ENTRY, FOOT, INDEX, MARK, RECORD, START, footer, record_header
from layercast.errors import (
    BitstreamError,
    CorruptError,
    LimitError,
    MediaError,
    TruncatedError,
    UnsupportedVersionError,
)

from .cases import DESCRIPTION, descriptions, deterministic, frames, header

# A key frame, two deltas, a key frame, a delta.
UNITS = [
    pack(header(frame_id=0), [b"k" * 20, b"l" * 30]),
    pack(header(frame_id=1, reference_id=0), [b"d" * 9, b""]),
    pack(header(frame_id=2, reference_id=1), [b"d" * 8]),
    pack(header(frame_id=5), [b"k" * 25, b"l" * 5], [20.0, 3.0]),
    pack(header(frame_id=6, reference_id=5), []),
]


def written(units=UNITS, description=DESCRIPTION) -> bytes:
    file = io.BytesIO()
    with ContainerWriter(file, description) as writer:
        for unit in units:
            writer.write(unit)
    return file.getvalue()


def read(data: bytes) -> ContainerReader:
    return ContainerReader(io.BytesIO(data))


FILE = written()
FIRST = START.size + len(encode_description(DESCRIPTION))
"""Offset of the first record."""
ENDS = [FIRST]
"""Offsets where the records begin, and where the last one ends."""
for unit in UNITS:
    ENDS.append(ENDS[-1] + RECORD.size + len(unit))


# Whole files.


@deterministic
@given(descriptions, st.lists(frames(), max_size=6))
def test_a_reader_gives_back_what_a_writer_was_given(description, given_frames):
    units = [pack(*frame) for frame in given_frames]
    reader = read(written(units, description))
    assert reader.description == description
    assert list(reader) == list(reader) == units == [reader[at] for at in range(len(reader))]
    assert (reader.truncated, reader.damaged) == (False, 0)


def test_frames_are_found_by_id_by_time_and_by_the_key_frame_before():
    reader = read(FILE)
    time = read_index(UNITS[2]).header.timestamp_us
    assert reader.find_frame(5) == 3
    assert reader.find_time(time) == 2
    assert reader.find_time(time + 1) == 2
    assert reader.find_time(time - 1) == 1
    assert reader.find_time(2**63) == 4
    assert [reader.key_before(at) for at in range(5)] == [0, 0, 0, 3, 3]
    assert list(reader.units(reader.find_frame(5))) == UNITS[3:]
    assert reader[-1] == UNITS[-1]
    with pytest.raises(KeyError):
        reader.find_frame(3)
    with pytest.raises(KeyError):
        reader.find_time(0)
    with pytest.raises(KeyError):
        read(written(UNITS[1:3])).key_before(1)
    with pytest.raises(IndexError):
        reader[5]


def test_paths_work_like_file_objects(tmp_path):
    path = tmp_path / "clip.lcast"
    with ContainerWriter(path, DESCRIPTION) as writer:
        for unit in UNITS:
            writer.write(memoryview(unit))
        assert len(writer) == len(UNITS)
    assert path.read_bytes() == FILE
    with ContainerReader(str(path)) as reader:
        assert list(reader) == UNITS


def test_what_is_written_can_be_read_before_the_writer_closes(tmp_path):
    path = tmp_path / "clip.lcast"
    with ContainerWriter(path, DESCRIPTION) as writer:
        for count, unit in enumerate(UNITS):
            with ContainerReader(path) as reader:
                assert list(reader) == UNITS[:count]
                assert reader.truncated
            writer.write(unit)


def test_a_writer_closes_its_file_properly_when_its_caller_fails():
    file = io.BytesIO()
    with contextlib.suppress(ZeroDivisionError), ContainerWriter(file, DESCRIPTION) as writer:
        writer.write(UNITS[0])
        writer.write(UNITS[1 // 0])
    assert list(read(file.getvalue())) == UNITS[:1]
    assert not read(file.getvalue()).truncated


def test_a_writer_refuses_what_is_no_unit_and_goes_on():
    file = io.BytesIO()
    with ContainerWriter(file, DESCRIPTION) as writer:
        for bad in (b"", b"hello", UNITS[0][:-1], UNITS[0] + b"x"):
            with pytest.raises(BitstreamError):
                writer.write(bad)
        writer.write(UNITS[0])
    assert list(read(file.getvalue())) == UNITS[:1]


def test_a_file_holds_a_bounded_number_of_units(monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_UNITS", 2)
    file = io.BytesIO()
    with ContainerWriter(file, DESCRIPTION) as writer:
        writer.write(UNITS[0])
        writer.write(UNITS[1])
        with pytest.raises(LimitError, match="new file"):
            writer.write(UNITS[2])
    assert list(read(file.getvalue())) == UNITS[:2]


# Cut and damaged files.


def test_a_file_cut_anywhere_reads_up_to_the_cut():
    for size in range(len(FILE)):
        if size < FIRST:
            with pytest.raises(TruncatedError):
                read(FILE[:size])
            continue
        reader = read(FILE[:size])
        whole = sum(end <= size for end in ENDS[1:])
        assert list(reader) == UNITS[:whole]
        assert len(reader) == whole
        assert (reader.truncated, reader.damaged) == (True, 0)


def test_a_cut_file_can_be_searched_too():
    reader = read(FILE[: ENDS[4]])
    assert reader.find_frame(5) == 3
    assert reader.key_before(2) == 0


@pytest.mark.parametrize("data", [FILE, FILE[: ENDS[-1]]], ids=["whole", "without index"])
def test_a_damaged_byte_costs_at_most_its_own_unit(data):
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0xA5
        if at < FIRST:
            with pytest.raises(BitstreamError):
                read(bytes(damaged))
            continue
        reader = read(bytes(damaged))
        found = list(reader)
        if at >= ENDS[-1]:
            assert found == UNITS
            assert reader.truncated
            continue
        hit = max(number for number in range(len(UNITS)) if ENDS[number] <= at)
        others = UNITS[:hit] + UNITS[hit + 1 :]
        if len(found) == len(UNITS):
            # A layer is damaged: the unit comes, and says so.
            assert found[:hit] + found[hit + 1 :] == others
            assert unpack(found[hit]).damage is not None
            assert reader.damaged == 0
        elif hit == len(UNITS) - 1 and reader.truncated:
            # A last record that cannot be read is one that was cut.
            assert found == others
        else:
            assert found == others
            assert reader.damaged == 1


def test_inserted_and_missing_bytes_cost_the_units_they_touch():
    in_header = ENDS[1] + RECORD.size + 3
    in_layer = ENDS[2] - 4
    for splice in (
        FILE[:in_header] + b"\0" * 1000 + FILE[in_header:],
        FILE[:in_header] + MARK * 50 + FILE[in_header:],
        FILE[: in_header - 8] + FILE[in_header:],
        FILE[: ENDS[1]] + FILE[in_header:],
        FILE[: in_layer - 8] + FILE[in_layer:],
    ):
        reader = read(splice)
        assert list(reader) == UNITS[:1] + UNITS[2:]
        assert (reader.truncated, reader.damaged) == (True, 1)
    reader = read(FILE[:in_layer] + b"\0" * 70_000 + FILE[in_layer:])
    assert len(list(reader)) == 5
    assert unpack(reader[1]).damage is not None


def test_the_next_record_is_found_wherever_it_lies():
    """A search reads 256 bytes, then twice as many each time; a record may begin across any such border."""
    for gap in range(1, 900):
        reader = read(FILE[: ENDS[1]] + b"\0" * gap + FILE[ENDS[1] : ENDS[-1]])
        assert list(reader) == UNITS
        assert reader.damaged == 1


def test_a_damaged_unit_raises_when_it_is_asked_for():
    damaged = bytearray(FILE)
    damaged[ENDS[1]] ^= 1
    reader = read(bytes(damaged))
    with pytest.raises(CorruptError, match="unit 1"):
        reader[1]
    assert list(reader.units(1)) == UNITS[2:]
    assert reader.damaged == 1


@pytest.mark.parametrize("data", [b"P", b"\x89PNG\r\n\x1a\n", b"\x89LCAST\n\n", bytes(1000)])
def test_other_files_are_called_no_lcast_file(data):
    with pytest.raises(CorruptError, match=r"not an \.lcast file"):
        read(data)


# Versions.


@pytest.mark.parametrize(("version", "flags"), [(0, 0), (2, 0), (1, 1)])
def test_an_unknown_version_or_flag_is_refused_as_such(version, flags):
    with pytest.raises(UnsupportedVersionError, match="upgrade"):
        read(FILE[:8] + bytes((version, flags)) + FILE[10:])


def test_records_of_unknown_types_are_passed_over():
    note = record_header(ord("N"), 5) + b"hello"
    reader = read(FILE[: ENDS[2]] + note + FILE[ENDS[2] : ENDS[-1]])
    assert list(reader) == UNITS
    assert reader.damaged == 0


# Forged files: right checksums, wrong facts.


def with_index(body: bytes, entries: bytes) -> bytes:
    checked = entries + struct.pack(">I", crc32(entries))
    return body + record_header(INDEX, len(checked)) + checked + footer(len(body))


BODY = FILE[: ENDS[-1]]
ENTRIES = FILE[ENDS[-1] + RECORD.size : -FOOT.size - 4]


def test_the_forging_hand_is_steady():
    assert with_index(BODY, ENTRIES) == FILE


@pytest.mark.parametrize(
    "entries",
    [
        ENTRIES[ENTRY.size :] + ENTRIES[: ENTRY.size],
        ENTRIES[: ENTRY.size] * 5,
        ENTRY.pack(0, 0, 0, 0),
        ENTRY.pack(len(BODY), 0, 0, 0),
        ENTRY.pack(2**64 - 1, 0, 0, 0),
        ENTRY.pack(FIRST, 0, 0, 2),
        ENTRIES[:-1],
    ],
    ids=["not ascending", "repeated", "before", "after", "far", "unknown kind", "not whole"],
)
def test_an_impossible_index_is_not_used(entries):
    reader = read(with_index(BODY, entries))
    assert list(reader) == UNITS
    assert reader.truncated


def test_index_entries_cannot_make_records_overlap():
    """Or a small file could be read a million times over. Here a record lies in a record, both indexed."""
    inner = record_header(ord("U"), len(UNITS[0])) + UNITS[0]
    outer = pack(header(), [inner])
    start = written([])[:FIRST]
    body = start + record_header(ord("U"), len(outer)) + outer
    inside = body.index(inner)
    entries = ENTRY.pack(FIRST, 0, 0, 0) + ENTRY.pack(inside, 0, 0, 0)
    reader = read(with_index(body, entries))
    assert list(reader) == [UNITS[0]]
    assert reader.damaged == 1


# Files that cannot be read or written.


class Disk(io.RawIOBase):
    """A file that takes `room` bytes, at most `step` per call, and is full then."""

    def __init__(self, room: int, step: int = 1 << 30):
        self.data = bytearray()
        self.room, self.step = room, step

    def writable(self):
        return True

    def write(self, data):
        taken = min(len(data), self.step, self.room - len(self.data))
        if taken == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.data += data[:taken]
        return taken


def test_a_full_disk_is_a_typed_error_and_leaves_a_readable_file():
    def record(disk):
        with ContainerWriter(disk, DESCRIPTION) as writer:
            for unit in UNITS:
                writer.write(unit)

    for room in range(len(FILE)):
        disk = Disk(room)
        with pytest.raises(MediaError, match="No space left"):
            record(disk)
        assert disk.data == FILE[:room]
        if room >= FIRST:
            assert list(read(bytes(disk.data))) == UNITS[: sum(end <= room for end in ENDS[1:])]


def test_a_writer_that_failed_stays_failed():
    """What follows half a record would be taken for its rest."""
    disk = Disk(ENDS[1] + 20)
    writer = ContainerWriter(disk, DESCRIPTION)
    writer.write(UNITS[0])
    with pytest.raises(MediaError):
        writer.write(UNITS[1])
    disk.room = 1 << 20
    with pytest.raises(MediaError, match="No space left"):
        writer.write(UNITS[1])
    writer.close()
    writer.close()
    assert disk.data == FILE[: ENDS[1] + 20]
    with pytest.raises(MediaError):
        writer.write(UNITS[1])


def test_a_file_that_takes_a_few_bytes_at_a_time_gets_them_all():
    disk = Disk(1 << 20, step=7)
    with ContainerWriter(disk, DESCRIPTION) as writer:
        for unit in UNITS:
            writer.write(unit)
    assert disk.data == FILE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_real_full_device():
    with pytest.raises(MediaError, match="cannot write /dev/full"):
        ContainerWriter("/dev/full", DESCRIPTION)


def test_paths_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(MediaError, match=r"absent\.lcast"):
        ContainerReader(tmp_path / "absent.lcast")
    with pytest.raises(MediaError, match="cannot create"):
        ContainerWriter(tmp_path / "absent" / "clip.lcast", DESCRIPTION)
    with pytest.raises(MediaError):
        ContainerReader(tmp_path)
