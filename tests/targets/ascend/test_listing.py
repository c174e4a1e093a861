"""The deploy model as text."""

from __future__ import annotations

import pytest

from squeezeedge.errors import SqueezeEdgeError, UsageError
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


def test_one_layer(make: Make) -> None:
    path = make(rounding="exact")
    lines, everything = list(TARGET.listing(path, "conv1")), list(TARGET.listing(path))
    assert 1 < len(lines) < len(everything) and set(lines) <= set(everything)
    assert all(line.split()[0].startswith(('["conv1"]', '["conv1.')) for line in lines)
    with pytest.raises(UsageError, match="`layer` konv1: the artifact has no such layer"):
        list(TARGET.listing(path, "konv1"))
