"""torch module -> float graph, through ``torch.export`` (its training IR: ATen operators, still in place).

Dropout, identity and flatten disappear; batch normalization keeps its running statistics. A node has the name of
its module ("features.3.squeeze"), or of the module around it and its operator ("features.3.cat").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from squeezeedge.errors import SqueezeEdgeError, UnsupportedError
from squeezeedge.graph.float.builder import (
    SUPPORTED,
    FloatGraphBuilder,
    average_pool,
    float32,
    folded_batch_norm,
    leaky_relu,
    padded_same,
)
from squeezeedge.graph.float.graph import (
    F32,
    IMAGE,
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatGlobalAveragePool,
    FloatGraph,
    FloatLinear,
    FloatMaxPool,
    FloatRelu,
)
from squeezeedge.graph.rules import Shape

__all__ = ["from_torch"]


def from_torch(module: torch.nn.Module, size: tuple[int, int], name: str) -> FloatGraph:
    """Import a torch network as it is in evaluation mode; the module itself is not changed.

    Args:
        module: from float32 [1, 3, height, width] to logits [1, classes].
        size: (height, width) of its input.
        name: for people and file names.

    Raises:
        UnsupportedError: ``torch.export`` cannot trace it, or it uses an operator outside of what is supported.
    """
    evaluated = copy.deepcopy(module).to("cpu", torch.float32).eval()
    try:
        program = torch.export.export(evaluated, (torch.zeros(1, 3, *size),))
    except SqueezeEdgeError:  # the module's own message, such as an input that is too small
        raise
    except Exception as failure:  # torch.export lets through whatever the module or the tracer raises
        reason = next(iter(str(failure).splitlines()), type(failure).__name__)
        raise UnsupportedError(
            f"network {name}: torch.export cannot trace it at {size[0]}x{size[1]}: {reason}"
        ) from failure
    return _Importer(program, size).graph(name)


class _Importer:
    """One walk over the exported nodes."""

    def __init__(self, program: ExportedProgram, size: tuple[int, int]) -> None:
        signature = program.graph_signature
        if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
            raise UnsupportedError(
                f"the network has {len(signature.user_inputs)} inputs and {len(signature.user_outputs)} outputs; "
                "it must take one image and return one tensor of logits"
            )
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        held = {**program.state_dict, **program.constants}
        names |= signature.inputs_to_lifted_tensor_constants
        self.program = program
        self.builder = FloatGraphBuilder(size)
        self.constants: dict[str, Tensor] = {key: held[target] for key, target in names.items()}
        self.values: dict[fx.Node, str] = {}

    def graph(self, name: str) -> FloatGraph:
        output = self.program.graph_signature.user_outputs[0]
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name not in self.constants:
                self.values[node] = IMAGE
            elif node.op == "call_function":
                self._import(node)
        results = [tensor for node, tensor in self.values.items() if node.name == output]
        if not results:
            raise UnsupportedError(f"network {name}: its output is not computed from the image")
        return self.builder.build(name, results[0])

    def _import(self, node: fx.Node) -> None:
        operator = str(node.target).removeprefix("aten.")
        base = operator.split(".")[0]
        in_place = base.endswith("_")
        handler = _HANDLERS.get(base.rstrip("_"))
        if handler is None:
            raise UnsupportedError(
                f"{self._path(node)}: operator {node.target} is not supported; supported: {SUPPORTED}"
            )
        result = handler(self, node, _arguments(node))
        if in_place:
            overwritten = self.values[node.all_input_nodes[0]]
            self.values = {key: result if value == overwritten else value for key, value in self.values.items()}
        self.values[node] = result

    def _path(self, node: fx.Node) -> str:
        """Path of the module that computes a node; of a module with code of its own, with the operator behind it."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        operator = str(node.target).removeprefix("aten.").split(".")[0].rstrip("_")
        path, kind = stack[-1] if stack else ("", "")
        leaf = str(kind).startswith("torch.nn.modules.") and path
        return path if leaf else f"{path}.{operator}".lstrip(".")

    def _name(self, node: fx.Node) -> str:
        return self.builder.unique(self._path(node))

    def _tensor(self, node: fx.Node, operand: object) -> str:
        """Name of an operand that depends on the image."""
        if not isinstance(operand, fx.Node) or operand not in self.values:
            raise UnsupportedError(
                f"{self._path(node)}: {node.target} with a constant operand is not supported; supported: {SUPPORTED}"
            )
        return self.values[operand]

    def _constant(self, node: fx.Node, operand: object) -> F32:
        """float32 array of a parameter or buffer."""
        if not isinstance(operand, fx.Node) or operand.name not in self.constants:
            raise UnsupportedError(f"{self._path(node)}: {node.target} with weights that are computed is not supported")
        return float32(self.constants[operand.name].detach().numpy())

    def _shape(self, tensor: str) -> Shape:
        return self.builder.shapes[tensor]

    def _convolution(self, node: fx.Node, given: dict[str, Any]) -> str:
        source, weight = self._tensor(node, given["input"]), self._constant(node, given["weight"])
        if weight.ndim != 4 or any(step != 1 for step in given["dilation"]):
            raise UnsupportedError(
                f"{self._path(node)}: convolution with dilation {list(given['dilation'])} and a {weight.ndim}-"
                "dimensional weight; supported: two-dimensional, no dilation"
            )
        bias = (
            float32(torch.zeros(len(weight)).numpy()) if given["bias"] is None else self._constant(node, given["bias"])
        )
        stride, kernel = _pair(given["stride"]), (weight.shape[2], weight.shape[3])
        if given["padding"] == "same":
            padding = padded_same(self._shape(source)[:2], kernel, stride)
        else:
            padding = _padding([0] if given["padding"] == "valid" else given["padding"])
        name, groups = self._name(node), given["groups"]
        return self.builder.append(FloatConv(name, (source,), weight, bias, stride, padding, groups=groups))

    def _batch_norm(self, node: fx.Node, given: dict[str, Any]) -> str:
        source = self._tensor(node, given["input"])
        if given["training"]:
            raise UnsupportedError(f"{self._path(node)}: batch normalization without running statistics")
        mean, variance = self._constant(node, given["running_mean"]), self._constant(node, given["running_var"])
        gamma, beta = (
            float32(torch.full((len(mean),), neutral).numpy())
            if given[key] is None
            else self._constant(node, given[key])
            for key, neutral in (("weight", 1.0), ("bias", 0.0))
        )
        folded = folded_batch_norm(self._name(node), source, gamma, beta, mean, variance, given["eps"])
        return self.builder.append(folded)

    def _relu(self, node: fx.Node, given: dict[str, Any]) -> str:
        return self.builder.append(FloatRelu(self._name(node), (self._tensor(node, given["self"]),)))

    def _limited_relu(self, node: fx.Node, given: dict[str, Any]) -> str:
        """ReLU6, and what else cuts at 0 and at a limit."""
        low = given.get("min_val", given.get("min", 0))
        high = given.get("max_val", given.get("max", 6))  # relu6 has no arguments
        high = math.inf if high is None else high
        if low != 0 or not high > 0:
            raise UnsupportedError(f"{self._path(node)}: {node.target} to {low}..{high}; supported: from 0 to a limit")
        return self.builder.append(FloatRelu(self._name(node), (self._tensor(node, given["self"]),), float(high)))

    def _leaky_relu(self, node: fx.Node, given: dict[str, Any]) -> str:
        source = self._tensor(node, given["self"])
        slope = np.full(self._shape(source).channels, given["negative_slope"], np.float32)
        return [self.builder.append(part) for part in leaky_relu(self._name(node), source, slope)][-1]

    def _max_pool(self, node: fx.Node, given: dict[str, Any]) -> str:
        source = self._tensor(node, given["self"])
        if any(step != 1 for step in given["dilation"]):
            raise UnsupportedError(f"{self._path(node)}: max pooling with dilation is not supported")
        kernel = _pair(given["kernel_size"])
        stride = _pair(given["stride"] or kernel)
        padding = _padding(given["padding"])
        pool = FloatMaxPool(self._name(node), (source,), kernel, stride, padding, bool(given["ceil_mode"]))
        return self.builder.append(pool)

    def _concat(self, node: fx.Node, given: dict[str, Any]) -> str:
        sources = tuple(self._tensor(node, operand) for operand in given["tensors"])
        if given["dim"] not in (1, -3):
            raise UnsupportedError(
                f"{self._path(node)}: concatenation over axis {given['dim']}; supported: channels (1)"
            )
        return self.builder.append(FloatConcat(self._name(node), sources))

    def _add(self, node: fx.Node, given: dict[str, Any]) -> str:
        first, second = self._tensor(node, given["self"]), self._tensor(node, given["other"])
        if given["alpha"] != 1:
            raise UnsupportedError(f"{self._path(node)}: addition with alpha = {given['alpha']}; supported: 1")
        return self.builder.append(FloatAdd(self._name(node), (first, second)))

    def _adaptive_average(self, node: fx.Node, given: dict[str, Any]) -> str:
        source = self._tensor(node, given["self"])
        if _pair(given["output_size"]) != (1, 1):
            raise UnsupportedError(
                f"{self._path(node)}: adaptive average pooling to {given['output_size']}; supported: 1"
            )
        return self._pooled(node, source)

    def _average(self, node: fx.Node, given: dict[str, Any]) -> str:
        source = self._tensor(node, given["self"])
        if given["divisor_override"] is not None:
            raise UnsupportedError(f"{self._path(node)}: average pooling with a divisor of its own is not supported")
        kernel = _pair(given["kernel_size"])
        pool = average_pool(
            self._name(node),
            source,
            self._shape(source),
            kernel,
            _pair(given["stride"] or kernel),
            _padding(given["padding"]),
            count_include_pad=given["count_include_pad"],
            ceil_mode=given["ceil_mode"],
        )
        return self.builder.append(pool)

    def _mean(self, node: fx.Node, given: dict[str, Any]) -> str:
        source = self._tensor(node, given["self"])
        axes = sorted(axis % 4 for axis in given.get("dim") or ())
        if axes != [2, 3]:
            raise UnsupportedError(
                f"{self._path(node)}: mean over axes {given.get('dim')}; supported: height and width"
            )
        return self._pooled(node, source)

    def _pooled(self, node: fx.Node, source: str) -> str:
        return self.builder.append(FloatGlobalAveragePool(self._name(node), (source,)))

    def _linear(self, node: fx.Node, given: dict[str, Any]) -> str:
        source, weight = self._tensor(node, given["input"]), self._constant(node, given["weight"])
        bias = (
            float32(torch.zeros(len(weight)).numpy()) if given["bias"] is None else self._constant(node, given["bias"])
        )
        return self.builder.append(FloatLinear(self._name(node), (source,), weight, bias))

    def _reshaped(self, node: fx.Node, given: dict[str, Any]) -> str:
        """Flatten and its relatives: nothing happens to the values of a vector."""
        source = self._tensor(node, given["self"] if "self" in given else given["input"])
        height, width, channels = self._shape(source)
        result = tuple(node.meta["val"].shape)
        if (height, width) != (1, 1) or result[:2] != (1, channels) or any(side != 1 for side in result[2:]):
            raise UnsupportedError(
                f"{self._path(node)}: {node.target} from [1, {channels}, {height}, {width}] to {list(result)}; "
                "supported: to a vector, behind a global average pooling"
            )
        return source

    def _same(self, node: fx.Node, given: dict[str, Any]) -> str:
        if given.get("train"):
            raise UnsupportedError(f"{self._path(node)}: dropout that is active in evaluation mode is not supported")
        return self._tensor(node, next(iter(given.values())))


