"""Which layers of a network a target runs as they are, and which ones legalization rewrites; nothing is lowered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from squeezeedge.errors import UnsupportedError
from squeezeedge.lower.feature import Feature
from squeezeedge.lower.legalize import INTO, check_dense, feature_of

__all__ = ["NATIVE", "Convolution", "Support", "support_of"]


class Convolution(NamedTuple):
    """What decides about a convolution.

    Attributes:
        name: of the layer.
        outputs: output channels.
        inputs: input channels of one group.
        groups: how many.
        weights: how many values.
    """

    name: str
    outputs: int
    inputs: int
    groups: int
    weights: int

    @property
    def feature(self) -> Feature | None:
        """What it uses beyond the base."""
        return feature_of(self.outputs, self.inputs, self.groups)


class Support(NamedTuple):
    """How a target runs a layer.

    Attributes:
        how: "native": by its own kernel; "legalized": as ``into``; "refused": not at all.
        into: what :mod:`squeezeedge.lower.legalize` makes of it.
        factor: multiply-accumulates afterwards, per multiply-accumulate of the network.
        why: of a refusal.
    """

    how: Literal["native", "legalized", "refused"]
    into: str = ""
    factor: int = 1
    why: str = ""


NATIVE = Support("native")


def support_of(convolutions: Iterable[Convolution], supported: Collection[Feature]) -> Mapping[str, Support]:
    """How a target runs each convolution of a network; every other layer is of the base, which all targets have.

    Args:
        convolutions: in execution order.
        supported: what the target has kernels for beyond the base.
    """
    found: dict[str, Support] = {}
    rewritten: dict[Feature, list[tuple[str, int, int]]] = {}
    for conv in convolutions:
        if conv.feature is None or conv.feature in supported:
            found[conv.name] = NATIVE
            continue
        before = rewritten.setdefault(conv.feature, [])
        try:
            check_dense([*before, (conv.name, conv.groups, conv.weights)])
        except UnsupportedError as error:
            found[conv.name] = Support("refused", why=str(error))
        else:
            before.append((conv.name, conv.groups, conv.weights))
            found[conv.name] = Support("legalized", INTO[conv.feature], conv.groups)
    return found
