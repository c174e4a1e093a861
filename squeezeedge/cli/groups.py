"""Options that several commands share, declared once: a parameter that is a dataclass stands for its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

__all__ = ["expanded"]


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a dataclass are replaced by one option for each of its fields.

    Args:
        function: the command; such a parameter has no default, the fields of its class have one each, and their types
            are annotated as a command's are. A field may be of a dataclass itself.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if is_dataclass(parameter.annotation):
            parameters += _options(parameter.annotation)
        else:
            parameters.append(parameter)

    def command(**values: Any) -> None:  # noqa: ANN401
        groups = {
            name: _made(parameter.annotation, values)
            for name, parameter in signature.parameters.items()
            if is_dataclass(parameter.annotation)
        }
        function(**values, **groups)

    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    ordered = [p if p.kind in kinds else p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    command.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in ordered}
    command.__doc__ = function.__doc__
    return command


def _options(group: Any) -> Iterator[inspect.Parameter]:  # noqa: ANN401  (a dataclass)
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        hint = hints[field.name]
        if is_dataclass(hint):
            yield from _options(hint)
        else:
            yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)


def _made(group: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401
    """An instance of a group; its values are removed from the given ones."""
    given = {}
    for name, hint in get_type_hints(group).items():
        given[name] = _made(hint, values) if is_dataclass(hint) else values.pop(name)
    return group(**given)
