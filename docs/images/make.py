"""Writes the pictures of the documentation: ``python docs/images/make.py``. tests/test_docs.py compares them.

Drawings are text, the same everywhere. A picture of a benchmark's results tells in its text ``results`` which ones, by
their SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import runpy
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from squeezeedge.graph.rules import rounding_shift

INK, GRAY, BLUE, GREEN, RED = "#1f2933", "#7b8794", "#2563a8", "#2f7d4f", "#b3382c"
PALE = {BLUE: "#e3edf8", GREEN: "#e2f1e8", GRAY: "#eef1f4", RED: "#f8e6e3"}


def text(x: float, y: float, words: str, size: int = 14, colour: str = INK, anchor: str = "middle") -> str:
    """Words whose middle, start or end is at (x, y)."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def line(points: Iterable[tuple[float, float]], colour: str = INK, width: float = 1.5, dash: str = "") -> str:
    """A line through points."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = GRAY) -> str:
    """A line with a head at (x2, y2)."""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="1.5" '
        'marker-end="url(#head)"/>'
    )


def box(x: float, y: float, width: float, height: float, lines: Iterable[str], colour: str = GRAY) -> str:
    """A box; its first line is larger."""
    rows = list(lines)
    top = y + height / 2 - 9 * (len(rows) - 1) + 5
    parts = [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{PALE[colour]}" '
        f'stroke="{colour}" stroke-width="1.5"/>'
    ]
    for number, row in enumerate(rows):
        parts.append(text(x + width / 2, top + 18 * number, row, 12 if number else 14, GRAY if number else INK))
    return "\n".join(parts)


def svg(width: int, height: int, title: str, *parts: str) -> str:
    """A picture on white, so that it can be read on light and dark pages."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="system-ui, sans-serif" role="img">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{GRAY}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def overview() -> str:
    """From a trained network to the same bits on every device."""
    targets = (
        ("cpu", "C library"),
        ("cuda", "GPU code"),
        ("vta", "FPGA program"),
        ("ascend", "ONNX for ATC"),
    )
    parts = [
        box(20, 90, 150, 76, ["trained network", "PyTorch, ONNX,", "MindSpore, .net"]),
        box(20, 190, 150, 54, ["some images", "64, no labels"]),
        arrow(170, 128, 262, 158),
        arrow(170, 217, 262, 182),
        text(216, 120, "quantize", 13, BLUE),
        box(
            264, 122, 166, 96, ["one integer graph", "int8 weights, shifts", "no float, no multiplier", "net.sqe"], BLUE
        ),
        text(448, 84, "compile", 13, BLUE),
        box(264, 262, 166, 54, ["oracle", "its meaning, in numpy"], GREEN),
        arrow(347, 218, 347, 260),
        box(724, 122, 136, 96, ["class sums", "int32", "the same bits", "everywhere"], GREEN),
    ]
    for place, (name, what) in enumerate(targets):
        y = 22 + 64 * place
        parts += [
            arrow(430, 170, 522, y + 25),
            box(524, y, 130, 50, [name, what]),
            arrow(654, y + 25, 722, 170),
        ]
    parts += [
        line([(430, 289), (792, 289), (792, 222)], GREEN, 1.5, "5 4"),
        text(620, 308, "compared, bit for bit", 13, GREEN),
    ]
    return svg(880, 330, "One integer graph gives the same bits on every device", *parts)


def convolution() -> str:
    """What rule R3 does with one output value."""
    steps = (
        ("q - z", "uint8 input", GRAY),
        ("x w", "int8 weight", GRAY),
        ("sum + bias", "int32, exact", BLUE),
        ("+ 2^(k-1)", "for rounding", GRAY),
        (">> k", "one k a channel", BLUE),
        ("+ z_out", "zero point", GRAY),
        ("clip 0..255", "uint8", GRAY),
    )
    parts = [text(20, 30, "One output value of a convolution (rule R3)", 15, INK, "start")]
    for place, (what, how, colour) in enumerate(steps):
        x = 20 + 122 * place
        parts.append(box(x, 52, 102, 60, [what, how], colour))
        if place:
            parts.append(arrow(x - 20, 82, x - 2, 82))
    return svg(880, 132, "The arithmetic of a convolution", *parts)


