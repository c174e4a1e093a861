"""``squeezeedge targets``: what is usable on this machine and what is missing."""

from __future__ import annotations

import typer

from squeezeedge.cli.options import Json

__all__ = ["register", "targets_command"]


def targets_command(json: Json = False) -> None:
    """List the targets, their devices, and what they need on this machine."""
    from dataclasses import asdict, replace

    from squeezeedge.cli.output import emit_json, emit_table
    from squeezeedge.cli.wording import in_options
    from squeezeedge.targets.registry import all_targets

    rows, needs = [], []
    for target in all_targets().values():
        requirements = [replace(found, fix=in_options(found.fix)) for found in target.requirements()]
        missing: set[str] = {r.needed_for for r in requirements if r.found is None}
        if json:
            emit_json(
                {
                    "target": target.name,
                    "devices": dict(target.devices),
                    "compiles": "compile" not in missing,
                    "runs": "run" not in missing,
                    "requirements": [asdict(r) for r in requirements],
                }
            )
            continue
        devices = ", ".join(f"{name} ({kind})" for name, kind in target.devices.items())
        rows.append([target.name, target.summary, devices, _yes(missing, "compile"), _yes(missing, "run")])
        for requirement in requirements:
            needs.append([target.name, requirement.name, requirement.found or f"missing: {requirement.fix}"])
    if not json:
        emit_table("targets", ["target", "", "devices", "compiles here", "runs here"], rows)
        emit_table("what they need on this machine", ["target", "needs", "found"], needs)


def _yes(missing: set[str], purpose: str) -> str:
    return "no" if purpose in missing else "yes"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("targets")(targets_command)
