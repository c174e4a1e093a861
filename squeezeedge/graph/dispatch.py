"""Tables from an operator to the function that one consumer has for it, in place of chains of ``isinstance``.

    run: Table[Node, Q8] = Table("oracle", INTEGER_OPERATORS)

    @run.implements(Conv)
    def _conv(node: Conv, inputs: Sequence[Q8]) -> Q8: ...

    run.refuses(Head, why="the class sums are no tensor")
    run(node, inputs)

A consumer says of every operator of its family what it does: it implements it, or it refuses it with a reason. A test
walks all tables (:func:`all_tables`) and fails on a cell that is empty; the table of operators in docs/operators.md is
made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

from squeezeedge.errors import UnsupportedError

__all__ = ["Table", "all_tables", "operator_name"]

T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_TABLES: dict[str, Table[Any, Any]] = {}


class Table(Generic[T, R]):
    """One consumer's functions, one for each operator of a family.

    Args:
        consumer: who it is, unique: for messages and the documentation ("oracle", "cpu kernels").
        operators: the family: classes of nodes, or whatever ``key`` returns.
        key: what is looked up for a node; unless given, the class of the family that it is an instance of, the nearest.
    """

    def __init__(
        self, consumer: str, operators: Iterable[Hashable | type[Any]], key: Callable[[T], Hashable] | None = None
    ) -> None:
        assert consumer not in _TABLES, consumer
        self.consumer, self.operators = consumer, tuple(cast(Iterable[Hashable], operators))
        self._key = key or self._class
        self._functions: dict[Hashable, Callable[..., R]] = {}
        self._refusals: dict[Hashable, str] = {}
        _TABLES[consumer] = self

    def implements(self, *operators: Hashable) -> Callable[[F], F]:
        """Decorator: the function takes a node of one of these operators, and the further arguments of the call."""

        def register(function: F) -> F:
            for operator in operators:
                self._claim(operator)
                self._functions[operator] = function
            return function

        return register

    def refuses(self, *operators: Hashable, why: str) -> None:
        """These operators are an UnsupportedError that names the node and says why."""
        for operator in operators:
            self._claim(operator)
            self._refusals[operator] = why

    def __call__(self, node: T, *arguments: Any, **keywords: Any) -> R:  # noqa: ANN401  (the functions' own)
        """Call the node's function.

        Raises:
            UnsupportedError: the consumer refuses the operator.
        """
        key = self._key(node)
        if key not in self._functions:
            why = self._refusals.get(key, "it does not know the operator")
            name = getattr(node, "name", "network")
            raise UnsupportedError(f"{name}: {self.consumer} has no {operator_name(key)}: {why}")
        return self._functions[key](node, *arguments, **keywords)

    def cells(self) -> Mapping[Hashable, str | None]:
        """Operator -> "" (implemented), the reason of a refusal, or ``None``: nobody has said anything."""
        return {op: "" if op in self._functions else self._refusals.get(op) for op in self.operators}

    def _class(self, node: T) -> Hashable:
        return next((kind for kind in type(node).__mro__ if kind in self.operators), type(node))

    def _claim(self, operator: Hashable) -> None:
        assert operator in self.operators, f"{self.consumer}: {operator_name(operator)} is not of its family"
        assert operator not in self._functions and operator not in self._refusals, operator_name(operator)


def operator_name(operator: Hashable) -> str:
    """For people: a class's name, or the value itself."""
    return operator.__name__ if isinstance(operator, type) else str(operator)


def all_tables() -> Mapping[str, Table[Any, Any]]:
    """Every table of the modules that have been imported, by consumer."""
    return _TABLES
