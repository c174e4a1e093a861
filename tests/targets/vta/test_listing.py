"""What is printed of an artifact."""

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.targets.vta.device import DRAM, PROGRAM
from squeezeedge.targets.vta.listing import WIDTH, listing
from tests.targets.vta.board_artifact import write_board_artifact, write_manifest


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    write_board_artifact(tmp_path)
    return tmp_path


def test_a_line_an_instruction_with_its_layer(artifact: Path) -> None:
    lines = list(listing(artifact))
    assert [line[:WIDTH].split()[3] for line in lines] == ["load"] * 4 + ["xgemm", "store", "finish"]
    assert [line[WIDTH:] for line in lines] == ["  ; conv"] * 7
    assert [int(line.split()[0]) for line in lines] == list(range(7))


def test_a_file_that_is_not_the_manifest_s(artifact: Path) -> None:
    (artifact / DRAM).write_bytes((artifact / DRAM).read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match=r"dram\.bin: differs from its checksum"):
        list(listing(artifact))


def test_a_description_that_is_none(artifact: Path) -> None:
    (artifact / PROGRAM).write_text("{}")
    write_manifest(artifact)
    with pytest.raises(CorruptFileError, match=r"VTA program: damaged description .*compile again"):
        list(listing(artifact))


def test_one_layer(artifact: Path) -> None:
    assert list(listing(artifact, "conv")) == list(listing(artifact))
    with pytest.raises(UsageError, match=r"`layer` konv: the artifact has no such layer \(did you mean conv\?\)"):
        list(listing(artifact, "konv"))
