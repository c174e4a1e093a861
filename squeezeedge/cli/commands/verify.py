"""``squeezeedge verify``: is an artifact whole, does its device answer rightly, and is it reproducible?"""

from __future__ import annotations

from typing import Annotated

import typer

from squeezeedge.cli.options import ArtifactDevice, ArtifactFolder, Board, Json, Timeout, check_timeout

__all__ = ["register", "verify_command"]


def verify_command(
    artifact: ArtifactFolder,
    device: ArtifactDevice = None,
    board: Board = None,
    timeout: Timeout = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild/--no-rebuild", help="Compile again and compare every file.")
    ] = True,
    json: Json = False,
) -> None:
    """Check an artifact: checksums, graph rules, golden inputs on the device, and a new compilation.

    Artifacts are reproducible: the graph, the options and the compilers' versions decide every byte. So the network is
    compiled again with the recorded options, into a temporary folder, and every file must be the same, byte for byte.
    Exit code 4: something differs. 3: nothing does, but the device or a tool is missing, so not all was checked.
    """
    from squeezeedge.cli.output import emit_json, emit_table, progress
    from squeezeedge.cli.wording import in_options
    from squeezeedge.evaluation.verify import CHECKS, verify

    check_timeout(timeout, board)
    with progress("verify", CHECKS - (not rebuild)) as advance:
        found = verify(artifact, device, board=board, timeout=timeout, rebuild=rebuild, on_progress=advance)
    if json:
        emit_json(found.to_json())
    else:
        title, columns, rows = found.table()
        emit_table(title, columns, [[in_options(cell) for cell in row] for row in rows])
    found.check()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify_command)
