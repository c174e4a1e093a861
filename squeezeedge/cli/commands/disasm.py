"""``squeezeedge disasm``: what the device executes, as text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["disasm_command", "register"]


def disasm_command(
    artifact: Annotated[Path, typer.Argument(help="An artifact folder.", metavar="ARTIFACT")],
) -> None:
    """Print what an artifact's device executes, as text: instructions, machine code or the nodes of a graph."""
    import sys

    from squeezeedge.artifact import open_artifact

    opened = open_artifact(artifact)
    for line in opened.target.listing(opened.path):
        sys.stdout.write(f"{line}\n")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("disasm")(disasm_command)
