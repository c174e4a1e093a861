"""The ``squeezeedge`` command: parses, calls the library, prints. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import typer

from squeezeedge.cli.commands import (
    bench,
    classify,
    compare,
    compress,
    disasm,
    finetune,
    models,
    profile,
    quantize,
    recipes,
    report,
    targets,
    train,
    validate,
    verify,
)
from squeezeedge.cli.commands import compile as compile_
from squeezeedge.cli.commands import eval as eval_
from squeezeedge.cli.commands import inspect as inspect_
from squeezeedge.cli.output import error, warnings_as_notes
from squeezeedge.cli.wording import Group, joined_lines
from squeezeedge.errors import SqueezeEdgeError

__all__ = ["main"]

app = typer.Typer(
    name="squeezeedge",
    cls=Group,
    help="Compile a trained SqueezeNet to one integer-only int8 model with the same bits on every device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
with warnings_as_notes():  # options come from all targets, and another package's target may be broken
    for command in (
        compile_,
        eval_,
        classify,
        bench,
        compare,
        profile,
        verify,
        report,
        disasm,
        inspect_,
        quantize,
        compress,
        validate,
        train,
        finetune,
        recipes,
        models,
        targets,
    ):
        command.register(app)
for registered in app.registered_commands:
    if registered.callback is not None:
        registered.help = joined_lines(registered.callback.__doc__ or "")


def _version(value: bool) -> None:
    if value:
        from squeezeedge import __version__

        typer.echo(f"squeezeedge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    context.with_resource(warnings_as_notes())


def main() -> None:
    """Run the command line; a known failure is one message and its exit code, without a traceback."""
    if isinstance(sys.stdout, TextIOWrapper):  # names may have characters that the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's tensors in huge pages: quantizing takes a third less
    try:
        app()
    except SqueezeEdgeError as failure:
        error(str(failure))
        sys.exit(failure.exit_code)
    except BrokenPipeError:  # the reader of our output went away, as in `| head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as failure:  # disk full, permission denied
        error(f"{failure.filename or 'input/output'}: {failure.strerror or failure}")
        sys.exit(1)
