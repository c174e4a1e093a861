"""The stages of a partitioned module as layers of the accelerator, and where their tensors lie in DRAM.

A tensor in DRAM is a list of planes, one for each block of channels: int8 [rows, columns, block] of q - 128 (R7).
A concatenation is a list of other tensors' planes, so it costs nothing and its parts may have any channel count:
lanes that have no channel meet weights of zero. What the accelerator has no layer for is expressed as a convolution:
a pooling that stands alone follows an identity, and operands of an addition whose lanes differ are brought into one
order by a permutation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IMAGE
from squeezeedge.lower.patterns import Addition, Convolution, Pattern, Pooling, Stage
from squeezeedge.targets.vta.host import Packing

__all__ = ["AddLayer", "Arena", "ConvLayer", "Fill", "Layers", "Part", "Value", "to_layers"]

PATCH_LIMIT = 1 << 28
"""Bytes of the image's patches that a host may have to write before every run."""

Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Fill:
    """Elements of the arena that a host or nobody writes.

    Attributes:
        name: of the region.
        first: element.
        count: elements.
        value: byte that they are filled with once.
        host: whether the host writes them before every run.
    """

    name: str
    first: int
    count: int
    value: int
    host: bool


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor in DRAM.

    Attributes:
        name: as in the graph.
        height: rows.
        width: columns.
        zero_point: 0 or 128.
        pitch: elements from one row to the next.
        origins: for each channel block, the arena's element that holds pixel (0, 0).
        lanes: int [blocks * block]: the channel in each lane, -1 where there is none.
        halo: padding that lies in DRAM: top, left, bottom, right.
    """

    name: str
    height: int
    width: int
    zero_point: int
    pitch: int
    origins: tuple[int, ...]
    lanes: NDArray[np.int64]
    halo: Pads = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Part:
    """A convolution of a layer.

    Attributes:
        kernel: (height, width).
        padding: top and left.
        weight: int8 [out blocks, kernel_h * kernel_w * in blocks, block of out, block of in].
        bias: int32 [out blocks, block]: for signed storage, the rounding term included (R3).
        shift: uint8 [out blocks, block].
        low: the output's zero point is 0.
        target: where the results go (after the pooling, if the layer has one); ``None`` in the head.
    """

    kernel: tuple[int, int]
    padding: tuple[int, int]
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.uint8]
    low: bool
    target: Value | None

    @property
    def taps(self) -> int:
        """Matrix products of one output element."""
        return int(self.weight.shape[1])

    @property
    def blocks(self) -> int:
        """Output channel blocks."""
        return len(self.weight)


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """Convolutions side by side that read one tensor; all have the same output size and stride.

    Attributes:
        name: as in the graph.
        source: the tensor.
        parts: the convolutions.
        stride: (vertical, horizontal).
        height: output rows (before the pooling).
        width: output columns (before the pooling).
        pool: the pooling behind every part.
        head: whether the results are summed over the map (R6).
        relu: of the head.
        macs: multiply-accumulates of the network.
    """

    name: str
    source: Value
    parts: tuple[Part, ...]
    stride: tuple[int, int]
    height: int
    width: int
    pool: Pooling | None = None
    head: bool = False
    relu: bool = False
    macs: int = 0


@dataclass(frozen=True, eq=False)
class AddLayer:
    """A bypass addition (R5): operands with the same lanes.

    Attributes:
        name: as in the graph.
        operands: the two tensors.
        bias: int32 [blocks, 2, block]: 128 - z and the rounding term.
        shift: uint8 [blocks, 2, block].
        low: the output's zero point is 0.
        target: where the results go.
    """

    name: str
    operands: tuple[Value, Value]
    bias: NDArray[np.int32]
    shift: NDArray[np.uint8]
    low: bool
    target: Value


@dataclass(frozen=True)
class Layers:
    """A network for the accelerator.

    Attributes:
        layers: in execution order, the head last.
        packings: what the host makes of the image.
        fills: elements that a layer does not write.
        elements: size of the arena.
        classes: of the head.
    """

    layers: tuple[ConvLayer | AddLayer, ...]
    packings: tuple[Packing, ...]
    fills: tuple[Fill, ...]
    elements: int
    classes: int


class Arena:
    """Gives out the DRAM of the activations: every tensor has a place of its own, so nothing is ever overwritten."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.elements = 0
        self.fills: list[Fill] = []

    def value(
        self, name: str, shape: tuple[int, int, int], zero_point: int, halo: Pads, *, host: bool = False
    ) -> Value:
        """A new tensor of (height, width, channels)."""
        height, width, channels = shape
        top, left, bottom, right = halo
        pitch = width + left + right
        plane = pitch * (height + top + bottom)
        blocks = -(-channels // self.block)
        lanes = np.full(blocks * self.block, -1)
        lanes[:channels] = np.arange(channels)
        first = self.elements
        self.elements += blocks * plane
        byte = 0x80 if zero_point == 0 else 0
        self.fills.append(Fill(name, first, blocks * plane, byte, host))
        origins = tuple(first + index * plane + top * pitch + left for index in range(blocks))
        return Value(name, height, width, zero_point, pitch, origins, lanes, halo)


def to_layers(stages: Sequence[Stage], block: int, *, halos: bool) -> Layers:
    """Lower the stages of a partitioned module.

    Args:
        stages: in execution order, with the fusions ``CONVOLUTION_POOL`` and ``CONCAT_CONVOLUTIONS`` or without.
        block: channels of an element.
        halos: whether padding must lie in DRAM because the instructions can't make it.

    Raises:
        UnsupportedError: the image's patches are too large.
    """
    lowering = _Lowering(stages, block, _halos(stages) if halos else {})
    for stage in stages:
        lowering.stage(stage)
    return Layers(
        tuple(lowering.layers),
        tuple(lowering.packings),
        tuple(lowering.arena.fills),
        lowering.arena.elements,
        stages[-1].out[2],
    )


def _halos(stages: Sequence[Stage]) -> dict[str, Pads]:
    """The padding that each tensor needs in DRAM; the parts of a concatenation have the same."""
    need: dict[str, Pads] = {}

    def widen(name: str, pads: Pads) -> bool:
        old = need.get(name, (0, 0, 0, 0))
        need[name] = tuple(max(pair) for pair in zip(old, pads, strict=True))  # type: ignore[assignment]
        return need[name] != old

    for stage in stages:
        for convolution in stage.convolutions:
            if stage.inputs[convolution.input] != IMAGE:  # its patches have the padding
                widen(stage.inputs[convolution.input], convolution.padding)
    concatenations = [stage for stage in stages if stage.pattern is Pattern.CONCAT]
    changed = True
    while changed:
        changed = False
        for stage in concatenations:
            names = (stage.name, *stage.inputs)
            pads = [need.get(name, (0, 0, 0, 0)) for name in names]
            most = tuple(max(sides) for sides in zip(*pads, strict=True))
            changed = any([widen(name, most) for name in names]) or changed
    return need


class _Lowering:
    def __init__(self, stages: Sequence[Stage], block: int, halos: dict[str, Pads]) -> None:
        self.block = block
        self.halos = halos
        self.arena = Arena(block)
        self.values: dict[str, Value] = {}
        self.layers: list[ConvLayer | AddLayer] = []
        self.packings: list[Packing] = []
        self.readers = Counter(name for stage in stages for name in stage.inputs)
        self.next_pool = {
            stage.inputs[0]: stage
            for stage in stages
            if stage.pattern is Pattern.MAX_POOL and self.readers[stage.inputs[0]] == 1
        }

    def stage(self, stage: Stage) -> None:
        if stage.name in self.values:
            return  # a pooling that went behind the convolutions before it
        if stage.pattern is Pattern.CONCAT:
            self.values[stage.name] = self._joined(stage.name, [self._input(name, stage) for name in stage.inputs])
        elif stage.pattern is Pattern.ADD:
            self._add(stage)
        elif stage.pattern is Pattern.MAX_POOL:
            assert stage.pooling is not None
            value = self._input(stage.inputs[0], stage)
            self.values[stage.name] = self._copies(stage.name, value, value.lanes, stage.pooling)
        else:
            self._convolutions(stage)

    # Tensors ----------------------------------------------------------------------------------------------------------

    def _new(self, name: str, shape: tuple[int, int, int], zero_point: int, *, halo_of: str) -> Value:
        return self.arena.value(name, shape, zero_point, self.halos.get(halo_of, (0, 0, 0, 0)))

    def _joined(self, name: str, parts: Sequence[Value]) -> Value:
        first, lanes, offset = parts[0], [], 0
        for part in parts:
            lanes.append(np.where(part.lanes >= 0, part.lanes + offset, -1))
            offset += int((part.lanes >= 0).sum())
        origins = tuple(origin for part in parts for origin in part.origins)
        return replace(first, name=name, origins=origins, lanes=np.concatenate(lanes))

    def _input(self, name: str, stage: Stage) -> Value:
        """A tensor; the image itself becomes one, as patches of one pixel."""
        if name == IMAGE and name not in self.values:
            height, width, _ = stage.input_shapes[stage.inputs.index(IMAGE)]
            top, left, bottom, right = halo = self.halos.get(IMAGE, (0, 0, 0, 0))
            out = (top + height + bottom, left + width + right)
            packed = self._packed(IMAGE, (height, width), (1, 1), (1, 1), halo, (0, 0, 0), out, stage.name)
            origins = tuple(origin + top * packed.pitch + left for origin in packed.origins)
            self.values[IMAGE] = replace(packed, height=height, width=width, zero_point=0, origins=origins, halo=halo)
        return self.values[name]

    def _packed(
        self,
        name: str,
        image: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: Pads,
        pad_value: tuple[int, int, int],
        out: tuple[int, int],
        stage: str,
    ) -> Value:
        packing = Packing(name, image, kernel, stride, padding, pad_value, *out, self.block)
        if packing.size > PATCH_LIMIT:
            raise UnsupportedError(
                f"{stage}: the image's {kernel[0]}x{kernel[1]} patches take {packing.size >> 20} MiB, "
                f"at most {PATCH_LIMIT >> 20} are supported; use a smaller image or a larger stride"
            )
        self.packings.append(packing)
        return self.arena.value(name, (*out, 3 * kernel[0] * kernel[1]), 128, (0, 0, 0, 0), host=True)

    # Layers -----------------------------------------------------------------------------------------------------------

    def _convolutions(self, stage: Stage) -> None:
        pooling, name = stage.pooling, stage.name
        follower = self.next_pool.get(stage.name)
        if pooling is None and follower is not None:
            pooling, name = follower.pooling, follower.name
        head = stage.pattern is Pattern.HEAD
        made: list[tuple[Value, Part, Convolution, Value | None]] = []
        for index, convolution in enumerate(stage.convolutions):
            height, width = pooling.out[:2] if pooling else convolution.out[:2]
            label = name if len(stage.convolutions) == 1 else f"{name}/{index}"
            shape = (height, width, len(convolution.weight))
            target = None if head else self._new(label, shape, convolution.zero_point, halo_of=name)
            source = self._source(stage, convolution, index)
            made.append((source, self._part(convolution, source, target), convolution, target))
        if not head:
            targets = [target for *_, target in made if target is not None]
            self.values[name] = self._joined(name, targets)
        groups: dict[tuple[Value, tuple[int, int]], list[tuple[Part, Convolution]]] = {}
        for source, part, convolution, _ in made:
            stride = (1, 1) if stage.inputs[convolution.input] == IMAGE else convolution.stride
            groups.setdefault((source, stride), []).append((part, convolution))
        label = stage.name if name == stage.name else f"{stage.name}+{name}"
        for number, ((source, stride), members) in enumerate(groups.items()):
            out = members[0][1].out
            self.layers.append(
                ConvLayer(
                    label if len(groups) == 1 else f"{label}/{number}",
                    source,
                    tuple(part for part, _ in members),
                    stride,
                    *out[:2],
                    pooling,
                    head,
                    members[0][1].relu,
                    sum(c.weight.size * c.out[0] * c.out[1] for _, c in members),
                )
            )

    def _source(self, stage: Stage, convolution: Convolution, index: int) -> Value:
        name = stage.inputs[convolution.input]
        if name != IMAGE:
            return self._input(name, stage)
        red, green, blue = convolution.pad_value.reshape(-1).tolist()
        return self._packed(
            f"{IMAGE}/{stage.name}/{index}",
            convolution.source[:2],
            (convolution.weight.shape[1], convolution.weight.shape[2]),
            convolution.stride,
            convolution.padding,
            (red, green, blue),
            convolution.out[:2],
            stage.name,
        )

    def _part(self, convolution: Convolution, source: Value, target: Value | None) -> Part:
        weight, kernel, padding = convolution.weight, convolution.weight.shape[1:3], convolution.padding[:2]
        if source.name.startswith(f"{IMAGE}/"):  # patches
            weight, kernel, padding = weight.reshape(len(weight), 1, 1, -1), (1, 1), (0, 0)
        bias = convolution.bias_for(128)  # R7
        shift = np.zeros(len(weight)) if convolution.shift is None else convolution.shift.reshape(-1)
        return Part(
            (kernel[0], kernel[1]),
            (padding[0], padding[1]),
            self._elements(weight, source.lanes),
            self._lanes(bias).astype(np.int32),
            self._lanes(shift).astype(np.uint8),
            convolution.zero_point == 0 and convolution.shift is not None,
            target,
        )

    def _lanes(self, channels: NDArray[np.generic]) -> NDArray[np.int64]:
        """[channels] -> [blocks, block], zeros behind."""
        padded = np.pad(channels.astype(np.int64), (0, -len(channels) % self.block))
        return padded.reshape(-1, self.block)

    def _elements(self, weight: NDArray[np.int8], lanes: NDArray[np.int64]) -> NDArray[np.int8]:
        """[out, kernel_h, kernel_w, in] -> [out blocks, kernel_h * kernel_w * in blocks, block, block]."""
        block = self.block
        taken = np.where(lanes >= 0, weight[..., lanes], 0).astype(np.int8)
        taken = np.pad(taken, ((0, -len(weight) % block), (0, 0), (0, 0), (0, 0)))
        out, height, width, _ = taken.shape
        split = taken.reshape(out // block, block, height, width, -1, block)
        return np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1, 5)).reshape(out // block, -1, block, block)

    def _copies(self, name: str, value: Value, lanes: NDArray[np.int64], pool: Pooling | None = None) -> Value:
        """The tensor with its channels in the order of ``lanes``, pooled; one layer a block."""
        block = self.block
        height, width = pool.out[:2] if pool else (value.height, value.width)
        result = self._new(name, (height, width, len(lanes)), value.zero_point, halo_of=name)
        where = {int(channel): lane for lane, channel in enumerate(value.lanes) if channel >= 0}
        for index, origin in enumerate(result.origins):
            wanted = [where[int(c)] if c >= 0 else -1 for c in lanes[index * block : (index + 1) * block]]
            sources = sorted({lane // block for lane in wanted if lane >= 0}) or [0]
            weight = np.zeros((1, len(sources), block, block), np.int8)
            for lane, source in enumerate(wanted):
                if source >= 0:
                    weight[0, sources.index(source // block), lane, source % block] = 1
            zeros = np.zeros((1, block), np.int32)
            part = Part(
                (1, 1), (0, 0), weight, zeros, zeros.astype(np.uint8), False, replace(result, origins=(origin,))
            )
            blocks = replace(value, origins=tuple(value.origins[source] for source in sources))
            self.layers.append(ConvLayer(name, blocks, (part,), (1, 1), value.height, value.width, pool))
        return replace(result, lanes=lanes)

    def _add(self, stage: Stage) -> None:
        assert stage.addition is not None
        first, second = (self._input(name, stage) for name in stage.inputs)
        if not np.array_equal(first.lanes, second.lanes):
            if len(second.lanes) < len(first.lanes):
                first = self._copies(f"{stage.name}/a", first, second.lanes)
            else:
                second = self._copies(f"{stage.name}/b", second, first.lanes)
        addition: Addition = stage.addition
        lanes = first.lanes
        target = replace(
            self._new(stage.name, (first.height, first.width, len(lanes)), addition.zero_point, halo_of=stage.name),
            lanes=lanes,
        )
        offset = addition.offset.reshape(2, -1) + 128  # the operands are q - 128
        bias = np.where(lanes >= 0, offset[:, lanes], 0).reshape(2, -1, self.block).swapaxes(0, 1)
        shift = np.where(lanes >= 0, addition.shift.reshape(2, -1)[:, lanes], 0).reshape(2, -1, self.block)
        self.values[stage.name] = target
        self.layers.append(
            AddLayer(
                stage.name,
                (first, second),
                bias.astype(np.int32),
                shift.swapaxes(0, 1).astype(np.uint8),
                addition.zero_point == 0,
                target,
            )
        )
