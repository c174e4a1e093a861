"""``squeezeedge models``: the networks that have a name, what they cost, and where their weights come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from squeezeedge.cli.options import Json

if TYPE_CHECKING:
    from squeezeedge.networks.registry import NetworkSpec

__all__ = ["models_command", "register"]


def models_command(json: Json = False) -> None:
    """List the networks: parameters, multiply-accumulates, input size, and where their weights come from."""
    from squeezeedge.cli.output import emit_json, emit_table
    from squeezeedge.evaluation.reports import number
    from squeezeedge.networks.registry import NETWORKS, cost

    rows = []
    for spec in NETWORKS.values():
        costs = cost(spec.name)
        height, width = spec.input_size
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
                spec.summary,
                f"{costs.parameters:,}",
                number(costs.macs / 1e6, 1),
                f"{height}x{width}",
                str(spec.classes),
                _weights(spec),
            ]
        )
    if not json:
        emit_table("networks", ["network", "", "parameters", "million MACs", "input", "classes", "weights"], rows)


def _weights(spec: NetworkSpec) -> str:
    if spec.embedded:
        return "embedded"
    return "--pretrained or --weights FILE" if spec.url is not None else "--weights FILE"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models_command)
