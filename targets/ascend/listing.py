"""What an Ascend artifact holds, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.ascend.atc import DEPLOY_MODEL
from squeezeedge.targets.ascend.reading import read_deploy_model
from squeezeedge.targets.device.run import Artifact

__all__ = ["model_lines"]


def model_lines(folder: Path) -> Iterator[str]:
    """The deploy model's graph in ONNX's text form, without the constants' values.

    Raises:
        CorruptFileError: it can not be read.
    """
    try:
        graph = read_deploy_model(Artifact(folder)).graph
        del graph.initializer[:]
        lines = onnx.printer.to_text(graph).splitlines()
    except (ValueError, RuntimeError) as error:
        text = str(error)
        if str(folder) not in text:
            text = f"{folder / DEPLOY_MODEL}: damaged ({text}); compile the model again"
        raise CorruptFileError(text) from error
    yield from lines
