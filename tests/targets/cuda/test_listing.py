"""The PTX of an artifact."""

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cuda import TARGET
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
