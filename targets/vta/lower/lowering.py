"""The stages of a partitioned module as layers of the accelerator.

Operations without a layer of their own become convolutions: a pooling that stands alone follows an identity, and a
permutation brings the operands of an addition into one order where their lanes differ. A pooling that is the only
reader of some convolutions is fused with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE, Conv, Head, MaxPool, rules
from squeezeedge.graph.dispatch import Table
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.bias import offset_bias
from squeezeedge.lower.legalize import dense_weight
from squeezeedge.lower.patterns import Pattern
from squeezeedge.lower.stages import Stage
from squeezeedge.targets.vta.isa.encoding import MAX_SHIFT, SHIFT_BITS
from squeezeedge.targets.vta.isa.program import Packing
from squeezeedge.targets.vta.lower.layers import AddLayer, ConvLayer, Layer, Layers, Part
from squeezeedge.targets.vta.lower.tensors import NO_PADS, Arena, Pads, Value, joined
from squeezeedge.targets.vta.lower.weights import weight_elements

__all__ = ["to_layers"]

PATCH_LIMIT = 1 << 28
"""Bytes of the image's patches that a host may have to write before every run."""


def to_layers(stages: Sequence[Stage], block: int, *, halos: bool) -> Layers:
    """Lower the stages of a partitioned module.

    Args:
        stages: in execution order, with the fusions ``CONVOLUTION_POOL`` and ``CONCAT_CONVOLUTIONS`` or without.
        block: channels of an element.
        halos: whether padding must lie in DRAM because the instructions can't make it.

    Raises:
        UnsupportedError: the image's patches are too large, or a shift is; the text names the layer.
    """
    lowering = _Lowering(stages, block, _halos(stages) if halos else {})
    for stage in stages:
        if stage.name not in lowering.values:  # otherwise, a pooling that went behind the convolutions before it
            _LOWER(stage, lowering)
    return Layers(
        tuple(lowering.layers),
        tuple(lowering.packings),
        tuple(lowering.arena.fills),
        lowering.arena.elements,
        stages[-1].out.channels,
        lowering.values,
        lowering.unseen,
    )


def _halos(stages: Sequence[Stage]) -> dict[str, Pads]:
    """The padding that each tensor needs in DRAM; the parts of a concatenation have the same."""
    need: dict[str, Pads] = {}

    def widen(name: str, pads: Pads) -> bool:
        old = need.get(name, NO_PADS)
        need[name] = tuple(max(pair) for pair in zip(old, pads, strict=True))  # type: ignore[assignment]
        return need[name] != old

    for stage in stages:
        for conv in stage.convolutions:
            if conv.input != IMAGE:  # its patches have the padding
                widen(conv.input, conv.padding)
    concatenations = [stage for stage in stages if stage.pattern is Pattern.CONCAT]
    changed = True
    while changed:
        changed = False
        for stage in concatenations:
            names = (stage.name, *stage.inputs)
            pads = [need.get(name, NO_PADS) for name in names]
            most = tuple(max(sides) for sides in zip(*pads, strict=True))
            changed = any([widen(name, most) for name in names]) or changed
    return need


