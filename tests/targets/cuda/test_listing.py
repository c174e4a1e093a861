"""The PTX of an artifact."""

from pathlib import Path

import pytest

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.cuda import TARGET
from squeezeedge.targets.cuda.options import PTX


def test_listing(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"not readable as PTX: .*; compile the model again"):
        TARGET.listing(tmp_path)
    (tmp_path / PTX).write_text(".version 8.0\n\n.entry kernel()\n")
    assert list(TARGET.listing(tmp_path)) == [".version 8.0", "", ".entry kernel()"]
    (tmp_path / PTX).write_bytes(b"\xff\x00")
    with pytest.raises(CorruptFileError, match="not readable as PTX"):
        TARGET.listing(tmp_path)
