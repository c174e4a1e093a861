"""What a comparison says: tables, sentences, JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from squeezeedge.errors import GateError
from squeezeedge.evaluation.comparison import Element, ExactComparison, ExactLayer, FloatComparison, FloatLayer
from squeezeedge.graph.rules import Shape

NAME = "features.12.expand3x3.conv"
SHAPE = Shape(55, 55, 128)

LAYERS = (
    ExactLayer("conv1", Shape(9, 9, 4), unseen="cpu: it is fused"),
    ExactLayer("conv2", Shape(9, 9, 4), unseen="cpu: it is fused"),
    ExactLayer("conv3", SHAPE, 774400, 0),
    ExactLayer(NAME, SHAPE, 774400, 12, 7, Element(1, 2, 3, 4, 12, 13, 13), 12),
    ExactLayer("head", Shape(1, 1, 1000), 2000, 1900, 123456, Element(1, 0, 0, 7, -5, 123451, 123451)),
)
EXACT = ExactComparison("net", "cpu", "oracle", 2, 1, ("2 images are noise",), LAYERS, 0.0, 0.0125)
SAME = replace(EXACT, layers=(*LAYERS[:3], ExactLayer("head", Shape(1, 1, 1000), 2000)), changed=0, share=0.0)
FLOAT = FloatComparison(
    "net",
    "cpu",
    "fp32",
    2,
    2,
    (),
    (
        FloatLayer("conv1", SHAPE, unseen="cpu: it is fused"),
        FloatLayer("pool", Shape(2, 2, 3), 24, math.inf),
        FloatLayer(NAME, SHAPE, 774400, 33.456, 0.012345, 7744),
        FloatLayer("head", Shape(1, 1, 1000), 2000, 51.0, 0.5),
    ),
)


def test_where_it_first_differs() -> None:
    assert EXACT.first is LAYERS[3] and not EXACT.agrees
    where = f"{NAME}, image 1, (y, x, c) = (2, 3, 4): a=12, b=13, oracle=13; 12 of 774400 values differ there"
    assert EXACT.sentences() == [
        "2 images are noise",
        f"first difference: {where}",
        "class sums: 1900 of 2000 differ, by at most 1.25 % of the largest; 1 of 2 images gets another class",
        "not compared: conv1, conv2; cpu: it is fused",
    ]
    with pytest.raises(GateError) as caught:
        EXACT.check()
    assert str(caught.value) == f"net: cpu and oracle differ; {where}"
    only = replace(EXACT, layers=(*LAYERS[:3], LAYERS[4]))
    assert "head, image 1, the sum of class 7: a=-5, b=123451" in only.sentences()[1]


def test_where_nothing_differs() -> None:
    assert SAME.agrees and SAME.first is None
    SAME.check()
    assert SAME.sentences()[1] == "nothing differs"


def test_class_sums_may_differ_where_fp16_computes_them() -> None:
    head = replace(EXACT, layers=(*LAYERS[:3], LAYERS[4]), changed=0)
    for tolerance, agrees in ((0.0, False), (0.0124, False), (0.0125, True)):
        assert replace(head, tolerance=tolerance).agrees is agrees
    assert "class sums may differ by 1.25 %: fp16 computes them" in replace(head, tolerance=0.0125).sentences()
    assert not replace(EXACT, tolerance=0.5).agrees, "layers before the head may not"


@pytest.mark.parametrize("found", [EXACT, FLOAT])
def test_a_table_fits_into_80_columns(found: ExactComparison | FloatComparison) -> None:
    text = str(found.table())
    title, _, columns, *rows = text.splitlines()
    assert max(map(len, (title, columns, *rows))) <= 80, text
    assert [line.split()[0] for line in rows] == [layer.name for layer in found.layers if not layer.unseen]
    assert str(found).splitlines()[0] == f"net, 2 images: a = cpu, b = {found.b}"


def test_rows() -> None:
    assert EXACT.table().rows[0] == ["conv1", "-", "-", "-", "-", "-"]
    assert EXACT.table().rows[2:4] == [["conv3", "0", "0", "0", "0", "0"], [NAME, "12", "0.00", "7", "12", "0"]]
    assert FLOAT.table().rows[1:3] == [
        ["pool", "2x2x3", "-", "0", "0", "0.00"],
        [NAME, "55x55x128", "33.5", "0.01235", "7744", "1.00"],
    ]


def test_beside_fp32() -> None:
    assert FLOAT.sentences() == [
        f"lowest ratio: {NAME}, 33.5 dB",
        "2 of 2 images get another class than fp32",
        "not compared: conv1; cpu: it is fused",
    ]
    FLOAT.check()


def test_json() -> None:
    exact = json.loads(json.dumps(EXACT.to_json()))
    assert exact.keys() == {
        *("kind", "model", "a", "b", "images", "changed", "remarks", "layers", "tolerance", "share", "agrees", "first"),
    }
    assert (exact["kind"], exact["agrees"], exact["first"]) == ("exact", False, NAME)
    assert exact["layers"][3]["first"] == {"image": 1, "y": 2, "x": 3, "channel": 4, "a": 12, "b": 13, "oracle": 13}
    assert exact["layers"][2]["first"] is None and exact["layers"][0]["unseen"] == "cpu: it is fused"
    assert json.loads(json.dumps(SAME.to_json()))["first"] is None
    floating = FLOAT.to_json()
    assert floating["kind"] == "fp32" and floating["layers"][2]["sqnr_db"] == 33.456
    assert floating["layers"][2]["shape"] == SHAPE
