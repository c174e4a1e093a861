"""docs/commands.md from the program: every command with its arguments and options, as ``--help`` has them.

tests/cli/test_command_docs.py writes or compares the file.
"""

from __future__ import annotations

from typing import Any

import typer.core

__all__ = ["commands_markdown"]

INTRODUCTION = """\
# Commands

Every command explains itself: `squeezeedge COMMAND --help`. This page says the same. It is written from the program by
`pytest tests/cli/test_command_docs.py --update-golden`.

Results go to the standard output; notes, warnings and progress go to the standard error. `--json` prints one JSON
object a line instead of a table.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a known failure: one message that names the file or layer, the reason and the fix |
| 2 | wrong usage |
| 3 | this machine lacks a tool or a device that the target needs |
| 4 | a gate failed: accuracy, agreement or bit-exactness |

| environment variable | meaning |
| --- | --- |
| `SQUEEZEEDGE_THREADS` | threads of a CPU artifact, but in C (1 to 64); default: the processors, at most 8 |
| `OMP_NUM_THREADS` | threads of PyTorch, which quantizes and trains; it never changes the graph |
| `THP_MEM_ALLOC_ENABLE` | 0: PyTorch asks for no huge pages, with which it quantizes a third faster |
| `CXX` | the C++ compiler that builds the accelerator's simulator |
| `XDG_CACHE_HOME` | where the built simulator and bitstreams are kept; default: `~/.cache` |
| `TMPDIR` | where temporary files lie |
| `NO_COLOR`, `TERM=dumb` | no colours |
| `COLUMNS` | width of tables |
"""


def commands_markdown(program: typer.core.TyperGroup) -> str:
    """The file: one section a command, its options in the groups of ``--help``."""
    context = typer.Context(program, info_name="squeezeedge")
    sections = (_section(command, context) for command in program.commands.values() if not command.hidden)
    return INTRODUCTION + "".join(sections)


def _section(command: Any, parent: typer.Context) -> str:  # noqa: ANN401  (typer's own class)
    context = typer.Context(command, info_name=command.name, parent=parent)
    name = f"squeezeedge {command.name}"
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    groups: dict[str, list[str]] = {}
    for parameter in command.params:
        if parameter.help and not getattr(parameter, "hidden", False):
            argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None) or ("Arguments" if argument else "Options")
            groups.setdefault(panel, []).append(_argument(parameter) if argument else _option(parameter))
    lists = (f"\n{title}:\n\n{''.join(items)}" for title, items in groups.items())
    return f"\n## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n{''.join(lists)}"


def _argument(parameter: Any) -> str:  # noqa: ANN401  (typer's own class)
    return _item(parameter.metavar or parameter.name.upper(), parameter.help)


def _option(parameter: Any) -> str:  # noqa: ANN401  (typer's own class)
    """An option's names, values and help, without type names, which differ between versions of typer."""
    names = (*parameter.opts, *parameter.secondary_opts)
    value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    default = (
        ""
        if parameter.default is None or parameter.default is False or not parameter.show_default
        else f" Default: {parameter.default}."
    )
    return _item(f"{', '.join(names)}{value}", parameter.help + default)


def _item(names: str, text: str) -> str:
    return f"- `{names}`: {' '.join(text.split())}\n"
