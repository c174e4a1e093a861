"""``squeezeedge disasm``: what the device executes, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squeezeedge.cli.options import ArtifactFolder, Force, check_file

__all__ = ["disasm_command", "register"]


def disasm_command(
    artifact: ArtifactFolder,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print only what makes this layer (`squeezeedge inspect` names them).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write it into this file.", show_default=False)
    ] = None,
    force: Force = False,
) -> None:
    """Print what an artifact's device executes, as text: instructions, machine code or the nodes of a graph."""
    from squeezeedge.artifact import open_artifact
    from squeezeedge.cli.output import emit_lines
    from squeezeedge.files import write_file

    if out is not None:
        check_file(out, force=force)
    opened = open_artifact(artifact)
    lines = opened.target.listing(opened.path, layer)
    if out is not None:
        write_file(out, "".join(f"{line}\n" for line in lines).encode(), force=force)
        return
    emit_lines(lines)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("disasm")(disasm_command)
