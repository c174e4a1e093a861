"""An integer graph for Ascend: two ONNX models, AIPP's configuration, ATC's command and, with ATC, model.om."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper

from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.rules import Shape
from squeezeedge.lower.onnx_module import to_onnx
from squeezeedge.targets.ascend.atc import (
    AIPP,
    ATC_SCRIPT,
    DEPLOY_MODEL,
    NOT_FOUND,
    aipp_config,
    atc_command,
    atc_script,
    run_atc,
)
from squeezeedge.targets.ascend.deploy import deploy_model, sum_scale
from squeezeedge.targets.ascend.options import EMULATED, AscendOptions
from squeezeedge.targets.ascend.shapes import tensor_shapes
from squeezeedge.targets.ascend.structure import check_structure, constants

__all__ = ["REFERENCE_MODEL", "TOLERANCE", "AscendLowered", "lower"]

REFERENCE_MODEL = "model.ref.onnx"

TOLERANCE = {"exact": 2**-7, "fused": 2**-3}
"""Rounding -> what a device's class sums may differ from the golden ones, as a share of the largest.

fp16 in the head alone is below 2^-10; a wrong offset, shift or channel order is far above either limit.
"""


@dataclass(frozen=True, eq=False)
class AscendLowered:
    """A graph in both forms.

    Attributes:
        image: shape of the input.
        soc_version: the chip, or :data:`~squeezeedge.targets.ascend.options.EMULATED`.
        reference: the graph in standard operators, with the oracle's bits.
        deploy: the form for ATC.
        operators: of the deploy model: type -> how many.
        sum_scale: class sum / class mean of the deploy model.
        tolerance: largest allowed difference of a device's class sums, as a share of the largest.
        traced: what the outputs of the deploy model behind the first are, for the manifest; ``None``: there are none.
    """

    image: Shape
    soc_version: str
    reference: ModelProto
    deploy: ModelProto
    operators: Mapping[str, int]
    sum_scale: float
    tolerance: float
    traced: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the two models, aipp.cfg and atc.sh; with ATC on the path also model.om and atc.log.

        Returns:
            What the manifest says of them; ``atc`` is the converter's path or why the model is not converted.

        Raises:
            SqueezeEdgeError: ATC fails.
        """
        onnx.save_model(self.reference, folder / REFERENCE_MODEL)
        onnx.save_model(self.deploy, folder / DEPLOY_MODEL)
        (folder / AIPP).write_text(aipp_config(self.image))
        if self.soc_version == EMULATED:
            atc = "not compiled: for the emulation only"
        else:
            command = atc_command(self.image, self.soc_version)
            (folder / ATC_SCRIPT).write_text(atc_script(command))
            atc = run_atc(command, folder)
        note = {"note": f"ascend: {atc}; run {ATC_SCRIPT} where CANN is installed"} if atc == NOT_FOUND else {}
        return note | {
            "atc": atc,
            "operators": dict(sorted(self.operators.items())),
            "sum_scale": self.sum_scale,
            "tolerance": self.tolerance,
            **({} if self.traced is None else {"trace": dict(self.traced)}),
        }


def lower(graph: IntegerGraph, options: AscendOptions) -> AscendLowered:
    """Take a graph, in memory.

    Args:
        graph: the network, legalized.
        options: checked ones.

    Raises:
        UnsupportedError: a layer leaves no room for exact rounding, or its shift is too large; the text names it.
    """
    deploy = deploy_model(graph, options.rounding)
    traced = _with_tensors(deploy, graph) if options.debug else None
    return AscendLowered(
        image=Shape(*graph.input_shape),
        soc_version=options.chip,
        reference=to_onnx(graph),
        deploy=deploy,
        operators=check_structure(deploy),
        sum_scale=sum_scale(graph),
        tolerance=TOLERANCE[options.rounding],
        traced=traced,
    )


def _with_tensors(deploy: ModelProto, graph: IntegerGraph) -> dict[str, Any]:
    """Give a deploy model every node's tensor as an output; returns what these stand for."""
    shapes = tensor_shapes(deploy, Shape(*graph.input_shape), constants(deploy))
    tensors = []
    for node in graph.nodes[:-1]:
        tensor, (height, width, channels) = graph.tensors[node.name], shapes[node.name]
        value = helper.make_tensor_value_info(node.name, TensorProto.FLOAT16, [1, channels, height, width])
        deploy.graph.output.append(value)
        stands_for = {"shape": list(tensor.shape), "zero_point": tensor.zero_point}
        tensors.append({"name": node.name, "channels": channels, **stands_for})
    return {"head": graph.head.name, "tensors": tensors}
