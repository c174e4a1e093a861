"""What an Ascend artifact holds, as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.ascend.atc import DEPLOY_MODEL

__all__ = ["model_lines"]


def model_lines(artifact: Path) -> Iterator[str]:
    """The deploy model's graph in ONNX's text form, without the constants' values.

    Raises:
        CorruptFileError: it can not be read.
    """
    path = artifact / DEPLOY_MODEL
    try:
        graph = onnx.load_model(path).graph
    except (OSError, DecodeError) as error:
        raise CorruptFileError(f"{path}: cannot be read ({error}); compile the model again") from error
    del graph.initializer[:]
    yield from onnx.printer.to_text(graph).splitlines()
