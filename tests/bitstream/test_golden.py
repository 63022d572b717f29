"""Version 1 stays version 1: today's code writes the bytes of the golden files, and reads them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import layercast.bitstream.container
import layercast.bitstream.description
import layercast.bitstream.fields
import layercast.bitstream.unit
from layercast.bitstream import ContainerReader, decode_description, read_index, trim, unpack

from .golden import DELTA, DESCRIPTION, FOLDER, GAINS_DB, KEY, LAYERS, contents

DOCUMENT = (Path(__file__).parents[2] / "docs" / "bitstream.md").read_text(encoding="utf-8")


def golden(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", contents())
def test_todays_code_writes_the_golden_bytes(name):
    assert contents()[name] == golden(name)


def test_no_golden_file_is_left_without_a_test():
    assert {path.name for path in FOLDER.iterdir()} == set(contents())


@pytest.mark.parametrize(
    ("name", "header", "kept", "gains"),
    [
        ("key.unit", replace(KEY, total_layers=3), 3, GAINS_DB),
        ("key-trimmed-to-2.unit", replace(KEY, total_layers=3), 2, GAINS_DB),
        ("key-trimmed-to-0.unit", replace(KEY, total_layers=3), 0, GAINS_DB),
        ("delta.unit", DELTA, 3, []),
        ("wide.unit", replace(KEY, total_layers=3), 3, []),
    ],
)
def test_todays_code_reads_the_golden_units(name, header, kept, gains):
    unit = unpack(golden(name))
    assert unit.header == read_index(golden(name)).header == header
    assert unit.layers == tuple(LAYERS[:kept])
    assert unit.gains_db == tuple(gains[:kept])
    assert unit.damage is None


def test_todays_code_reads_the_golden_description_and_container():
    assert decode_description(golden("stream.description")) == DESCRIPTION
    with ContainerReader(FOLDER / "three-units.lcast") as reader:
        assert reader.description == DESCRIPTION
        assert list(reader) == [golden("key.unit"), trim(golden("key.unit"), 1), golden("delta.unit")]
        assert not reader.truncated
        assert reader.find_frame(2**32 - 1) == reader.find_time(2**63 - 1) == 2
        assert reader.key_before(2) == 1


def test_the_worked_example_of_the_document_is_the_golden_key_frame():
    example = re.search(r"```hex\n(.*?)```", DOCUMENT, re.DOTALL)[1]
    columns = [re.match(r"(?:[0-9a-f]{2} ?)+(?= )", line)[0] for line in example.splitlines()]
    assert bytes.fromhex(" ".join(columns)) == golden("key.unit")
    assert "first 54 bytes with byte 31" in DOCUMENT
    short = bytearray(golden("key.unit")[:54])
    assert short[31] == 3
    short[31] = 2
    assert short == golden("key-trimmed-to-2.unit")


def test_the_limits_in_the_document_are_the_constants_in_the_code():
    rows = re.findall(r"^\| `(MAX_\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)
    parts = [getattr(layercast.bitstream, part) for part in ("unit", "description", "fields", "container")]
    assert len(rows) == 7
    for name, value in rows:
        found = {getattr(part, name) for part in parts if hasattr(part, name)}
        assert found == {int(value)}, name
