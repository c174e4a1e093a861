"""The library's messages in the words of the command line.

The library names its arguments, as in "`out`: exists already; use `force`". Only this module replaces an argument by
the option of that name in some command: "-o: exists already; use --force".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import typer.core

from squeezeedge.errors import SqueezeEdgeError, UsageError

__all__ = ["Group", "command_line", "in_options", "joined_lines"]

_GIVEN = "squeezeedge.arguments"
_COMMAND_LINE: ContextVar[tuple[str, ...]] = ContextVar("the command line, while a command runs")
_OPTIONS: ContextVar[Mapping[str, str]] = ContextVar("argument -> option, while a command runs")
_EMPTY = re.compile(r"--[a-z][a-z-]*=")
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)`")


class Group(typer.core.TyperGroup):
    """A group of commands whose known failures name options, and that refuse empty arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Take the arguments of a command line.

        Raises:
            UsageError: one is empty: as a path it would be the present folder.
        """
        for before, argument in pairwise(["", *args]):
            if not argument or _EMPTY.fullmatch(argument):
                option = before if before.startswith("-") and not argument else argument[:-1]
                raise UsageError(f"{option or 'an argument'} is empty; give a value or leave it out")
        ctx.meta[_GIVEN] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  (the context's type is the command line's own)
        """Run the command of a context."""
        before, line = _OPTIONS.set(_options(self)), _COMMAND_LINE.set((str(ctx.info_name), *ctx.meta[_GIVEN]))
        try:
            return super().invoke(ctx)
        except SqueezeEdgeError as failure:
            failure.args = (in_options(str(failure)), *failure.args[1:])
            raise
        finally:
            _OPTIONS.reset(before)
            _COMMAND_LINE.reset(line)


def command_line() -> tuple[str, ...]:
    """The words of the command line that is run, as they were given; outside of a command none."""
    return _COMMAND_LINE.get(())


def in_options(text: str) -> str:
    """A message with options where the library names arguments; outside of a command it stays as it is."""
    options = _OPTIONS.get({})
    return _ARGUMENT.sub(lambda match: options.get(match[1], match[0]), text)


def joined_lines(docstring: str) -> str:
    """A docstring as help: each paragraph is one line, for the terminal to wrap."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


def _options(program: typer.core.TyperGroup) -> Mapping[str, str]:
    """Argument -> option, of all commands: ``calib_images`` is ``--calib-images``, ``out`` is ``-o``."""
    found: dict[str, str] = {}
    for command in program.commands.values():
        for option in command.params:
            if option.param_type_name == "option":
                for name in option.opts:
                    if name.startswith("--"):
                        found.setdefault(name[2:].replace("-", "_"), option.opts[0])
    return found
