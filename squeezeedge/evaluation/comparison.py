"""The result of a comparison of two sides, layer by layer: JSON values, a table and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from squeezeedge.errors import GateError, counted
from squeezeedge.evaluation.tables import Table, number
from squeezeedge.graph.rules import Shape

__all__ = ["Comparison", "Element", "ExactComparison", "ExactLayer", "FloatComparison", "FloatLayer"]


class Element(NamedTuple):
    """An element of a tensor in which the two sides differ, with the oracle's value for the image.

    Attributes:
        image: its number, n.
        y: row; 0 of a class sum.
        x: column; 0 of a class sum.
        channel: channel, or class.
        a: value of the first side.
        b: value of the second side.
        oracle: the right value.
    """

    image: int
    y: int
    x: int
    channel: int
    a: int
    b: int
    oracle: int


@dataclass(frozen=True)
class ExactLayer:
    """A layer of two sides that compute the same integer graph; the last one is the head, whose values are class sums.

    Attributes:
        name: of the layer.
        shape: (height, width, channels) of what it makes; of the head, (1, 1, classes).
        values: how many were compared, of all images.
        differing: how many of them differ.
        largest: largest difference.
        first: the first that differs, in the order of images, rows, columns, channels.
        wrong_a: values in which this layer of the first side differs from the oracle on that side's own inputs. These
            faults arise here; they are not only passed on.
        wrong_b: the same of the second side.
        unseen: why it was not compared; empty where it was.
    """

    name: str
    shape: Shape
    values: int = 0
    differing: int = 0
    largest: int = 0
    first: Element | None = None
    wrong_a: int = 0
    wrong_b: int = 0
    unseen: str = ""


@dataclass(frozen=True)
class FloatLayer:
    """A layer beside fp32.

    Attributes:
        name: of the layer.
        shape: (height, width, channels) of what it makes; of the head, (1, 1, classes): logits.
        values: how many were compared, of all images.
        sqnr_db: signal-to-quantization-noise ratio of scale * (q - zero point), in decibels; infinite where nothing
            differs, not a number where the signal is 0 and the noise is not.
        largest_error: largest difference from fp32, in its units.
        saturated: values at the end of the range, where larger ones are clipped: 255, and 0 if the zero point is
            128.
        unseen: why it was not compared; empty where it was.
    """

    name: str
    shape: Shape
    values: int = 0
    sqnr_db: float = math.nan
    largest_error: float = 0.0
    saturated: int = 0
    unseen: str = ""


@dataclass(frozen=True)
class Comparison:
    """What both kinds have.

    Attributes:
        model: name of the network.
        a: the first side, as "cpu", "vta on user@host", "oracle".
        b: the second side.
        images: how many were run.
        changed: images to which the two give different classes.
        remarks: what people should know of the images.
    """

    model: str
    a: str
    b: str
    images: int
    changed: int
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        """One line."""
        return f"{self.model}, {counted(self.images, 'image')}: a = {self.a}, b = {self.b}"

    @property
    def _changed(self) -> str:
        return f"{self.changed} of {counted(self.images, 'image')} {'gets' if self.changed == 1 else 'get'}"

    def table(self) -> Table:
        """One row a layer."""
        raise NotImplementedError

    def sentences(self) -> list[str]:
        """What the table does not say, one sentence each."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Stable keys."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise GateError where the sides compute the same integers and differ."""

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *self.sentences()])


@dataclass(frozen=True)
class ExactComparison(Comparison):
    """Two sides that must give the same integers.

    Attributes:
        layers: in execution order.
        tolerance: what class sums may differ where fp16 computes them, as a share of the largest.
        share: largest difference of class sums, as a share of the largest of its image.
    """

    layers: tuple[ExactLayer, ...]
    tolerance: float
    share: float

    @property
    def first(self) -> ExactLayer | None:
        """The first layer that differs."""
        return next((layer for layer in self.layers if layer.differing), None)

    @property
    def agrees(self) -> bool:
        """Whether no tensor differs, and no class sum by more than the tolerance."""
        *layers, head = self.layers
        return not any(layer.differing for layer in layers) and (not head.differing or self.share <= self.tolerance)

    def check(self) -> None:
        """Raise GateError, which names the first element, unless they agree."""
        if not self.agrees:
            assert self.first is not None
            raise GateError(f"{self.model}: {self.a} and {self.b} differ; {self._where(self.first)}")

    def table(self) -> Table:
        """Layers, their differing values, and the faults that each side makes itself; unseen layers have dashes."""
        columns = ("layer", "differ", "%", "largest", "a wrong", "b wrong")
        rows = [
            [layer.name, "-", "-", "-", "-", "-"]
            if layer.unseen
            else [
                layer.name,
                str(layer.differing),
                number(100 * layer.differing / layer.values, 2 if layer.differing else 0),
                str(layer.largest),
                str(layer.wrong_a),
                str(layer.wrong_b),
            ]
            for layer in self.layers
        ]
        return Table(self.title, columns, rows)

    def sentences(self) -> list[str]:
        """The first element, what becomes of the class sums, and what was not compared."""
        found = list(self.remarks)
        if self.first is None:
            found.append("nothing differs")
        else:
            found.append(f"first difference: {self._where(self.first)}")
            head = self.layers[-1]
            found.append(
                f"class sums: {head.differing} of {head.values} differ, by at most {100 * self.share:.3g} % of the "
                f"largest; {self._changed} another class"
            )
            if self.tolerance and head.differing:
                found.append(f"class sums may differ by {100 * self.tolerance:.3g} %: fp16 computes them")
        found += _unseen({layer.name: layer.unseen for layer in self.layers if layer.unseen})
        return found

    def _where(self, layer: ExactLayer) -> str:
        first = layer.first
        assert first is not None
        if layer is self.layers[-1]:
            place = f"the sum of class {first.channel}"
        else:
            place = f"(y, x, c) = ({first.y}, {first.x}, {first.channel})"
        return (
            f"{layer.name}, image {first.image}, {place}: a={first.a}, b={first.b}, oracle={first.oracle}; "
            f"{layer.differing} of {layer.values} values differ there"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields; elements are objects."""
        values = {**vars(self), "agrees": self.agrees, "remarks": list(self.remarks)}
        layers = [{**vars(layer), "first": layer.first and layer.first._asdict()} for layer in self.layers]
        return {"kind": "exact", **values, "layers": layers, "first": self.first and self.first.name}


