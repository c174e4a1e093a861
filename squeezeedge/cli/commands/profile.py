"""``squeezeedge profile``: where a device's time goes, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezeedge.cli.options import ArtifactFolder, Json, check_file, check_picture

__all__ = ["profile_command", "register"]


def profile_command(
    artifact: ArtifactFolder,
    runs: Annotated[int, typer.Option(min=1, help="Runs whose medians are told; a simulator makes one.")] = 50,
    timeline: Annotated[
        Path | None,
        typer.Option(help="Write a Chrome trace (.json, for Perfetto or chrome://tracing).", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture of layers and timeline (.png, .svg, .pdf).", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Time or cycles of every layer, of one golden input whose class sums must be the golden ones.

    "% of peak" is the share of the multiply-accumulates that the device could do in the layer's time. Of a processor or
    a GPU, the peak is measured. Of the accelerator, "bound" is the unit that is busy longest with a layer, "busy %" for
    how long, as a share of the layer's cycles: above 100 where it works ahead or behind, during other layers.
    """
    from squeezeedge.artifact import open_artifact
    from squeezeedge.cli.output import emit_json, emit_table, emit_text
    from squeezeedge.evaluation.profiling import profile, profile_json, profile_notes, profile_table
    from squeezeedge.files import write_file

    check_picture(plot)
    if timeline is not None:
        check_file(timeline, force=True, option="--timeline", endings=(".json",))
    opened = open_artifact(artifact)
    model = str(opened.manifest["model"])
    found = profile(opened, runs)
    if timeline is not None:
        from json import dumps

        write_file(timeline, dumps(found.timeline).encode())
    if plot is not None:
        from squeezeedge.evaluation.profile_plot import plot_profile

        plot_profile(found, model, plot)
    if json:
        emit_json(profile_json(found, model))
        return
    emit_table(*profile_table(found, model))
    for text in profile_notes(found):
        emit_text(text)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("profile")(profile_command)
