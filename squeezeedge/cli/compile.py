"""``squeezeedge compile``: a model becomes an artifact folder for one target."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from squeezeedge.cli.options import Calib, CalibImages, Classes, Data, Json, Model, Pretrained, Seed, Size, Weights
from squeezeedge.errors import UsageError
from squeezeedge.targets import Target, all_targets, get_target

__all__ = ["compile_command", "register"]

GOLDEN_IMAGES = 4


def compile_command(
    model: Model = None,
    target: Annotated[str, typer.Option(help="What to compile for (`squeezeedge targets`).")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to make. Default: MODEL-TARGET here.", show_default=False),
    ] = None,
    weights: Weights = None,
    pretrained: Pretrained = False,
    size: Size = None,
    data: Data = None,
    classes: Classes = None,
    calib: Calib = None,
    calib_images: CalibImages = 64,
    seed: Seed = 0,
    json: Json = False,
    **target_options: Any,  # noqa: ANN401  (one keyword for each option of each target)
) -> None:
    """Compile a model into an artifact folder that a device runs without this package."""
    from squeezeedge.artifact import write_artifact
    from squeezeedge.cli.output import emit_json, note
    from squeezeedge.cli.pipeline import DataOptions, calibration_images, to_integer
    from squeezeedge.cli.source import load_source

    chosen = get_target(target)
    options = _target_options(chosen, target_options)
    if out is not None and out.exists():
        raise UsageError(f"{out}: exists already; choose another output folder or remove it")
    source = load_source(model, weights, pretrained, size)
    out = out or Path(f"{source.name}-{target}")
    if out.exists():
        raise UsageError(f"{out}: exists already; choose another output folder with -o or remove it")
    data_options = DataOptions(data, calib, classes, calib_images, None, seed)
    graph, images = to_integer(source, data_options)
    images = images or calibration_images(source, data_options)
    golden = images.dataset.load(graph.preprocessing, images.indices[:GOLDEN_IMAGES])
    note(f"compiling {graph.name} for {target}")
    artifact = write_artifact(graph, chosen, options, out, golden=golden, source=source.origin)
    if json:
        emit_json({"artifact": str(out), **artifact.manifest})
    else:
        print(f"{out}: {graph.name} for {target}, {artifact.model_bytes / 1e6:.2f} MB")


def _target_options(target: Target, values: dict[str, Any]) -> Any:  # noqa: ANN401  (the target's own dataclass)
    """The options that were given, as the target's dataclass.

    Raises:
        UsageError: an option of another target was given.
    """
    own = {field.name for field in fields(target.options)}
    given = {name: value for name, value in values.items() if value is not None}
    foreign = sorted(given.keys() - own)
    if foreign:
        raise UsageError(f"--{foreign[0].replace('_', '-')} is not an option of --target {target.name}")
    return target.options(**given)


def _option(target: Target, option: Field[Any], kind: Any) -> inspect.Parameter:  # noqa: ANN401
    default = None if option.default is MISSING else option.default
    text = option.metadata["help"] + ("" if default is None else f" [default: {default}]")
    annotation = Annotated[
        kind | None, typer.Option(help=text, rich_help_panel=f"Options of --target {target.name}", show_default=False)
    ]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def register(app: typer.Typer) -> None:
    """Add the command, with one option for each field of each target's options."""
    signature = inspect.signature(compile_command, eval_str=True)
    parameters = {p.name: p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    for target in all_targets().values():
        hints = get_type_hints(target.options)
        for option in fields(target.options):
            parameters.setdefault(option.name, _option(target, option, hints[option.name]))

    def command(**values: Any) -> None:  # noqa: ANN401
        compile_command(**values)

    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters.values()]
    described = signature.replace(parameters=keywords, return_annotation=None)
    command.__signature__ = described  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters.values()}
    command.__doc__ = compile_command.__doc__
    app.command("compile")(command)
