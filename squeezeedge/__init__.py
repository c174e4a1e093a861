"""Deployment compiler for small vision networks: one integer-only int8 model, the same bits everywhere.

>>> import squeezeedge as sq
>>> model = sq.quantize(sq.load("squeezenet1_1", weights="squeezenet1_1.pth"), "calibration-images/")
>>> artifact = sq.compile(model, target="cpu", out="net-cpu")
>>> with artifact.open("cpu") as device:
...     for answer in device.classify(["cat.jpg", "dog.png"], top=3):
...         print(answer.label, answer.score)

The folders follow the data's path: ``networks``, ``calib``, ``training``, ``graph``, ``quantization``,
``lower``, ``targets``, then ``model``, ``artifact``, ``device``, ``evaluation``, ``cli``. Imports never point back.
Importing this package loads neither torch nor tvm: each name below is loaded when it is first used.
"""

from typing import TYPE_CHECKING

from squeezeedge import errors
from squeezeedge._version import __version__
from squeezeedge.errors import (
    CorruptFileError,
    GateError,
    SqueezeEdgeError,
    UnavailableError,
    UnsupportedError,
    UsageError,
)

__all__ = [
    "Answer",
    "Artifact",
    "BenchReport",
    "Comparison",
    "CorruptFileError",
    "Device",
    "GateError",
    "Gates",
    "IntegerGraph",
    "Model",
    "Preprocessing",
    "RankedClass",
    "Report",
    "RunResult",
    "SqueezeEdgeError",
    "UnavailableError",
    "UnsupportedError",
    "UsageError",
    "Verification",
    "__version__",
    "bench",
    "compare",
    "compile",
    "errors",
    "evaluate",
    "load",
    "open_artifact",
    "quantize",
    "verify",
]

if TYPE_CHECKING:
    from squeezeedge.artifact import Artifact, compile, open_artifact
    from squeezeedge.calib.preprocess import Preprocessing
    from squeezeedge.device import Answer, Device, RankedClass
    from squeezeedge.evaluation.bench import BenchReport, bench
    from squeezeedge.evaluation.compare import compare
    from squeezeedge.evaluation.comparison import Comparison
    from squeezeedge.evaluation.evaluate import evaluate
    from squeezeedge.evaluation.gates import Gates
    from squeezeedge.evaluation.reports import Report
    from squeezeedge.evaluation.verify import Verification, verify
    from squeezeedge.graph import IntegerGraph
    from squeezeedge.loading import load
    from squeezeedge.model import Model, quantize
    from squeezeedge.targets.protocol import RunResult
else:
    _MODULES = {
        "Answer": "device",
        "Artifact": "artifact",
        "BenchReport": "evaluation.bench",
        "Comparison": "evaluation.comparison",
        "Device": "device",
        "Gates": "evaluation.gates",
        "IntegerGraph": "graph",
        "Model": "model",
        "Preprocessing": "calib.preprocess",
        "RankedClass": "device",
        "Report": "evaluation.reports",
        "RunResult": "targets.protocol",
        "Verification": "evaluation.verify",
        "bench": "evaluation.bench",
        "compare": "evaluation.compare",
        "compile": "artifact",
        "evaluate": "evaluation.evaluate",
        "load": "loading",
        "open_artifact": "artifact",
        "quantize": "model",
        "verify": "evaluation.verify",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted(globals().keys() | _MODULES.keys())
