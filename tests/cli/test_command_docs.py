"""docs/commands.md says what the program says."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.core
import typer.main

from squeezeedge.cli import app
from squeezeedge.cli.command_docs import commands_markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"


@pytest.fixture(scope="module")
def program() -> typer.core.TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group


def test_the_reference_is_what_the_program_says(program: typer.core.TyperGroup, request: pytest.FixtureRequest) -> None:
    text = commands_markdown(program)
    if request.config.getoption("--update-golden"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "docs/commands.md differs; run pytest --update-golden"


def test_every_option_is_there_once(program: typer.core.TyperGroup) -> None:
    sections = commands_markdown(program).split("\n## ")[1:]
    assert [section.splitlines()[0].removeprefix("squeezeedge ") for section in sections] == list(program.commands)
    for section, command in zip(sections, program.commands.values(), strict=True):
        for parameter in command.params:
            for name in parameter.opts if parameter.param_type_name == "option" else ():
                lines = [line for line in section.splitlines() if line.startswith("- `") and name in line.split("`")[1]]
                assert lines, f"{command.name} {name}"
