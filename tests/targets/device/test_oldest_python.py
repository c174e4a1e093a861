"""What runs on devices: Python 3.8 and numpy 1.17 suffice, and it needs nothing else (PYNQ 2.7: 3.8 and 1.20)."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from squeezeedge.targets import registry
from squeezeedge.targets.device import run as program
from tests.targets.device.artifact import FakeArtifact

RUN = Path(program.__file__)
TARGETS = RUN.parents[1]
FILES = [RUN, *sorted(TARGETS.glob("*/device.py"))]

NEWER_NUMPY = frozenset(
    "acos acosh asin asinh astype atan atan2 atanh bitwise_count bitwise_invert bitwise_left_shift bitwise_right_shift "
    "broadcast_shapes concat cumulative_prod cumulative_sum dtypes exceptions from_dlpack isdtype matrix_transpose "
    "matvec permute_dims pow strings trapezoid typing ulong unique_all unique_counts unique_inverse unique_values "
    "unstack vecdot vecmat mT to_device sliding_window_view".split()
)
"""Names of numpy that 1.17 lacks."""

GONE_NUMPY = frozenset("bool int float object str long alltrue sometrue product cumproduct in1d row_stack".split())
"""Names of numpy that 1.17 has and 2 lacks or warns of."""

NEWER_METHODS = frozenset(
    "removeprefix removesuffix is_relative_to readlink with_stem hardlink_to bit_count walk is_junction".split()
)
NEWER_FUNCTIONS = {
    "functools": {"cache"},
    "itertools": {"pairwise", "batched"},
    "math": {"lcm", "nextafter", "ulp", "cbrt", "exp2"},
    "random": {"randbytes"},
}
NEWER_KEYWORDS = {"strict", "slots", "kw_only", "usedforsecurity", "root_dir", "delete_on_close"}
GENERIC = set("list dict tuple set frozenset type Callable Iterable Iterator Mapping Sequence".split())


def evaluated(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but annotations and what only type checkers see, which are not evaluated."""
    for name, value in ast.iter_fields(tree):
        if name not in ("annotation", "returns") and not (isinstance(tree, ast.If) and _for_checkers(tree)):
            for node in value if isinstance(value, list) else [value]:
                if isinstance(node, ast.AST):
                    yield node
                    yield from evaluated(node)


def _for_checkers(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def faults(source: str) -> list[str]:
    """What Python 3.8 or numpy 1.17 would not run."""
    try:
        tree = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as error:
        return [f"{error.lineno}: {error.msg}"]
    found = [] if "from __future__ import annotations" in source else _annotations(tree)
    for node in evaluated(tree):
        wrong = ""
        match node:
            case ast.Match() | ast.TryStar():
                wrong = "new syntax"
            case ast.BinOp(op=ast.BitOr()) if any(_is_type(side) for side in (node.left, node.right)):
                wrong = "a union of types"
            case ast.BinOp(op=ast.BitOr()) if any(isinstance(side, ast.Dict) for side in (node.left, node.right)):
                wrong = "a union of dictionaries"
            case ast.Subscript(value=ast.Name(id=name)) if name in GENERIC:
                wrong = f"{name}[...]"
            case ast.Attribute(value=ast.Name(id="np"), attr=name) if name in NEWER_NUMPY | GONE_NUMPY:
                wrong = f"np.{name}"
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in NEWER_FUNCTIONS.get(module, ()):
                wrong = f"{module}.{name}"
            case ast.Attribute(attr=name) if name in NEWER_METHODS | {"mT", "sliding_window_view"}:
                wrong = f".{name}"
            case ast.Call() if {keyword.arg for keyword in node.keywords} & NEWER_KEYWORDS:
                wrong = "a new keyword"
            case ast.keyword(arg="dtype", value=ast.Name(id="object")):
                wrong = "dtype=object, of which numpy 1.20 cannot make products"
        if wrong:
            found.append(f"{getattr(node, 'lineno', 0)}: {wrong}")
    return found


def _annotations(tree: ast.AST) -> list[str]:
    """Where there are any, though they are evaluated."""
    kinds = ast.FunctionDef | ast.AnnAssign
    return [f"{node.lineno}: an annotation is evaluated" for node in ast.walk(tree) if isinstance(node, kinds)]


def _is_type(node: ast.expr) -> bool:
    """Whether an operand looks like one: None, a built-in type, or a name with a capital."""
    if isinstance(node, ast.Constant):
        return node.value is None
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in {"int", "str", "float", "bool", "bytes"} | GENERIC or (name[:1].isupper() and not name.isupper())


def test_every_target_is_looked_at() -> None:
    assert {path.parent.name for path in FILES} == {"device", *registry.all_targets()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_oldest_versions(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_nothing_but_numpy(path: Path) -> None:
    """Pillow only where image files are read; libraries of the devices only where they are looked for."""
    nodes = list(evaluated(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    needed = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert needed <= {"numpy", "PIL" if path == RUN else "pynq"}


def test_the_program_stays_small() -> None:
    assert len(RUN.read_text().splitlines()) < 400


@pytest.mark.parametrize(
    "source",
    [
        "match x:\n    case 1:\n        pass",
        "with (open(a) as b, open(c) as d):\n    pass",
        "try:\n    pass\nexcept* ValueError:\n    pass",
        "isinstance(x, int | str)",
        "Kind = Path | None",
        "Kind = dict[str, int]",
        "x = {**a} | b",
        "name.removeprefix('a')",
        "path.is_relative_to(other)",
        "zip(a, b, strict=True)",
        "functools.cache(f)",
        "np.concat([a])",
        "np.bool",
        "np.prod(shape, dtype=object)",
        "np.lib.stride_tricks.sliding_window_view(a, 3)",
        "hashlib.sha1(usedforsecurity=False)",
        "def f(a: int | None) -> int:\n    return 1",
    ],
)
def test_what_is_found(source: str) -> None:
    assert len(faults(source)) == 1


@pytest.mark.tool
def test_it_runs_with_the_oldest_python(tmp_path: Path) -> None:
    """On a python3.8 with numpy, as $SQUEEZEEDGE_PYTHON38 or on the path."""
    python = os.environ.get("SQUEEZEEDGE_PYTHON38") or shutil.which("python3.8") or ""
    if not python or subprocess.run([python, "-c", "import numpy"], capture_output=True, check=False).returncode:
        pytest.skip("needs a python3.8 with numpy")
    made = FakeArtifact(tmp_path / "artifact")
    np.save(tmp_path / "x.npy", made.images)
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY")
    command = [python, *map(str, (made.folder / "run.py", tmp_path / "y.npy", tmp_path / "x.npy")), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "y.npy: " in done.stderr
    assert done.stdout.count('"scores"') == len(made.images) and '"differing_sums": 0' in done.stdout
    for path in FILES:
        code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); compile(open({str(path)!r}).read(), 'x', 'exec')"
        subprocess.run([python, "-c", code], check=True)
