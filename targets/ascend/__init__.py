"""Ascend target: the ONNX form that ATC turns into int8 kernels, its run on a device, and its emulation.

The devices are ``ascend`` (a device of this machine, or of another one over ssh) and ``ascend-emulation`` (the deploy
model with the device's arithmetic, see :mod:`.emulate`). What the model looks like and why: :mod:`.deploy`.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squeezeedge.targets.ascend.options import AscendOptions, check_options
from squeezeedge.targets.protocol import Kind, Requirement, Runner

if TYPE_CHECKING:
    from squeezeedge.graph import IntegerGraph

__all__ = ["TARGET", "AscendTarget"]

RUNTIMES = ("ais_bench", "acl")


class AscendTarget:
    """The protocol of :class:`squeezeedge.targets.Target`."""

    name = "ascend"
    summary = "Huawei Ascend: ONNX for ATC, int8 kernels"
    devices: Mapping[str, Kind] = {"ascend": "hardware", "ascend-emulation": "emulation"}
    remote = ("ascend",)
    options = AscendOptions

    def requirements(self) -> list[Requirement]:
        """ATC converts the model, here or later; ais_bench or pyACL runs it. The emulation needs neither."""
        nodes = sorted(str(path) for path in Path("/dev").glob("davinci[0-9]*"))
        found = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
        cann = "install CANN and source its set_env.sh"
        return [
            Requirement(
                "atc (model.om)", "option", shutil.which("atc"), f"{cann}, or run the artifact's atc.sh where it is"
            ),
            Requirement("ais_bench or acl", "run", ", ".join(found) or None, cann),
            Requirement("Ascend device", "run", ", ".join(nodes) or None, "use --board user@host, or --emulate"),
        ]

    def check_options(self, options: AscendOptions) -> None:
        """The options must name a chip."""
        check_options(options)

    def check_device(self, device: str, board: str | None) -> None:
        """Without a board, this machine must have a runtime for the device."""
        from squeezeedge.errors import UnavailableError
        from squeezeedge.targets.ascend.run import Unavailable, find_runtime

        if device == "ascend" and board is None:
            try:
                find_runtime()
            except Unavailable as error:
                raise UnavailableError(f"{error}; or use --board user@host, or --emulate") from None

    def check(self, graph: IntegerGraph, options: AscendOptions) -> None:
        """The graph must leave room for the rounding."""
        from squeezeedge.targets.ascend.deploy import deploy_model

        deploy_model(graph, options.rounding)

    def compile(self, graph: IntegerGraph, options: AscendOptions, out: Path) -> dict[str, Any]:
        """Write the two ONNX models, aipp.cfg, atc.sh and run.py; with ATC on the path model.om and atc.log."""
        from squeezeedge.targets.ascend.lower import compile_graph

        entries = compile_graph(graph, options, out)
        shutil.copy(Path(__file__).with_name("run.py"), out / "run.py")
        return entries

    def open(self, artifact: Path, device: str, board: str | None = None) -> AbstractContextManager[Runner]:
        """This machine's device, over ssh another one's, or the emulation.

        Raises:
            UnavailableError: there is no device, runtime or converted model.
            GateError: the device's own check on the golden inputs failed.
            SqueezeEdgeError: the device fails.
        """
        from squeezeedge.targets.ascend.host import open_emulation, open_here, open_there

        if device == "ascend-emulation":
            return open_emulation(artifact)
        return open_here(artifact) if board is None else open_there(artifact, board)

    def listing(self, artifact: Path) -> Iterator[str]:
        """The deploy model as text."""
        from squeezeedge.targets.ascend.host import model_lines

        return model_lines(artifact)


TARGET = AscendTarget()