@dataclass(frozen=True)
class FloatComparison(Comparison):
    """Integers beside fp32.

    Attributes:
        layers: in execution order.
    """

    layers: tuple[FloatLayer, ...]

    def table(self) -> Table:
        """Layers, their noise, largest error and saturation."""
        columns = ("layer", "shape", "SQNR dB", "max error", "saturated", "%")
        rows = [
            [layer.name, "-", "-", "-", "-", "-"]
            if layer.unseen
            else [
                layer.name,
                "x".join(map(str, layer.shape)),
                number(layer.sqnr_db, 1) if math.isfinite(layer.sqnr_db) else "-",
                f"{layer.largest_error:.4g}",
                str(layer.saturated),
                number(100 * layer.saturated / layer.values, 2),
            ]
            for layer in self.layers
        ]
        return Table(self.title, columns, rows)

    def sentences(self) -> list[str]:
        """The layer of the lowest ratio, what becomes of the classes, and what was not compared."""
        seen = [layer for layer in self.layers[:-1] if math.isfinite(layer.sqnr_db)]
        found = list(self.remarks)
        if seen:
            worst = min(seen, key=lambda layer: layer.sqnr_db)
            found.append(f"lowest ratio: {worst.name}, {worst.sqnr_db:.1f} dB")
        found.append(f"{self._changed} another class than fp32")
        return found + _unseen({layer.name: layer.unseen for layer in self.layers if layer.unseen})

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        values = {**vars(self), "remarks": list(self.remarks)}
        return {"kind": "fp32", **values, "layers": [vars(layer) for layer in self.layers]}


def _unseen(reasons: Mapping[str, str]) -> list[str]:
    """One sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"not compared: {', '.join(names)}; {reason}" for reason, names in by_reason.items()]
