"""``squeezeedge models``: the networks that have a name, what they cost, and where their weights come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from squeezeedge.cli.options import Json

if TYPE_CHECKING:
    from squeezeedge.networks.registry import NetworkSpec

__all__ = ["models_command", "register"]


NOT_IN_TENSORS = (
    "A checkpoint holds no stride, padding or pooling: one of another network with the same tensors is loaded without "
    "an error and answers wrongly. --network names the network and --size its input; a network that is not in the "
    "list is given as ONNX, which says all of it."
)


def models_command(json: Json = False) -> None:
    """List the networks: parameters, multiply-accumulates, input size, and where their weights come from."""
    from squeezeedge.cli.output import emit_json, emit_table, note
    from squeezeedge.evaluation.tables import number
    from squeezeedge.networks.registry import NETWORKS, cost
    from squeezeedge.networks.variants import STRIDE, VARIANTS

    rows = []
    for spec in NETWORKS.values():
        costs = cost(spec.name)
        height, width = spec.input_size
        variant = VARIANTS[spec.variant]
        if json:
            emit_json(
                {
                    "network": spec.name,
                    "summary": spec.summary,
                    "parameters": costs.parameters,
                    "macs": costs.macs,
                    "input_size": [height, width],
                    "classes": spec.classes,
                    "preprocessing": spec.preprocessing,
                    "dataset": spec.dataset,
                    "embedded": spec.embedded,
                    "url": spec.url,
                }
            )
        rows.append(
            [
                spec.name,
                f"{costs.parameters:,}",
                number(costs.macs / 1e6, 1),
                f"{height}x{width}",
                f"{variant.kernel}x{variant.kernel}, {STRIDE}, {variant.padding}",
                "ceil" if variant.ceil_mode else "floor",
                str(spec.classes),
                _weights(spec),
                spec.summary,
            ]
        )
    if not json:
        columns = ["network", "parameters", "million MACs", "input", "first: kernel, stride, padding", "pooling"]
        emit_table("networks (all take --weights FILE)", [*columns, "classes", "weights", "what it is"], rows)
        note(NOT_IN_TENSORS)


def _weights(spec: NetworkSpec) -> str:
    if spec.embedded:
        return "embedded"
    return "--pretrained" if spec.url is not None else "-"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models_command)
