"""The C interface of a compiled network: the prefix of its names, the header, class names and scales."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import UnsupportedError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.rules import Shape
from squeezeedge.targets.cpu.options import RESERVED

__all__ = ["HEADER", "Interface"]

HEADER = "squeezeedge.h"
_TEMPLATE = Path(__file__).parent / HEADER
_SHORT = re.compile(r"\bsqueezeedge(?=_[a-z])")
_LIBRARY = re.compile(r"\blibsqueezeedge(?=\.)")


@dataclass(frozen=True, eq=False)
class Interface:
    """Of one network.

    Attributes:
        prefix: of all its names in C.
        shape: of the image.
        preprocessing: how an image of any size becomes one of that shape.
        labels: class names; empty if they are not known.
        scale: float32 [classes]: class sum * scale = logit.
        number: tells networks of one prefix apart.
    """

    prefix: str
    shape: Shape
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    scale: NDArray[np.float32]
    number: int

    @classmethod
    def of(cls, graph: IntegerGraph, prefix: str | None) -> Interface:
        """Of a graph.

        Args:
            graph: the network.
            prefix: checked; ``None``: the network's name, made an identifier.

        Raises:
            UnsupportedError: a class name can't be a string of C.
        """
        for label in graph.labels:
            if "\0" in label or any("\ud800" <= letter <= "\udfff" for letter in label):
                raise UnsupportedError(f"class name {label!r}: can't be a string of C; rename the class")
        number = int(graph.digest()[:8], 16)
        prefix = prefix or _identifier(graph.name)
        return cls(prefix, graph.input_shape, graph.preprocessing, graph.labels, graph.head.scale, number)

    @property
    def classes(self) -> int:
        """Number of class sums."""
        return len(self.scale)

    def header(self) -> str:
        """The header: declarations with the network's prefix, and the short names ``squeezeedge_*`` for them.

        Short names are for programs with one network: the header of a second network undefines them.
        """
        template = _TEMPLATE.read_text(encoding="utf-8")
        names = sorted(set(re.findall(r"\bsqueezeedge_([a-z_]+)", template)))
        declared = _SHORT.sub(self.prefix, _LIBRARY.sub(f"lib{self.prefix}", template))
        guard, short = f"SQUEEZEEDGE_NETWORK_{self.prefix}", "SQUEEZEEDGE_SHORT_NAMES"
        return "\n".join(
            [
                f"#ifndef {guard}",
                f"#define {guard} 0x{self.number:08x}",
                declared,
                "/* Short names, for a program with one network. */",
                f"#ifndef {short}",
                f"#define {short} 1",
                *(f"#define squeezeedge_{name} {self.prefix}_{name}" for name in names),
                f"#elif {short} == 1 /* a second network: now they could mean either */",
                f"#undef {short}",
                f"#define {short} 2",
                *(f"#undef squeezeedge_{name}" for name in names),
                "#endif",
                "",
                f"#elif {guard} != 0x{self.number:08x}",
                f'#error "two networks with the prefix {self.prefix}: compile one with another prefix"',
                "#endif",
                "",
            ]
        )

    def tables(self) -> list[str]:
        """Lines of C for the driver: the preprocessing, the scales, and LABELS if there are any."""
        how = self.preprocessing
        values = (*how.size, how.resize or 0, how.interpolation.upper(), int(how.gray))
        lines = [f"static const Preprocessing preprocessing = {{{', '.join(map(str, values))}}};"]
        lines.append("static const float class_scale[CLASSES] = {")
        lines += [f"    {float(value).hex()}f," for value in self.scale]
        lines.append("};")
        if self.labels:
            lines += ["#define LABELS", "static const char *const class_labels[CLASSES] = {"]
            lines += [f"    {_string(label)}," for label in self.labels]
            lines.append("};")
        return lines


def _identifier(name: str) -> str:
    """A network's name as a prefix."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not made[0].isalpha():
        made = f"network_{made}"
    return f"{made}_network" if made in RESERVED else made


def _string(text: str) -> str:
    """A string literal of C, in ASCII."""
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ,.-_'()"
    return '"{}"'.format("".join(chr(byte) if chr(byte) in plain else f"\\{byte:03o}" for byte in text.encode()))
