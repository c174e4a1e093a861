"""Pickles read as data: whatever they name is neither imported nor called.

Python's own unpickler, even with ``find_class`` overridden, calls ``__setstate__``, hashes keys without a limit of
depth and allocates what an argument declares. Here the operations that ``pickletools`` (the format's specification)
finds build plain containers; a call of a name builds what :class:`Makers` has for it, else an inert :class:`Unknown`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

__all__ = ["HostileError", "Makers", "Name", "Unknown", "interpret"]

MAX_OPERATIONS = 1 << 21
Makers = Mapping[str, Callable[[tuple[Any, ...]], Any]]
"""A name ("module name") -> what stands for a call of it with these arguments."""

_FORBIDDEN_MODULES = frozenset(
    "os posix nt sys subprocess commands popen2 shutil socket runpy importlib pty ctypes _ctypes webbrowser code pdb "
    "timeit multiprocessing asyncio pip pickle marshal".split()
)
_FORBIDDEN_BUILTINS = frozenset("eval exec compile open __import__ input breakpoint globals locals setattr".split())
_BUILTINS = ("builtins", "__builtin__")

_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8".split()
)
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class HostileError(ValueError):
    """A pickle names what no weights need and what can do harm; ``args[0]`` is the name."""


@dataclass(frozen=True, eq=False)
class Name:
    """A class or function that a pickle names, as "module name"."""

    name: str


@dataclass(eq=False)
class Unknown:
    """What a pickle would make by a call.

    Attributes:
        name: what would be called, as "module name".
        arguments: of the call.
        state: what the result would be told afterwards.
        items: what would be put into it, if it is a mapping.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: object = None
    items: dict[Any, Any] = field(default_factory=dict)


def interpret(stream: BinaryIO, makers: Makers, persistent: Callable[[object], object] | None = None) -> object:
    """Read one pickle of any protocol; the stream stands behind it afterwards.

    Args:
        stream: where the pickle begins.
        makers: what stands for calls.
        persistent: what stands for an object outside of the pickle, given its identification; ``None``: there is none.

    Returns:
        None, bool, int, float, str, bytes, list, dict, tuple, :class:`Name`, :class:`Unknown`, and what ``makers`` and
        ``persistent`` return. Mappings lack entries whose keys are neither numbers nor strings.

    Raises:
        HostileError: the pickle names what can do harm.
        ValueError: it is not a pickle, or too long.
    """
    machine = _Machine(makers, persistent)
    try:
        for number, (opcode, argument, _position) in enumerate(pickletools.genops(stream)):
            if number >= MAX_OPERATIONS:
                raise ValueError(f"a pickle of more than {MAX_OPERATIONS} operations")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (IndexError, TypeError, KeyError, AttributeError, OverflowError) as failure:
        raise ValueError(f"a pickle whose operations do not fit together ({type(failure).__name__})") from failure


class _Machine:
    """The stack, the stacks below marks, and the memo of a pickle."""

    def __init__(self, makers: Makers, persistent: Callable[[object], object] | None) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._makers, self._persistent = makers, persistent

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401
        """Do one operation."""
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self._memo[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            self.stack.append(self._popped(count))
        else:
            getattr(self, f"_{name.lower()}", self._refused)(argument)

    def _refused(self, _: object) -> None:
        raise ValueError("a pickle with an operation that no weights need")

    def _popped(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise IndexError
        parts = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return parts

    def _marked(self) -> list[Any]:
        """What is above the last mark, which goes with it."""
        above, self.stack = self.stack, self._below.pop()
        return above

    def _call(self, called: object, arguments: object) -> None:
        if not isinstance(called, Name | Unknown) or not isinstance(arguments, tuple):
            raise TypeError
        maker = self._makers.get(called.name) if isinstance(called, Name) else None
        self.stack.append(Unknown(called.name, arguments) if maker is None else maker(arguments))

    def _fill(self, target: object, parts: list[Any]) -> None:
        items = target.items if isinstance(target, Unknown) else target
        if not isinstance(items, dict) or len(parts) % 2:
            raise TypeError
        for key, value in zip(parts[::2], parts[1::2], strict=True):
            if key is None or isinstance(key, str | int | float | bytes):
                items[key] = value

    def _proto(self, _: object) -> None:
        pass

    _frame = _stop = _proto

    def _mark(self, _: object) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _pop(self, _: object) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _: object) -> None:
        self._marked()

    def _dup(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self.stack[-1]

    def _empty_list(self, _: object) -> None:
        self.stack.append([])

    def _empty_dict(self, _: object) -> None:
        self.stack.append({})

    def _empty_set(self, _: object) -> None:
        self.stack.append(Unknown("builtins set"))

    def _list(self, _: object) -> None:
        parts = self._marked()
        self.stack.append(parts)

    def _tuple(self, _: object) -> None:
        parts = self._marked()
        self.stack.append(tuple(parts))

    def _frozenset(self, _: object) -> None:
        self._marked()
        self.stack.append(Unknown("builtins frozenset"))

    def _dict(self, _: object) -> None:
        parts, target = self._marked(), dict[Any, Any]()
        self._fill(target, parts)
        self.stack.append(target)

    def _append(self, _: object) -> None:
        part = self.stack.pop()
        if isinstance(self.stack[-1], list):
            self.stack[-1].append(part)

    def _appends(self, _: object) -> None:
        parts = self._marked()
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(parts)

    def _additems(self, _: object) -> None:
        self._marked()

    def _setitem(self, _: object) -> None:
        pair = self._popped(2)
        self._fill(self.stack[-1], list(pair))

    def _setitems(self, _: object) -> None:
        parts = self._marked()
        self._fill(self.stack[-1], parts)

    def _global(self, argument: Any) -> None:  # noqa: ANN401
        module, _, name = str(argument).partition(" ")
        self._named(module, name)

    def _stack_global(self, _: object) -> None:
        module, name = self._popped(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self._named(module, name)

    def _named(self, module: str, name: str) -> None:
        top = module.partition(".")[0]
        if top in _FORBIDDEN_MODULES or (module in _BUILTINS and name in _FORBIDDEN_BUILTINS):
            raise HostileError(f"{module} {name}")
        self.stack.append(Name(f"{module} {name}"))

    def _inst(self, argument: Any) -> None:  # noqa: ANN401
        parts = self._marked()
        self._global(argument)
        self._call(self.stack.pop(), tuple(parts))

    def _obj(self, _: object) -> None:
        called, *parts = self._marked()
        self._call(called, tuple(parts))

    def _reduce(self, _: object) -> None:
        self._call(*self._popped(2))

    _newobj = _reduce

    def _newobj_ex(self, _: object) -> None:
        called, arguments, _keywords = self._popped(3)
        self._call(called, arguments)

    def _build(self, _: object) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Unknown):
            self.stack[-1].state = state

    def _binpersid(self, _: object) -> None:
        if self._persistent is None:
            raise TypeError
        self.stack.append(self._persistent(self.stack.pop()))
