"""The structure that ARCHITECTURE.md promises: imports follow the order of the folders, tests mirror the tree.

Everything is read from the source text; nothing is imported but for the test of the package's names.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"calib": "squeezeedge.calib", "targets": "squeezeedge.targets", "hls": "squeezeedge.hls"}
"""Folders at the top and the names that they are imported by."""

ORDER = (
    ("_version", "errors", "files"),
    ("calib",),
    ("networks",),
    ("graph",),
    ("training",),
    ("quantization",),
    ("lower",),
    ("hls",),
    ("targets",),
    ("artifact", "device", "manifest", "model", "loading", "trial"),
    ("evaluation",),
    ("compression",),
    ("cli",),
    ("__main__",),
)
"""Each level imports from itself and from those before it."""

ACCELERATOR = (("device", "options"), ("isa",), ("board", "sim"), ("emit", "lower", "verify"), ("listing",))
"""The same for the parts of targets/vta."""

WITHOUT_A_TEST = {
    "squeezeedge.__main__": "every test of a command that is a process of its own runs it",
    "squeezeedge._version": "one string",
    "squeezeedge.errors": "classes that tests of all modules expect",
    "squeezeedge.graph.importers.imported": "declarations only",
    "squeezeedge.cli.options": "declarations of options that the commands' tests use",
    "squeezeedge.targets.protocol": "declarations only",
}
"""Module -> why no test has its name."""

NODES = "Conv Head MaxPool Concat Add FloatConv FloatRelu FloatMaxPool FloatConcat FloatAdd FloatLinear FloatBatchNorm"
POOLS = {"FloatAveragePool", "FloatGlobalAveragePool"}
KINDS = {*NODES.split(), *POOLS, "FoldedConv", "FoldedAdd", "ConvLayer", "AddLayer", "Stage"}
MOST_TYPE_TESTS = 30
MOST_LINES = 450
UNDIVIDED = {
    "squeezeedge.targets.cuda.device": 620,
    "squeezeedge.targets.device.run": 580,
    "squeezeedge.targets.vta.device": 530,
}
"""Module that artifacts hold as one file -> its most lines."""


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of the package."""
    for folder, name in {"squeezeedge": "squeezeedge", **FOLDERS}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("")
            if folder == "squeezeedge" and inside.parts[0] in FOLDERS:
                continue  # the links
            parts = inside.parts[:-1] if inside.name == "__init__" else inside.parts
            yield ".".join((name, *parts)), path


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """(dotted name, line) of everything of this package that a file imports, also inside functions."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def level(name: str, order: tuple[tuple[str, ...], ...] = ORDER, depth: int = 1) -> int:
    """Place of a module in an order; -1 if it has none."""
    part = ([*name.split("."), "__init__"])[depth]
    return next((place for place, names in enumerate(order) if part in names), -1)


MODULES = dict(modules())
TARGETS = sorted(path.parent.name for path in (ROOT / "targets").glob("*/lower*") if "." not in path.parent.name)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "squeezeedge"])
def test_imports_follow_the_order_of_the_folders(name: str) -> None:
    own = level(name)
    assert own >= 0, f"{name}: give its folder a place in ORDER"
    back = [
        f"{MODULES[name]}:{line}: imports {other}"
        for other, line in imports(MODULES[name])
        if other.startswith("squeezeedge.") and level(other) > own
    ]
    assert not back


def test_the_accelerator_s_parts_follow_their_order() -> None:
    prefix = "squeezeedge.targets.vta."
    back = [
        f"{path}:{line}: imports {other}"
        for name, path in MODULES.items()
        if name.startswith(prefix)
        for other, line in imports(path)
        if other.startswith(prefix) and level(other, ACCELERATOR, 3) > level(name, ACCELERATOR, 3) >= 0
    ]
    assert not back


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_outside_of_a_target_s_folder_names_it(target: str) -> None:
    own = f"squeezeedge.targets.{target}"
    foreign = [
        f"{path}:{line}"
        for name, path in MODULES.items()
        if not name.startswith(own)
        for other, line in imports(path)
        if other.startswith(own)
    ]
    assert not foreign


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_the_same_files(target: str) -> None:
    names = {path.stem for path in (ROOT / "targets" / target).iterdir()}
    assert names >= {"__init__", "options", "lower", "device", "listing"}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_at_the_top_has_one_name(name: str) -> None:
    """From the checkout's root, ``import targets`` would be the same files as another module."""
    code = f"import {FOLDERS[name]}\ntry:\n    import {name}\nexcept ImportError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"this package is {FOLDERS[name]}: import it by that name"


@pytest.mark.slow
def test_few_questions_about_the_type_of_a_node() -> None:
    """An operator's meaning for a consumer stands in that consumer's table (squeezeedge/graph/dispatch.py)."""
    found = [
        f"{path}:{node.lineno}"
        for path in MODULES.values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance"
        if any(isinstance(part, ast.Name) and part.id in KINDS for part in ast.walk(node.args[1]))
    ]
    assert len(found) < MOST_TYPE_TESTS, found


def test_every_module_has_a_test_of_its_name() -> None:
    missing = []
    for name, path in MODULES.items():
        parts = name.split(".")[1:]
        if path.name != "__init__.py" and name not in WITHOUT_A_TEST:
            test = ROOT.joinpath("tests", *parts[:-1], f"test_{parts[-1]}.py")
            if not test.is_file():
                missing.append(str(test.relative_to(ROOT)))
    assert not missing
    assert not [name for name in WITHOUT_A_TEST if name not in MODULES]


def test_no_module_is_long() -> None:
    assert [
        f"{path}: {lines} lines"
        for name, path in MODULES.items()
        if (lines := len(path.read_text().splitlines())) > UNDIVIDED.get(name, MOST_LINES)
    ] == []