class _Lowering:
    """The results of the stages that are lowered so far.

    Attributes:
        values: tensors by their name in the graph.
        layers: in execution order.
        packings: what the host makes of the image.
        unseen: name of every tensor that does not lie in DRAM -> why.
    """

    def __init__(self, stages: Sequence[Stage], block: int, halos: Mapping[str, Pads]) -> None:
        self.block = block
        self.halos = halos
        self.arena = Arena(block)
        self.values: dict[str, Value] = {}
        self.unseen: dict[str, str] = {}
        self.layers: list[Layer] = []
        self.packings: list[Packing] = []
        self.readers = Counter(name for stage in stages for name in stage.inputs)
        self.next_pool = {
            stage.inputs[0]: stage
            for stage in stages
            if stage.pattern is Pattern.MAX_POOL and self.readers[stage.inputs[0]] == 1
        }

    # Tensors ----------------------------------------------------------------------------------------------------------

    def new(self, name: str, shape: Shape, zero_point: int, *, halo_of: str) -> Value:
        """A tensor that a layer makes."""
        return self.arena.value(name, shape, zero_point, self.halos.get(halo_of, NO_PADS))

    def input(self, name: str, stage: Stage) -> Value:
        """A tensor; the image itself becomes one, as patches of one pixel."""
        if name == IMAGE and name not in self.values:
            height, width, _ = stage.shape(IMAGE)
            top, left, bottom, right = halo = self.halos.get(IMAGE, NO_PADS)
            out = (top + height + bottom, left + width + right)
            packed = self._packed(
                Packing(IMAGE, (height, width), (1, 1), (1, 1), halo, (0, 0, 0), *out, self.block), stage
            )
            origins = tuple(origin + top * packed.pitch + left for origin in packed.origins)
            self.values[IMAGE] = replace(packed, height=height, width=width, zero_point=0, origins=origins, halo=halo)
        return self.values[name]

    def patches(self, stage: Stage, index: int) -> Value:
        """The image as patches for one convolution."""
        conv, image = stage.convolutions[index], stage.shape(IMAGE)
        out = stage.shape(conv.name)
        red, green, blue = conv.pad_value.tolist()
        packing = Packing(
            f"{IMAGE}/{stage.name}/{index}",
            (image.height, image.width),
            (conv.weight.shape[1], conv.weight.shape[2]),
            conv.stride,
            conv.padding,
            (red, green, blue),
            out.height,
            out.width,
            self.block,
        )
        return self._packed(packing, stage)

    def _packed(self, packing: Packing, stage: Stage) -> Value:
        kernel = packing.kernel
        if packing.size > PATCH_LIMIT:
            raise UnsupportedError(
                f"{stage.name}: the image's {kernel[0]}x{kernel[1]} patches take {packing.size >> 20} MiB, "
                f"at most {PATCH_LIMIT >> 20} are supported; use a smaller image or a larger stride"
            )
        self.packings.append(packing)
        shape = Shape(packing.height, packing.width, 3 * kernel[0] * kernel[1])
        return self.arena.value(packing.region, shape, rules.SIGN, host=True)

    # Layers -----------------------------------------------------------------------------------------------------------

    def copies(self, name: str, value: Value, lanes: NDArray[np.int64], pool: MaxPool | None, size: Shape) -> Value:
        """The tensor with its channels in the order of ``lanes``, pooled to ``size``; one layer a block."""
        block = self.block
        result = self.new(name, size._replace(channels=len(lanes)), value.zero_point, halo_of=name)
        where = {int(channel): lane for lane, channel in enumerate(value.lanes) if channel >= 0}
        for index, origin in enumerate(result.origins):
            wanted = [where[int(c)] if c >= 0 else -1 for c in lanes[index * block : (index + 1) * block]]
            sources = sorted({lane // block for lane in wanted if lane >= 0}) or [0]
            weight = np.zeros((1, len(sources), block, block), np.int8)
            for lane, source in enumerate(wanted):
                if source >= 0:
                    weight[0, sources.index(source // block), lane, source % block] = 1
            zeros = np.zeros((1, block), np.int32)
            target = replace(result, origins=(origin,))
            part = Part((1, 1), (0, 0), weight, zeros, zeros.astype(np.uint8), False, target, (0,))
            blocks = replace(value, origins=tuple(value.origins[source] for source in sources))
            self.layers.append(ConvLayer(name, blocks, (part,), (1, 1), value.height, value.width, size, pool))
        return replace(result, lanes=lanes)

    def part(self, conv: Conv | Head, source: Value, stage: Stage, target: Value | None) -> Part:
        """A convolution of a tensor, or of the image's patches."""
        weight, groups, kernel, padding = conv.weight, conv.groups, conv.weight.shape[1:3], conv.padding[:2]
        if conv.input == IMAGE:  # its patches have the channels of all groups
            weight, groups, kernel, padding = dense_weight(conv).reshape(len(weight), 1, 1, -1), 1, (1, 1), (0, 0)
        elements, first = weight_elements(weight, groups, source.lanes, self.block)
        bias = offset_bias(conv, stage.tensors[conv.input], rules.SIGN)  # R7
        shift = np.zeros(len(weight), np.uint8) if isinstance(conv, Head) else conv.shift
        check_shift(conv.name, shift)
        return Part(
            (kernel[0], kernel[1]),
            (padding[0], padding[1]),
            elements,
            self._lanes(bias).astype(np.int32),
            self._lanes(shift).astype(np.uint8),
            target is not None and target.zero_point == 0,
            target,
            first,
        )

    def _lanes(self, channels: NDArray[np.generic]) -> NDArray[np.int64]:
        """[channels] -> [blocks, block], zeros behind."""
        padded = np.pad(channels.astype(np.int64), (0, -len(channels) % self.block))
        return padded.reshape(-1, self.block)


def check_shift(layer: str, shift: NDArray[np.uint8]) -> None:
    """Refuse what the accelerator's shifts can't do.

    Raises:
        UnsupportedError: a shift is too large.
    """
    if shift.max(initial=0) > MAX_SHIFT:
        raise UnsupportedError(
            f"{layer}: a shift of {shift.max()}; the accelerator's has {SHIFT_BITS} bits, so {MAX_SHIFT} at most; "
            f"quantize again with shifts up to {MAX_SHIFT}, or use another target"
        )


_LOWER: Table[Stage, None] = Table("VTA layers", tuple(Pattern), key=lambda stage: stage.pattern)


@_LOWER.implements(Pattern.CONCAT)
def _concat(stage: Stage, lowering: _Lowering) -> None:
    lowering.values[stage.name] = joined(stage.name, [lowering.input(name, stage) for name in stage.inputs])


@_LOWER.implements(Pattern.MAX_POOL)
def _max_pool(stage: Stage, lowering: _Lowering) -> None:
    value = lowering.input(stage.inputs[0], stage)
    lowering.values[stage.name] = lowering.copies(stage.name, value, value.lanes, stage.pooling, stage.out)


@_LOWER.implements(Pattern.CONVOLUTION, Pattern.CONVOLUTION_POOL, Pattern.CONCAT_CONVOLUTIONS, Pattern.HEAD)
def _convolutions(stage: Stage, lowering: _Lowering) -> None:
    pooling, name = stage.pooling, stage.name
    follower = lowering.next_pool.get(stage.name)
    if pooling is None and follower is not None:
        pooling, name = follower.pooling, follower.name
    head = stage.nodes[-1] if isinstance(stage.nodes[-1], Head) else None
    groups: dict[tuple[Value, tuple[int, int]], list[tuple[Part, Conv | Head]]] = {}
    targets: list[Value] = []
    for index, conv in enumerate(stage.convolutions):
        out, pooled = stage.tensors[conv.name], stage.shape(name)
        if head is None:
            label = name if len(stage.convolutions) == 1 else f"{name}/{index}"
            shape = pooled._replace(channels=out.channels)
            targets.append(lowering.new(label, shape, out.zero_point, halo_of=name))
        source = lowering.patches(stage, index) if conv.input == IMAGE else lowering.input(conv.input, stage)
        part = lowering.part(conv, source, stage, None if head else targets[-1])
        groups.setdefault((source, (1, 1) if conv.input == IMAGE else conv.stride), []).append((part, conv))
    if targets:
        made = {conv.name: value for conv, value in zip(stage.convolutions, targets, strict=True)}
        if pooling is None:
            lowering.values |= made
        else:
            inside = (*made, *([stage.name] if stage.name not in (name, *made) else []))
            lowering.unseen |= dict.fromkeys(inside, f"it stays on the chip, where {name} pools it")
        lowering.values[name] = joined(name, targets)
    label = stage.name if name == stage.name else f"{stage.name}+{name}"
    for number, ((source, stride), members) in enumerate(groups.items()):
        size = stage.shape(members[0][1].name)
        lowering.layers.append(
            ConvLayer(
                label if len(groups) == 1 else f"{label}/{number}",
                source,
                tuple(part for part, _ in members),
                stride,
                size.height,
                size.width,
                stage.shape(name),
                pooling,
                head is not None,
                head is not None and head.relu,
                sum(conv.weight.size * size.height * size.width for _, conv in members),
            )
        )


@_LOWER.implements(Pattern.ADD)
def _add(stage: Stage, lowering: _Lowering) -> None:
    node = stage.addition
    assert node is not None
    check_shift(node.name, node.shift)
    first, second = (lowering.input(name, stage) for name in stage.inputs)
    if not np.array_equal(first.lanes, second.lanes):
        if len(second.lanes) < len(first.lanes):
            first = lowering.copies(f"{stage.name}/a", first, second.lanes, None, stage.out)
        else:
            second = lowering.copies(f"{stage.name}/b", second, first.lanes, None, stage.out)
    lanes = first.lanes
    target = lowering.new(stage.name, stage.out._replace(channels=len(lanes)), node.zero_point, halo_of=stage.name)
    target = replace(target, lanes=lanes)
    shift = node.shift.astype(np.int32)
    zero_points = np.array([[stage.tensors[name].zero_point] for name in stage.inputs])
    bias = rules.rounding_term(shift) + rules.SIGN - zero_points  # the operands are q - 128
    blocks = (2, -1, lowering.block)
    lowering.values[stage.name] = target
    lowering.layers.append(
        AddLayer(
            stage.name,
            (first, second),
            np.where(lanes >= 0, bias[:, lanes], 0).reshape(blocks).swapaxes(0, 1).astype(np.int32),
            np.where(lanes >= 0, shift[:, lanes], 0).reshape(blocks).swapaxes(0, 1).astype(np.uint8),
            node.zero_point == 0,
            target,
        )
    )
