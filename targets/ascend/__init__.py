"""Ascend target: the ONNX form that ATC turns into int8 kernels, its run on a device, and its emulation.

The devices are ``ascend`` (a device of this machine, or of another one over ssh) and ``ascend-emulation`` (the deploy
model with the device's arithmetic, see :mod:`.emulate`). :mod:`.deploy` describes the form of the model and why.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from squeezeedge.lower.feature import Feature
from squeezeedge.targets.ascend.options import AscendOptions, check_options
from squeezeedge.targets.protocol import Kind, NetworkOpener, Requirement

if TYPE_CHECKING:
    from squeezeedge.graph import IntegerGraph
    from squeezeedge.targets.ascend.lower import AscendLowered

__all__ = ["TARGET", "AscendTarget"]

RUNTIMES = ("ais_bench", "acl")


class AscendTarget:
    """The protocol of :class:`squeezeedge.targets.Target`."""

    name = "ascend"
    summary = "Huawei Ascend: ONNX for ATC, int8 kernels"
    devices: Mapping[str, Kind] = {"ascend": "hardware", "ascend-emulation": "emulation"}
    remote: Collection[str] = ("ascend",)
    needs_root = False
    options = AscendOptions
    device_module = "squeezeedge.targets.ascend.device"
    supports = frozenset({Feature.GROUPS, Feature.DEPTHWISE})

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
            Requirement(
                "Ascend device", "run", ", ".join(nodes) or None, "use `board` user@host, or `device` ascend-emulation"
            ),
        ]

    def check_options(self, options: AscendOptions) -> None:
        """The options must name a chip."""
        check_options(options)

    def check_device(self, device: str, board: str | None, options: AscendOptions | None = None) -> None:
        """Without a board, this machine must have a runtime for the device; to compile for it, ATC."""
        from squeezeedge.errors import UnavailableError
        from squeezeedge.targets.ascend.device import Unavailable, find_runtime

        if device == "ascend" and options is not None and shutil.which("atc") is None:
            raise UnavailableError(
                "the device needs a model that ATC has converted, and atc is not here: compile first, run the "
                "artifact's atc.sh where CANN is installed, and evaluate that artifact; or use `device` "
                "ascend-emulation"
            )
        if device == "ascend" and board is None:
            try:
                find_runtime()
            except Unavailable as error:
                raise UnavailableError(f"{error}; or use `board` user@host, or `device` ascend-emulation") from None

    def lower(self, graph: IntegerGraph, options: AscendOptions) -> AscendLowered:
        """Both ONNX models.

        Raises:
            UnsupportedError: a layer leaves no room for exact rounding.
        """
        from squeezeedge.lower.legalize import legalize
        from squeezeedge.targets.ascend.lower import lower

        return lower(legalize(graph, self.supports), options)

    def network(self, device: str) -> NetworkOpener:
        """This machine's first device, or the emulation."""
        if device == "ascend-emulation":
            from squeezeedge.targets.ascend.emulate import EmulatedNetwork

            return EmulatedNetwork
        from squeezeedge.targets.ascend.device import Network

        return Network

    def listing(self, artifact: Path, layer: str | None = None) -> Iterator[str]:
        """The deploy model as text.

        Raises:
            UsageError: no layer has that name.
            CorruptFileError: it can not be read.
        """
        from squeezeedge.targets.ascend.listing import model_lines

        return model_lines(artifact, layer)


TARGET = AscendTarget()
