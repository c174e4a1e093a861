"""All formats by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import (
    Format,
    artifact_files,
    checkpoints,
    data_files,
    graph_files,
    image_files,
    onnx_files,
    recipe_files,
    run_inputs,
)

__all__ = ["FORMATS"]

FORMATS: Mapping[str, Format] = {
    format.name: format
    for format in (
        graph_files.SQE,
        artifact_files.MANIFEST,
        artifact_files.GOLDEN,
        artifact_files.PLAN,
        artifact_files.PROGRAM,
        artifact_files.DEPLOY,
        checkpoints.PYTORCH,
        checkpoints.SAFETENSORS,
        checkpoints.MINDSPORE,
        checkpoints.DEEP_COMPRESSION,
        onnx_files.ONNX,
        data_files.NPZ,
        data_files.TAR,
        data_files.CIFAR,
        data_files.CLASSES,
        image_files.IMAGE,
        recipe_files.RECIPE,
        run_inputs.ARRAYS,
    )
}
