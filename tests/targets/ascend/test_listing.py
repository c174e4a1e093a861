"""The deploy model as text."""

from __future__ import annotations

import pytest

from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.targets.ascend import TARGET
from tests.targets.ascend.conftest import Make


def test_listing(make: Make) -> None:
    path = make(rounding="fused")
    lines = list(TARGET.listing(path))
    assert sum("AscendQuant <" in line for line in lines) == 26
    assert any("conv1.quant" in line and "offset" in line and "-128" in line for line in lines)
    assert max(map(len, lines)) < 500, "no weights"
    (path / "model_deploy_model.onnx").write_bytes(b"\xff\xff")
    with pytest.raises(SqueezeEdgeError, match="compile the model again"):
        list(TARGET.listing(path))