def shift() -> str:
    """A shift with rounding beside one without."""
    k, least, most = 2, -10, 10
    left, top, step, rise = 60, 44, 22, 28

    def at(value: float, result: float) -> tuple[float, float]:
        return left + (value - least) * step, top + (3 - result) * rise

    accumulators = np.arange(least, most + 1, dtype=np.int32)
    rounded = rounding_shift(accumulators, np.full(accumulators.shape, k, np.uint8))
    parts = [text(left, 26, f"(acc + {1 << (k - 1)}) >> {k} beside acc / {1 << k}", 15, INK, "start")]
    for result in range(-3, 4):
        parts += [
            line([at(least, result), at(most, result)], "#dde2e7", 1),
            text(left - 14, at(0, result)[1] + 5, str(result), 12, GRAY),
        ]
    parts += [text(at(value, 0)[0], top + 6 * rise + 22, str(value), 12, GRAY) for value in range(least, most + 1, 2)]
    parts.append(line([at(least, least / 4), at(most, most / 4)], GRAY, 1.5, "5 4"))
    for value, result in zip(accumulators.tolist(), rounded.tolist(), strict=True):
        x, y = at(value, result)
        parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="4.5" fill="{BLUE}"/>')
    parts.append(text(at(0, 0)[0], top + 6 * rise + 44, "accumulator (int32)", 13, GRAY))
    notes = (
        "dashed: the exact quotient",
        "blue: what every device computes",
        f"a half goes up: {2} -> {rounded[12]}, {-2} -> {rounded[8]}, {-6} -> {rounded[4]}",
        "no multiplication, no float",
    )
    parts += [text(540, 84 + 26 * number, note, 14, INK, "start") for number, note in enumerate(notes)]
    return svg(880, 280, "The rounding shift", *parts)


def zero_points() -> str:
    """What q stands for with both zero points."""
    parts = [text(20, 30, "q stands for scale * (q - z); here scale = 0.05", 15, INK, "start")]
    rows = ((0, "z = 0: after a ReLU, nothing is negative", BLUE), (128, "z = 128: negatives exist", GREEN))
    for number, (zero, what, colour) in enumerate(rows):
        y = 88 + 110 * number
        parts += [text(40, y - 26, what, 14, colour, "start"), line([(40, y), (40 + 3.1 * 255, y)], colour, 3)]
        for q in (0, 64, 128, 192, 255):
            x = 40 + 3.1 * q
            parts += [
                line([(x, y - 6), (x, y + 6)], colour, 2),
                text(x, y + 24, f"q = {q}", 13),
                text(x, y + 42, f"{0.05 * (q - zero):g}", 13, GRAY),
            ]
    return svg(880, 260, "The two zero points", *parts)


def scales() -> str:
    """How the quantizer makes the shift exact."""
    parts = [
        text(20, 30, "Scales are chosen so that the shift is exact", 15, INK, "start"),
        box(20, 60, 170, 60, ["scale_in", "of the input channel"]),
        text(208, 96, "x", 18),
        box(226, 60, 170, 60, ["scale_w[o]", "of an output's weights"]),
        text(414, 96, "/", 18),
        box(432, 60, 170, 60, ["scale_out[o]", "of the output channel"]),
        text(622, 96, "=", 18),
        box(642, 60, 90, 60, ["2^-k[o]", "k in 0..15"], BLUE),
        text(
            20,
            154,
            "Others round this factor to a multiplier and a shift, which each device may round its own way.",
            13,
            GRAY,
            "start",
        ),
        text(
            20,
            174,
            "Here nothing is left to round: only k goes to the device; scales stay in the .sqe file.",
            13,
            INK,
            "start",
        ),
    ]
    return svg(880, 196, "Scales that make the shift exact", *parts)


PICTURES = {
    "overview.svg": overview,
    "convolution.svg": convolution,
    "rounding-shift.svg": shift,
    "zero-points.svg": zero_points,
    "scales.svg": scales,
}

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PLOTS = {
    "cpu.png": ("cpu_plot.py", "cpu_figure", "cpu-squeezenet1_1.json"),
    "predict.png": ("predict_plot.py", "predict_figure", "predict-squeezenet1_1.json"),
}
"""Picture -> module, its function, and the results."""


def plot(name: str) -> bytes:
    """A picture of results, as PNG."""
    module, function, results = PLOTS[name]
    content = (BENCHMARKS / "results" / results).read_bytes()
    figure: Figure = runpy.run_path(str(BENCHMARKS / module))[function](json.loads(content))
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, metadata={"Software": None, "results": hashlib.sha256(content).hexdigest()})
    return picture.getvalue()


if __name__ == "__main__":
    for name in PLOTS:
        (Path(__file__).parent / name).write_bytes(plot(name))
    for name, draw in PICTURES.items():
        (Path(__file__).parent / name).write_text(draw(), encoding="utf-8")