Handler = Callable[[_Importer, fx.Node, dict[str, Any]], str]

_HANDLERS: dict[str, Handler] = {
    "conv2d": _Importer._convolution,
    "batch_norm": _Importer._batch_norm,
    "clamp": _Importer._limited_relu,
    "hardtanh": _Importer._limited_relu,
    "leaky_relu": _Importer._leaky_relu,
    "relu": _Importer._relu,
    "relu6": _Importer._limited_relu,
    "max_pool2d": _Importer._max_pool,
    "cat": _Importer._concat,
    "concat": _Importer._concat,
    "add": _Importer._add,
    "adaptive_avg_pool2d": _Importer._adaptive_average,
    "avg_pool2d": _Importer._average,
    "mean": _Importer._mean,
    "linear": _Importer._linear,
    "flatten": _Importer._reshaped,
    "view": _Importer._reshaped,
    "reshape": _Importer._reshaped,
    "squeeze": _Importer._reshaped,
    "dropout": _Importer._same,
    "feature_dropout": _Importer._same,
    "contiguous": _Importer._same,
    "clone": _Importer._same,
    "alias": _Importer._same,
}


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Every argument of a node's operator by name, defaults included."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    return {
        argument.name: node.args[place]
        if place < len(node.args)
        else node.kwargs.get(argument.name, argument.default_value)
        for place, argument in enumerate(schema)
    }


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """PyTorch gives one number for both axes, a list of one, or a list of two."""
    values = [value] if isinstance(value, int) else list(value)
    return values[0], values[-1]


def _padding(value: int | Sequence[int]) -> tuple[int, int, int, int]:
    vertical, horizontal = _pair(value)
    return vertical, horizontal, vertical, horizontal
