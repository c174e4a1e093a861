"""Integer graphs for tests: random ones that use every rule, and real topologies with random integer weights.

Weights are random; biases and shifts follow from the accumulators of one random image, so that outputs spread
over 0..255 instead of sticking to its ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.graph import IMAGE, Add, Concat, Conv, Head, IntegerGraph, MaxPool, Node, Tensor, rules
from squeezeedge.graph.oracle import accumulate, apply
from squeezeedge.graph.windows import window_map

__all__ = [
    "TOPOLOGIES",
    "GraphBuilder",
    "integer_graphs",
    "largest_shift_graph",
    "random_graph",
    "random_images",
    "squeezenet_graph",
]

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]

SPREAD = 60
"""Standard deviation of an output in units of q that shifts aim at."""


class GraphBuilder:
    """Grows an integer graph node by node; every method returns the name of the tensor it made."""

    def __init__(self, rng: np.random.Generator, size: Pair) -> None:
        self.rng = rng
        self.size = size
        self.nodes: list[Node] = []
        # The image's scale is 1, a convolution's base / 8 .. base; an addition's shifts reach from any to any.
        self.base = np.exp2(np.float32(-min(int(rng.integers(3, 9)), rules.MAX_SHIFT - 3)))
        self.tensors = {IMAGE: Tensor(*size, 3, 0, np.ones(3, np.float32))}
        self.mean_pixel = rng.integers(0, 256, 3).astype(np.uint8)
        self.values: dict[str, NDArray[Any]] = {IMAGE: rng.integers(0, 256, (*size, 3)).astype(np.uint8)}

    def conv(
        self,
        source: str,
        out: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pads = (0, 0, 0, 0),
        zero_point: int = 0,
        name: str | None = None,
        groups: int = 1,
        shift: int | None = None,
    ) -> str:
        """A convolution; a few of its channels are dead, saturated or at the limit of R4.

        Args:
            source: input tensor.
            out: output channels.
            kernel: height, width.
            stride: vertical, horizontal.
            padding: top, left, bottom, right.
            zero_point: of the output.
            name: of the node; made up unless given.
            groups: must divide input and output channels.
            shift: of every other output channel; all follow from the accumulators unless given.
        """
        rng, tensor = self.rng, self.tensors[source]
        weight = self._weight((out, *kernel, tensor.channels // groups), rules.INT32_LIMIT // 4)
        node = Conv(
            name=name or f"conv{len(self.nodes)}",
            input=source,
            weight=weight,
            bias=np.zeros(out, np.int32),
            shift=np.zeros(out, np.uint8),
            stride=stride,
            padding=padding,
            pad_value=self._pad_value(source),
            zero_point=zero_point,
            scale=self._scales(out),
            groups=groups,
        )
        acc = accumulate(node, self.values[source], tensor).reshape(-1, out).astype(np.float64)
        spread = np.maximum(acc.std(0), 1)
        if len(acc) < 9:  # too few pixels to tell
            values = self.values[source].astype(np.float64) - tensor.zero_point
            spread = np.maximum(np.sqrt((weight.astype(np.float64) ** 2).sum((1, 2, 3)) * (values**2).mean()), 1)
        wanted = np.log2(spread / SPREAD).round() + rng.choice([-1, 0, 0, 0, 1], out)
        odd = rng.random(out) < 0.05
        wanted = np.where(odd, rng.integers(0, rules.MAX_SHIFT + 1, out), wanted)
        shifts = wanted.clip(0, rules.MAX_SHIFT).astype(np.int64)
        if shift is not None:
            shifts[::2] = shift
        bias = np.rint(-acc.mean(0) + rng.normal(0.2, 0.5, out) * np.exp2(shifts) * SPREAD).astype(np.int64)
        limit = rules.INT32_LIMIT - 1 - rules.accumulator_reach(weight) - rules.rounding_term(shifts) - zero_point
        bias = np.where(rng.random(out) < 0.01, rng.choice([-1, 1], out) * limit, bias).clip(-limit, limit)
        node.bias[:] = bias
        node.shift[:] = shifts
        height, width = window_map(tensor.shape, kernel, stride, padding)
        return self._append(node, Tensor(height, width, out, zero_point, node.scale))

    def pool(
        self,
        source: str,
        kernel: Pair = (3, 3),
        stride: Pair = (2, 2),
        padding: Pads = (0, 0, 0, 0),
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> str:
        """Max pooling."""
        tensor = self.tensors[source]
        node = MaxPool(name or f"pool{len(self.nodes)}", source, kernel, stride, padding, ceil_mode)
        height, width = window_map(tensor.shape, kernel, stride, padding, ceil_mode)
        return self._append(node, Tensor(height, width, tensor.channels, tensor.zero_point, tensor.scale))

    def concat(self, sources: Sequence[str], name: str | None = None) -> str:
        """Concatenation of tensors with one zero point."""
        tensors = [self.tensors[source] for source in sources]
        scale = np.concatenate([tensor.scale for tensor in tensors])
        node = Concat(name or f"concat{len(self.nodes)}", tuple(sources))
        first = tensors[0]
        return self._append(node, Tensor(first.height, first.width, len(scale), first.zero_point, scale))

    def add(self, first: str, second: str, zero_point: int = 0, name: str | None = None) -> str:
        """Addition; the shifts follow from the scales, all of which are powers of two (the image's is 1)."""
        operands = [self.tensors[first], self.tensors[second]]
        scale = np.maximum(operands[0].scale, operands[1].scale)
        room = rules.MAX_SHIFT - self.apart(first, second)
        scale = scale * np.exp2(np.minimum(self.rng.choice([0, 0, 1, 2], len(scale)), room)).astype(np.float32)
        shift = np.stack([np.log2(scale / operand.scale).round().astype(np.uint8) for operand in operands])
        node = Add(name or f"add{len(self.nodes)}", (first, second), shift, zero_point, scale)
        height, width = operands[0].height, operands[0].width
        return self._append(node, Tensor(height, width, len(scale), zero_point, scale))

    def apart(self, first: str, second: str) -> NDArray[np.float32]:
        """Quotient of two tensors' scales as a power of two: float32 [channels], whole numbers from 0."""
        scales = [self.tensors[name].scale for name in (first, second)]
        quotient: NDArray[np.float32] = np.log2(np.maximum(*scales) / np.minimum(*scales)).round()
        return quotient

    def fire(self, source: str, squeeze: int, expand: Pair, name: str | None = None, zero_point: int = 0) -> str:
        """SqueezeNet's fire module: 1x1 squeeze, then 1x1 and 3x3 expand side by side."""
        name = name or f"fire{len(self.nodes)}"
        squeezed = self.conv(source, squeeze, name=f"{name}.squeeze")
        return self.concat(
            [
                self.conv(squeezed, expand[0], zero_point=zero_point, name=f"{name}.expand1x1"),
                self.conv(squeezed, expand[1], (3, 3), (1, 1), (1, 1, 1, 1), zero_point, f"{name}.expand3x3"),
            ],
            name=f"{name}.concat",
        )

    def finish(
        self,
        source: str,
        classes: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        padding: Pads = (0, 0, 0, 0),
        relu: bool = True,
        graph_name: str = "random",
        name: str = "head",
        groups: int = 1,
    ) -> IntegerGraph:
        """The head and the whole graph."""
        tensor = self.tensors[source]
        pixels = math.prod(window_map(tensor.shape, kernel, stride, padding))
        head = Head(
            name=name,
            input=source,
            weight=self._weight((classes, *kernel, tensor.channels // groups), rules.INT32_LIMIT // (2 * pixels)),
            bias=np.zeros(classes, np.int32),
            stride=stride,
            padding=padding,
            pad_value=self._pad_value(source),
            relu=relu,
            scale=self.rng.uniform(0.0001, 0.01, classes).astype(np.float32),
            groups=groups,
        )
        acc = accumulate(head, self.values[source], tensor).reshape(-1, classes).astype(np.float64)
        bias = -acc.mean(0) + self.rng.normal(0, 1, classes) * (acc.std(0) + 100)
        limit = rules.INT32_LIMIT // (2 * pixels) - 1
        head.bias[:] = np.rint(bias).clip(-limit, limit)
        return IntegerGraph(graph_name, (*self.nodes, head), Preprocessing(size=self.size, resize=None))

    def _append(self, node: Node, tensor: Tensor) -> str:
        self.nodes.append(node)
        self.tensors[node.name] = tensor
        self.values[node.name] = apply(node, [self.values[source] for source in node.inputs], self.tensors)
        return node.name

    def _pad_value(self, source: str) -> NDArray[np.uint8]:
        if source == IMAGE:
            return self.mean_pixel
        tensor = self.tensors[source]
        return np.full(tensor.channels, tensor.zero_point, np.uint8)

    def _scales(self, channels: int) -> NDArray[np.float32]:
        scales: NDArray[np.float32] = self.base * np.exp2(self.rng.choice([0, 0, 0, -1, -1, -2, -3], channels)).astype(
            np.float32
        )
        return scales

    def _weight(self, shape: tuple[int, int, int, int], limit: int) -> NDArray[np.int8]:
        """Random weights; amplitude and density differ by channel; Q_MAX * sum |w| stays below ``limit``."""
        out = shape[0]
        highest = min(float(rules.WEIGHT_LIMIT), max(1.0, limit / (rules.Q_MAX * np.prod(shape[1:]))))
        amplitude = np.exp(self.rng.uniform(0, np.log(highest), out)) if out > 1 else np.full(1, highest)
        amplitude = np.where(self.rng.random(out) < 0.5, highest, amplitude)
        density = self.rng.choice([1.0, 1.0, 1.0, 0.3, 0.0], out, p=[0.3, 0.3, 0.2, 0.17, 0.03])
        weight = self.rng.random(shape, np.float32) * 2 - 1
        weight *= np.floor(amplitude).astype(np.float32)[:, None, None, None]
        for channel in np.flatnonzero(density < 1):
            weight[channel] *= self.rng.random(shape[1:]) < density[channel]
        return np.rint(weight).astype(np.int8)


def random_graph(
    seed: int, *, blocks: int | None = None, max_channels: int = 40, max_size: int = 24, groups: bool = True
) -> IntegerGraph:
    """A random valid graph, small enough for the oracle to take a few milliseconds.

    Args:
        seed: decides everything.
        blocks: groups of nodes before the head; random 0..6 by default.
        max_channels: most channels of one convolution.
        max_size: largest height and width of the image.
        groups: whether some convolutions are grouped or depthwise; a legalized graph has none of these.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(min(5, max_size), max_size + 1, 2))
    grower = _Grower(GraphBuilder(rng, (height, width)), max_channels, groups)
    for _ in range(int(rng.integers(0, 7)) if blocks is None else blocks):
        grower.grow()
    return grower.finish(f"random-{seed}")


def integer_graphs(
    *, max_blocks: int = 6, max_channels: int = 40, max_size: int = 24, groups: bool = True
) -> st.SearchStrategy[IntegerGraph]:
    """Hypothesis strategy over :func:`random_graph`; shrinks to few blocks, channels and pixels."""
    return st.builds(
        random_graph,
        st.integers(0, 2**32 - 1),
        blocks=st.integers(0, max_blocks),
        max_channels=st.integers(1, max_channels) | st.just(max_channels),
        max_size=st.integers(1, max_size) | st.just(max_size),
        groups=st.just(groups),
    )


def largest_shift_graph(seed: int) -> IntegerGraph:
    """A small random graph whose convolutions and addition have the largest shift that the rules allow.

    It is read from rules.MAX_SHIFT now; every other channel has it, so images still tell apart.
    """
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(rng, (int(rng.integers(5, 12)), int(rng.integers(5, 12))))
    channels = int(rng.integers(12, 28))
    zero_points = [int(value) for value in rng.choice(rules.ZERO_POINTS, 3)]
    first = builder.conv(IMAGE, channels, (3, 3), (1, 1), (1, 1, 1, 1), zero_points[0], shift=rules.MAX_SHIFT)
    second = builder.conv(first, channels, (1, 1), zero_point=zero_points[1], shift=rules.MAX_SHIFT)
    builder.tensors[second].scale[::2] = builder.tensors[first].scale[::2] * np.exp2(-rules.MAX_SHIFT)
    total = builder.add(first, second, zero_points[2])
    value = builder.conv(builder.pool(total, (2, 2)), channels, (1, 1), shift=rules.MAX_SHIFT)
    return builder.finish(value, int(rng.integers(1, 12)), graph_name=f"largest-shift-{seed}")


def random_images(graph: IntegerGraph, count: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [count, height, width, 3]: noise of different brightness and contrast, clipped at 0 and 255."""
    rng = np.random.default_rng(seed)
    mean, contrast = rng.uniform(32, 224, (count, 1, 1, 3)), rng.uniform(8, 128, (count, 1, 1, 1))
    noise = rng.normal(0, 1, (count, *graph.input_shape))
    return (mean + contrast * noise).clip(0, 255).astype(np.uint8)


class _Grower:
    """Appends random groups of nodes to ``current``."""

    def __init__(self, builder: GraphBuilder, max_channels: int, groups: bool) -> None:
        self.builder = builder
        self.rng = builder.rng
        self.max_channels = max_channels
        self.groups = groups
        self.current = IMAGE

    def grow(self) -> None:
        steps = [self._conv, self._pool, self._fire, self._concat, self._nested, self._residual, self._shortcut]
        self.current = steps[self.rng.choice(len(steps), p=[0.24, 0.16, 0.14, 0.14, 0.08, 0.14, 0.1])]()

    def finish(self, name: str) -> IntegerGraph:
        tensor = self.builder.tensors[self.current]
        kernel, stride, padding = self._window(tensor, [(1, 1), (1, 1), (3, 3), (2, 3)], [(1, 1), (1, 1), (2, 1)])
        classes = int(self.rng.integers(1, 41))
        relu = bool(self.rng.integers(2))
        classes, groups = self._grouped(self.current, classes)
        return self.builder.finish(self.current, classes, kernel, stride, padding, relu, name, groups=groups)

    def _channels(self) -> int:
        return int(self.rng.integers(1, self.max_channels + 1))

    def _grouped(self, source: str, out: int, *, fixed: bool = False) -> Pair:
        """Output channels, ``out`` or a few more or less unless they are fixed, and a group count that divides."""
        if not self.groups or self.rng.random() < 0.6:
            return out, 1
        inputs = self.builder.tensors[source].channels
        divided = math.gcd(inputs, out) if fixed else inputs
        counts = [count for count in range(1, divided + 1) if divided % count == 0]
        groups = counts[-1] if self.rng.random() < 0.5 else int(self.rng.choice(counts))
        return (out if fixed else max(out // groups, 1) * groups), groups

    def _zero_point(self) -> int:
        return int(self.rng.choice([0, 0, 128]))

    def _window(self, tensor: Tensor, kernels: Sequence[Pair], strides: Sequence[Pair]) -> tuple[Pair, Pair, Pads]:
        """Kernel, stride and padding that leave at least one window."""
        kernel = kernels[int(self.rng.integers(len(kernels)))]
        stride = strides[int(self.rng.integers(len(strides)))]
        style = int(self.rng.integers(4))
        choices: dict[int, Pads] = {
            0: (0, 0, 0, 0),
            1: (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2),
            2: (0, 0, kernel[0] - 1, kernel[1] - 1),
            3: self._pads(kernel),
        }
        pads = choices[style]
        if tensor.height + pads[0] + pads[2] < kernel[0] or tensor.width + pads[1] + pads[3] < kernel[1]:
            return (1, 1), (1, 1), (0, 0, 0, 0)
        return kernel, stride, pads

    def _pads(self, kernel: Pair) -> Pads:
        top, left, bottom, right = (int(self.rng.integers(0, kernel[axis])) for axis in (0, 1, 0, 1))
        return top, left, bottom, right

    def _conv(self, source: str | None = None) -> str:
        source = source or self.current
        kernels = [(1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (5, 2), (3, 7)]
        strides = [(1, 1), (1, 1), (2, 2), (3, 3), (1, 2), (3, 1)]
        kernel, stride, padding = self._window(self.builder.tensors[source], kernels, strides)
        if self.rng.random() < 0.1:  # a 1x1 kernel then sees windows of padding only, as SqueezeNet 1.0's last in Caffe
            padding = (1, 1, 1, 1)
            kernel = (min(kernel[0], 3), min(kernel[1], 3))
        channels, groups = self._grouped(source, self._channels())
        return self.builder.conv(source, channels, kernel, stride, padding, self._zero_point(), groups=groups)

    def _same_size(self, source: str, zero_point: int, channels: int | None = None) -> str:
        """A convolution that keeps height and width."""
        kernel = ((1, 1), (3, 3), (5, 5), (1, 3), (2, 2))[self.rng.integers(5)]
        top, left = (int(self.rng.integers(0, side)) if side % 2 == 0 else side // 2 for side in kernel)
        padding = (top, left, kernel[0] - 1 - top, kernel[1] - 1 - left)
        out, groups = self._grouped(source, channels or self._channels(), fixed=channels is not None)
        return self.builder.conv(source, out, kernel, (1, 1), padding, zero_point, groups=groups)

    def _pool(self) -> str:
        tensor = self.builder.tensors[self.current]
        kernels = [(2, 2), (3, 3), (3, 3), (3, 2), (1, 3)]
        kernel, stride, pads = self._window(tensor, kernels, [(1, 1), (2, 2), (2, 2), (3, 3), (2, 1)])
        ceil_mode = bool(self.rng.integers(2))
        return self.builder.pool(self.current, kernel, stride, pads, ceil_mode)

    def _fire(self) -> str:
        expand = (self._channels(), self._channels())
        return self.builder.fire(self.current, self._channels(), expand, zero_point=self._zero_point())

    def _concat(self, source: str | None = None, zero_point: int | None = None) -> str:
        """Two to four parts: convolutions, and perhaps the source itself or one convolution twice."""
        source = source or self.current
        zero_point = self._zero_point() if zero_point is None else zero_point
        count = int(self.rng.integers(2, 5))
        extra = self.rng.random()
        if extra < 0.3 and source != IMAGE and self.builder.tensors[source].zero_point == zero_point:
            parts = [source]
        else:
            parts = [self._same_size(source, zero_point)]
            if extra > 0.9:
                parts.append(parts[0])
        parts += [self._same_size(source, zero_point) for _ in range(count - len(parts))]
        return self.builder.concat([parts[index] for index in self.rng.permutation(len(parts))])

    def _nested(self) -> str:
        """A concatenation of concatenations."""
        zero_point = self._zero_point()
        inner = self._concat(self.current, zero_point)
        return self.builder.concat([inner, self._same_size(self.current, zero_point)])

    def _residual(self) -> str:
        """Two convolutions beside the identity."""
        source = self.current
        if source == IMAGE:
            source = self.builder.conv(IMAGE, self._channels(), zero_point=self._zero_point())
        channels = self.builder.tensors[source].channels
        branch = self._same_size(self._same_size(source, 0), self._zero_point(), channels)
        first, second = (source, branch) if self.rng.integers(2) else (branch, source)
        return self._add(first, second, self._zero_point())

    def _shortcut(self) -> str:
        """A strided block beside a strided 1x1 convolution; or a tensor added to itself."""
        if self.current != IMAGE and self.rng.random() < 0.15:
            return self._add(self.current, self.current, self._zero_point())
        channels, stride = self._channels(), (int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3)))
        branch = self.builder.conv(self.current, channels, (3, 3), stride, (1, 1, 1, 1), self._zero_point())
        projection = self.builder.conv(self.current, channels, (1, 1), stride, zero_point=self._zero_point())
        return self._add(branch, projection, self._zero_point())

    def _add(self, first: str, second: str, zero_point: int) -> str:
        """An addition; of scales that no shift brings together, the last convolution's tensor instead."""
        if self.builder.apart(first, second).max() > rules.MAX_SHIFT:
            return self.builder.nodes[-1].name
        return self.builder.add(first, second, zero_point)


FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""(squeeze, expand) of fire 2..9; expand1x1 and expand3x3 have as many channels."""

TOPOLOGIES = (
    "squeezenet1_0",
    "squeezenet1_1",
    "squeezenet1_0_simple_bypass",
    "squeezenet1_0_complex_bypass",
    "squeezenet1_0_mindcv",
    "squeezenet1_1_mindcv",
    "resnet18",
)
"""Names for :func:`squeezenet_graph`."""


def squeezenet_graph(name: str, size: int | Pair = 224, classes: int = 1000, seed: int = 0) -> IntegerGraph:
    """A real topology with random integer weights.

    Args:
        name: one of ``TOPOLOGIES``.
        size: input side, or (height, width), in pixels.
        classes: class count.
        seed: of the weights.
    """
    builder = GraphBuilder(np.random.default_rng(seed), (size, size) if isinstance(size, int) else size)
    if name == "resnet18":
        return _resnet18(builder, classes)
    if name not in TOPOLOGIES:
        raise ValueError(f"no topology {name!r}; there are: {', '.join(TOPOLOGIES)}")
    first = name.startswith("squeezenet1_0")
    ceil_mode = not name.endswith("mindcv")
    if first:
        value = builder.conv(IMAGE, 96, (7, 7), (2, 2), name="conv1")
    else:
        padding = (0, 0, 0, 0) if ceil_mode else (1, 1, 1, 1)
        value = builder.conv(IMAGE, 64, (3, 3), (2, 2), padding, name="conv1")
    value = builder.pool(value, ceil_mode=ceil_mode, name="pool1")
    for number, (squeeze, expand) in enumerate(FIRES, 2):
        before = value
        value = builder.fire(before, squeeze, (expand, expand), name=f"fire{number}")
        if name.endswith("complex_bypass") and number % 2 == 0:
            before = builder.conv(before, 2 * expand, zero_point=128, name=f"fire{number}.bypass")
        if name.endswith("bypass") and (number % 2 == 1 or before.endswith(".bypass")):
            value = builder.add(before, value, name=f"fire{number}.add")
        if number in ((4, 8) if first else (3, 5)):
            value = builder.pool(value, ceil_mode=ceil_mode, name=f"pool{number}")
    return builder.finish(value, classes, graph_name=name, name="conv10")


def _resnet18(builder: GraphBuilder, classes: int) -> IntegerGraph:
    value = builder.conv(IMAGE, 64, (7, 7), (2, 2), (3, 3, 3, 3), name="conv1")
    value = builder.pool(value, padding=(1, 1, 1, 1), name="maxpool")
    for stage, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = (2, 2) if stage > 1 and block == 0 else (1, 1)
            branch = builder.conv(value, channels, (3, 3), stride, (1, 1, 1, 1), name=f"{name}.conv1")
            branch = builder.conv(branch, channels, (3, 3), (1, 1), (1, 1, 1, 1), 128, name=f"{name}.conv2")
            if stride == (2, 2):
                value = builder.conv(value, channels, (1, 1), stride, zero_point=128, name=f"{name}.downsample")
            value = builder.add(branch, value, name=f"{name}.add")
    return builder.finish(value, classes, relu=False, graph_name="resnet18", name="fc")
