"""``squeezeedge profile``: where a device's time goes, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squeezeedge.cli.options import Json, check_picture
from squeezeedge.errors import UsageError
from squeezeedge.targets.protocol import Profiler
from squeezeedge.targets.registry import all_targets

if TYPE_CHECKING:
    from squeezeedge.targets.protocol import Profile

__all__ = ["profile_command", "register"]


def profile_command(
    artifact: Annotated[Path, typer.Argument(help="An artifact folder.", metavar="ARTIFACT")],
    timeline: Annotated[
        Path | None,
        typer.Option(help="Write a Chrome trace (.json, for Perfetto or chrome://tracing).", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture of layers and timeline (.png, .svg).", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Cycles, utilization and the unit that limits each layer, of one golden input.

    "bound" is the unit that is busy longest with a layer, "busy %" for how long, as a share of the layer's cycles:
    above 100 where it works ahead or behind, during other layers. Then the cycles of every unit.
    """
    from squeezeedge.artifact import open_artifact
    from squeezeedge.cli.output import emit_json
    from squeezeedge.files import check_output, write_file

    for file in (timeline, plot):
        if file is not None:
            check_output(file, force=True)
    opened = open_artifact(artifact)
    target = opened.target
    if not isinstance(target, Profiler):
        able = " and ".join(name for name, other in all_targets().items() if isinstance(other, Profiler))
        raise UsageError(f"{artifact}: compiled for {target.name}, which tells no cycles per layer; {able} does")
    if plot is not None:
        check_picture(plot)
    result = target.profile(opened.path, opened.golden[0])
    if timeline is not None:
        from json import dumps

        write_file(timeline, dumps(result.timeline).encode())
    if plot is not None:
        from squeezeedge.evaluation.profile_plot import plot_profile

        plot_profile(result, str(opened.manifest["model"]), plot)
    if json:
        emit_json(_to_json(str(opened.manifest["model"]), result))
    else:
        _show(str(opened.manifest["model"]), result)


def _to_json(model: str, result: Profile) -> dict[str, object]:
    """Stable keys; the timeline is a file of its own."""
    values = {key: value for key, value in vars(result).items() if key != "timeline"}
    return {"model": model, **values, "layers": [vars(layer) for layer in result.layers]}


def _show(model: str, result: Profile) -> None:
    from squeezeedge.cli.output import emit_table
    from squeezeedge.evaluation.tables import number

    units = list(result.layers[0].busy)
    rows = [
        [
            layer.name,
            f"{layer.macs / 1e6:.1f}",
            str(layer.cycles),
            number(100 * layer.cycles / result.cycles, 1),
            number(100 * layer.utilization, 1),
            layer.bound,
            number(100 * layer.bound_cycles / max(layer.cycles, 1), 0),
            *(str(layer.busy[unit]) for unit in units),
            number(layer.dram_bytes / 1e3, 1),
        ]
        for layer in result.layers
    ]
    macs, moved = sum(layer.macs for layer in result.layers), sum(layer.dram_bytes for layer in result.layers)
    busy = [str(sum(layer.busy[unit] for layer in result.layers)) for unit in units]
    total = [f"{macs / 1e6:.1f}", str(result.cycles), "100.0", number(100 * result.utilization, 1)]
    rows.append(["whole network", *total, "", "", *busy, number(moved / 1e3, 1)])
    milliseconds = result.cycles / result.clock_mhz / 1e3
    emit_table(
        f"{model} on {result.device} ({result.kind}): {milliseconds:.2f} ms at {result.clock_mhz:g} MHz",
        ["layer", "MMAC", "cycles", "% of run", "utilization %", "bound", "busy %", *units, "DRAM kB"],
        rows,
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile")(profile_command)
