"""Compile an integer graph for Ascend: two ONNX models, AIPP's configuration, ATC's command and, with ATC, model.om."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from squeezeedge.graph import IntegerGraph
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
from squeezeedge.targets.ascend.structure import check_structure

__all__ = ["REFERENCE_MODEL", "TOLERANCE", "compile_graph"]

REFERENCE_MODEL = "model.ref.onnx"

TOLERANCE = {"exact": 2**-7, "fused": 2**-3}
"""Rounding -> what a device's class sums may differ from the golden ones, as a share of the largest.

fp16 in the head alone is below 2^-10; a wrong offset, shift or channel order is far above either limit.
"""


def compile_graph(graph: IntegerGraph, options: AscendOptions, out: Path) -> dict[str, Any]:
    """Write the target's files into a folder, but run.py.

    Args:
        graph: the network.
        options: checked ones.
        out: the folder.

    Returns:
        What the manifest says of them; ``atc`` is the converter's path or why the model is not converted.

    Raises:
        UnsupportedError: the graph has no room for exact rounding.
        SqueezeEdgeError: ATC fails.
    """
    onnx.save_model(to_onnx(graph), out / REFERENCE_MODEL)
    onnx.save_model(deploy_model(graph, options.rounding), out / DEPLOY_MODEL)
    operators = check_structure(onnx.load_model(out / DEPLOY_MODEL))
    (out / AIPP).write_text(aipp_config(graph))
    if options.soc_version == EMULATED:
        atc = "not compiled: for the emulation only"
    else:
        command = atc_command(graph, options.soc_version)
        (out / ATC_SCRIPT).write_text(atc_script(command))
        atc = run_atc(command, out)
    note = {"note": f"ascend: {atc}; run {ATC_SCRIPT} where CANN is installed"} if atc == NOT_FOUND else {}
    return note | {
        "atc": atc,
        "operators": dict(sorted(operators.items())),
        "sum_scale": sum_scale(graph),
        "tolerance": TOLERANCE[options.rounding],
    }
