"""A parameter that is a dataclass becomes options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from typer.testing import CliRunner

from squeezeedge.cli.groups import expanded


@dataclass(frozen=True)
class Inner:
    depth: Annotated[int, typer.Option(help="How deep.")] = 1


@dataclass(frozen=True)
class Outer:
    name: Annotated[str, typer.Option("--name", "-n")] = "none"
    inner: Inner = field(default_factory=Inner)


def test_groups() -> None:
    seen: list[Any] = []

    def command(first: Annotated[str, typer.Argument()], *, group: Outer, last: bool = False) -> None:
        """Do it."""
        seen.append((first, group, last))

    app = typer.Typer()
    app.command()(expanded(command))
    assert CliRunner().invoke(app, ["x", "-n", "y", "--depth", "3", "--last"]).exit_code == 0
    assert CliRunner().invoke(app, ["x"]).exit_code == 0
    assert seen == [("x", Outer("y", Inner(3)), True), ("x", Outer("none", Inner(1)), False)]
    text = CliRunner().invoke(app, ["--help"]).output
    assert "Do it." in text and "--depth" in text and "How deep." in text
