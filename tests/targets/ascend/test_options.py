"""The options and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from squeezeedge.errors import UsageError
from squeezeedge.targets.ascend import TARGET
from squeezeedge.targets.ascend.options import CHIPS, EMULATED, AscendOptions
from tests.targets.ascend.conftest import Make


def test_the_chip_must_be_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs `soc_version`: .*Ascend310P3.*npu-smi info"):
        make(soc_version="")
    with pytest.raises(UsageError, match="not a chip's name"):
        make(soc_version="Ascend310 --log=debug")
    with pytest.raises(UsageError, match=r"`rounding` up: not known; there are: exact, fused"):
        make(rounding="up")
    assert not list(tmp_path.glob("artifact"))


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("Ascend910B33", r"not known; did you mean Ascend910B3( or .*)?\?"),
        ("ascend310p3", r"did you mean Ascend310P3 or "),
        ("Ascend310p3", r"did you mean Ascend310P3 or "),
        ("310P3", r"did you mean Ascend310P3 or "),
        ("Asend310", r"did you mean Ascend310( or .*)?\?"),
        ("Ascend310P", r"did you mean Ascend310 or Ascend310P|did you mean Ascend310P"),
        ("sm_80", r"there are: Ascend310 \(Atlas"),
        ("Ascend999", "If it is a new chip, write `soc_version` =Ascend999$"),
    ],
)
def test_unknown_chips_are_refused_with_the_nearest(asked: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"`soc_version` {asked}: not known; .*") as caught:
        TARGET.check_options(AscendOptions(asked))
    assert re.search(text, str(caught.value)) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "chip", [*CHIPS, EMULATED, "Ascend310P3vir04", "Ascend910B3vir10_3c_32g", "Ascend310P3vir02_1c"]
)
def test_known_chips_and_parts_of_them(chip: str) -> None:
    TARGET.check_options(AscendOptions(chip))


def test_a_new_chip_is_taken_as_it_is_written(make: Make) -> None:
    """``=`` says that it is no typo; ATC is told the name alone."""
    TARGET.check_options(AscendOptions("=Ascend950PR_9599"))
    assert "--soc_version=Ascend950PR_9599" in (make(soc_version="=Ascend950PR_9599") / "atc.sh").read_text()
    with pytest.raises(UsageError, match="not a chip's name"):
        TARGET.check_options(AscendOptions("=Ascend310 --log=debug"))


def test_the_options_are_all_documented() -> None:
    assert AscendOptions.__dataclass_fields__.keys() == {"soc_version", "rounding", "debug"}
    assert all("help" in field.metadata for field in AscendOptions.__dataclass_fields__.values())
