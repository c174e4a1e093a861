"""The PTX of an artifact."""

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cuda import TARGET
from squeezeedge.targets.cuda.listing import _entry
from tests.targets.devices import seal


def test_listing(artifact: Path) -> None:
    (artifact / "kernels.sm_80.ptx").write_text(".version 8.0\n\n.entry kernel()\n")
    with pytest.raises(CorruptFileError, match=r"sm_80\.ptx: differs from its checksum in manifest\.json; copy"):
        TARGET.listing(artifact)
    seal(artifact)
    assert list(TARGET.listing(artifact)) == ["ptx of sm_75", ".version 8.0", "", ".entry kernel()"]
    (artifact / "kernels.sm_80.ptx").write_bytes(b"\xff\x00")
    seal(artifact)
    with pytest.raises(CorruptFileError, match=f"{artifact}: .*ascii"):
        TARGET.listing(artifact)
    (artifact / "manifest.json").unlink()
    with pytest.raises(CorruptFileError, match="this folder is no artifact"):
        TARGET.listing(artifact)


def test_a_kernel_s_lines() -> None:
    lines = [".version 8", ".visible .entry stage1_conv(", "{", "}", ".visible .entry stage10_conv(", "{", "}"]
    assert list(_entry(lines, "stage1_conv")) == lines[1:4]
    assert list(_entry(lines, "stage10_conv")) == lines[4:]
