"""The targets' own options on a command: each field of each target's dataclass is one ``--field-name``.

``metadata["names"]`` of a field are other names, all of them accepted; ``metadata["values"]`` are offered by a shell.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_type_hints

import typer

from squeezeedge.cli.completion import one_of
from squeezeedge.cli.groups import expanded
from squeezeedge.errors import UsageError
from squeezeedge.targets.protocol import Kind, Target
from squeezeedge.targets.registry import all_targets

__all__ = ["add_command", "options_of"]


def add_command(app: typer.Typer, name: str, function: Callable[..., None]) -> None:
    """Add a command whose keywords ``**target_options`` become the options of every target; not given: ``None``."""
    function = expanded(function)
    signature = inspect.signature(function, eval_str=True)
    parameters = {p.name: p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    for target in all_targets().values():
        hints = get_type_hints(target.options)
        for option in fields(target.options):
            parameters.setdefault(option.name, _parameter(target, option, hints[option.name]))

    def command(**values: Any) -> None:  # noqa: ANN401
        function(**values)

    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters.values()]
    command.__signature__ = signature.replace(parameters=keywords, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    command.__doc__ = function.__doc__
    app.command(name)(command)


def _parameter(target: Target, option: Field[Any], kind: Any) -> inspect.Parameter:  # noqa: ANN401
    text = option.metadata["help"]
    if option.default not in (MISSING, None, False, ""):
        text += f" Default: {option.default}."
    settings = typer.Option(
        *_names(option),
        help=text,
        rich_help_panel=f"Options of --target {target.name}",
        show_default=False,
        autocompletion=one_of(option.metadata["values"]) if "values" in option.metadata else None,
    )
    annotation = Annotated[kind | None, settings]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _names(option: Field[Any]) -> tuple[str, ...]:
    """An option's names on the command line, the first of them for messages."""
    return tuple(option.metadata.get("names", (f"--{option.name.replace('_', '-')}",)))


def options_of(
    target: Target, values: Mapping[str, Any], used: Sequence[Target], kind: Kind = "hardware"
) -> dict[str, Any]:
    """The options of a target that were given, by field of its dataclass.

    Args:
        target: whose.
        values: what the command got for all targets' options.
        used: the targets of this call.
        kind: of the device that is to run; an emulation takes ``metadata["emulated"]`` for what was not given.

    Raises:
        UsageError: an option was given that none of the used targets has.
    """
    given = {name: value for name, value in values.items() if value is not None}
    foreign = sorted(given.keys() - {field.name for other in used for field in fields(other.options)})
    if foreign:
        names = " and ".join(sorted({other.name for other in used}))
        every = {field.name: field for other in all_targets().values() for field in fields(other.options)}
        raise UsageError(f"{_names(every[foreign[0]])[0]} is not an option of target {names}")
    own = {option.name: option.metadata for option in fields(target.options)}
    if kind == "emulation":
        given = {name: data["emulated"] for name, data in own.items() if "emulated" in data} | given
    return {name: value for name, value in given.items() if name in own}
