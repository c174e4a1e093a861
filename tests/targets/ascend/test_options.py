"""The options and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from squeezeedge.errors import UsageError
from squeezeedge.targets.ascend.options import AscendOptions
from tests.targets.ascend.conftest import Make


def test_the_chip_must_be_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs --soc-version: .*Ascend310P3.*npu-smi info"):
        make(soc_version="")
    with pytest.raises(UsageError, match="not a chip's name"):
        make(soc_version="Ascend310 --log=debug")
    with pytest.raises(UsageError, match=r"--rounding up: not known; there are: exact, fused"):
        make(rounding="up")
    assert not list(tmp_path.glob("artifact"))


def test_the_options_are_all_documented() -> None:
    assert AscendOptions.__dataclass_fields__.keys() == {"soc_version", "rounding"}
    assert all("help" in field.metadata for field in AscendOptions.__dataclass_fields__.values())
