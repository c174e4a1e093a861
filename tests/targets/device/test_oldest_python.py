"""What runs on devices: Python 3.8 and numpy 1.17 suffice, and it needs nothing else (docs/boards.md)."""

from __future__ import annotations

import ast
import itertools
import os
import re
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
from tests.targets.devices import CHECKOUT
from tests.targets.interpreters import interpreter
from tests.targets.vta.board_artifact import write_board_artifact

OLDEST_PYTHON, OLDEST_NUMPY = (3, 8), (1, 17)

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
NEW = (ast.Subscript, ast.BinOp)
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
        tree = ast.parse(source, feature_version=OLDEST_PYTHON)
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
    """Those that are evaluated and need a newer Python: generics and unions that are no strings."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.arg):  # those of variables in functions are not evaluated
            annotation = node.returns if isinstance(node, ast.FunctionDef) else node.annotation
            if annotation is not None and any(isinstance(part, NEW) for part in ast.walk(annotation)):
                found.append(f"{node.lineno}: an annotation is evaluated")
    return found


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
    """Pillow and its HEIC reader only where image files are read; devices' libraries only where they are looked for."""
    nodes = list(evaluated(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    needed = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert needed <= {"numpy", *(("PIL", "pillow_heif") if path == RUN else ("pynq",))}


def test_the_program_stays_small() -> None:
    assert len(RUN.read_text().splitlines()) < 580


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


def boards() -> list[tuple[str, str, str, str]]:
    """Image, Python, numpy and remark of the table in docs/boards.md."""
    text = (CHECKOUT / "docs" / "boards.md").read_text()
    rows = re.findall(r"^\| (.+?) \| ([0-9.]+) \| ([0-9.]+) \| (.*?) ?\|$", text, re.MULTILINE)
    assert len(rows) >= 7
    return rows


def test_the_table_of_boards() -> None:
    """What the lint allows is what the oldest images bring; those that are too old are said to be."""
    python, numpy = ({row[column] for row in boards() if not row[3]} for column in (1, 2))
    assert min(python, key=version) == "{}.{}".format(*OLDEST_PYTHON)
    assert version(min(numpy, key=version))[:2] == OLDEST_NUMPY
    for image, found, _, remark in boards():
        assert (version(found) < OLDEST_PYTHON) == ("too old" in remark), image


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def pythons() -> list[str]:
    """Those with numpy that $SQUEEZEEDGE_PYTHON38 names, with ':' between them, or the path's."""
    named = os.environ.get("SQUEEZEEDGE_PYTHON38") or shutil.which("python3.8") or ""
    found = [path for path in named.split(":") if path]
    return [path for path in found if not subprocess.run([path, "-c", "import numpy"], capture_output=True).returncode]


@pytest.mark.slow
@pytest.mark.tool
def test_it_runs_with_the_oldest_python(tmp_path: Path) -> None:
    """Images are answered, every device's side can be loaded, and a program for the FPGA is read."""
    if not (found := pythons()):
        pytest.skip("needs a python3.8 with numpy")
    made = FakeArtifact(tmp_path / "artifact")
    np.save(tmp_path / "x.npy", made.images)
    (tmp_path / "y.npy").write_bytes(b"\x93NUMPY")
    vta = tmp_path / "vta"
    vta.mkdir()
    write_board_artifact(vta)
    for python in found:
        command = [python, *map(str, (made.folder / "run.py", tmp_path / "y.npy", tmp_path / "x.npy")), "--check"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "y.npy: " in done.stderr
        assert done.stdout.count('"scores"') == len(made.images) and '"differing_sums": 0' in done.stdout
        subprocess.run([python, "-W", "error", "-c", LOAD, str(vta), *map(str, FILES)], check=True)
        done = subprocess.run([python, str(vta / "run.py")], capture_output=True, text=True, check=False)
        assert done.returncode == 3 and "run.py: error: pynq is missing" in done.stderr


LOAD = """
import runpy, sys
from pathlib import Path
run = runpy.run_path(sys.argv[1] + "/run.py")
device = runpy.run_path(sys.argv[1] + "/device.py")
program = device["Program"].of(run["Artifact"](Path(sys.argv[1])))
import numpy
memory = numpy.zeros(program.dram_bytes, numpy.uint8)
program.load(memory)
program.pack(numpy.zeros(program.shape, numpy.uint8), memory)
program.result(memory)
for path in sys.argv[2:]:
    runpy.run_path(path)
"""


@pytest.mark.slow
@pytest.mark.tool
@pytest.mark.parametrize("old", ["3.6", "3.7"])
def test_older_pythons_get_one_sentence(made: FakeArtifact, old: str) -> None:
    command = [interpreter(old), str(made.folder / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.fullmatch(rf"run\.py: error: this is Python {old}\.\d+; 3\.8 or later is needed\n", done.stderr)


def test_older_pythons_come_to_the_check_of_their_version() -> None:
    """Python 3.6 reads run.py, and evaluates nothing in front of the check that it lacks."""
    tree = ast.parse(RUN.read_text(), feature_version=(3, 6))
    before = itertools.takewhile(lambda node: not isinstance(node, ast.If), tree.body)
    assert all(isinstance(node, ast.Expr | ast.Import | ast.ImportFrom) for node in before)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]


@pytest.fixture
def made(tmp_path: Path) -> FakeArtifact:
    return FakeArtifact(tmp_path / "artifact")
