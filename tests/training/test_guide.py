"""The commands of docs/training.md are ones that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from squeezeedge.cli import app
from squeezeedge.training.recipe import embedded_recipes

GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
LINES = "\n".join(re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)).replace("\\\n", " ").splitlines()
COMMANDS = [line.partition("squeezeedge ")[2] for line in LINES if "squeezeedge " in line]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_takes_it(command: str) -> None:
    name, *arguments = shlex.split(command, comments=True)
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = group.commands[name].make_context(name, arguments)
    recipe = context.params.get("recipe")
    assert recipe is None or recipe in embedded_recipes()
