"""The emulated pynq has the names and signatures of the real package.

pynq_api.json was made from the sdist of pynq 3.1.2 on PyPI, whose package cannot be imported away from a board:

    pip download --no-binary :all: --no-deps pynq==3.1.2
    PYNQ_SDIST=pynq-3.1.2.tar.gz pytest tests/targets/vta/test_pynq_api.py --update-golden

With PYNQ_SDIST set, the tests compare the file with the sdist.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from squeezeedge.targets.vta import device
from tests.targets.vta.fake_pynq import pynq

TABLE = Path(__file__).parent / "pynq_api.json"
FILES = {"overlay.py": ["Overlay"], "bitstream.py": [], "mmio.py": ["MMIO"], "buffer.py": ["PynqBuffer", "allocate"]}
USED = [
    "Overlay.__init__",
    "Overlay.download",
    "MMIO.__init__",
    "MMIO.read",
    "MMIO.write_mm",
    "PynqBuffer.__new__",
    "PynqBuffer.flush",
    "PynqBuffer.invalidate",
    "PynqBuffer.physical_address",
    "PynqBuffer.virtual_address",
    "allocate",
]


def parameters(arguments: ast.arguments) -> list[str]:
    """Names as in a signature, with the defaults: ``["self", "length=4", "**kwargs"]``."""
    positional = arguments.posonlyargs + arguments.args
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    named = [*zip(positional, [*defaults, *arguments.defaults], strict=True)]
    texts = [argument.arg + ("" if value is None else f"={ast.unparse(value)}") for argument, value in named]
    if arguments.vararg:
        texts.append(f"*{arguments.vararg.arg}")
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        texts.append(argument.arg + ("" if value is None else f"={ast.unparse(value)}"))
    if arguments.kwarg:
        texts.append(f"**{arguments.kwarg.arg}")
    return texts


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, parameters(node.args)
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")


def used(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: found[name] for name in USED}


def test_the_emulation_has_the_signatures() -> None:
    table = json.loads(TABLE.read_text())
    emulated = used(dict(functions(ast.parse(inspect.getsource(pynq)))))
    assert emulated == table["signatures"]
    assert set(pynq.__all__) <= set(table["exports"])


def test_the_device_program_uses_no_other_names() -> None:
    names = set(re.findall(r"\bpynq\.(\w+)", Path(device.__file__).read_text()))
    assert names == {*pynq.__all__, "__version__"}


@pytest.mark.tool
def test_the_table_is_that_of_the_sdist(request: pytest.FixtureRequest) -> None:
    sdist = os.environ.get("PYNQ_SDIST")
    if not sdist:
        pytest.skip("needs PYNQ_SDIST, the path of pynq's sdist")
    found: dict[str, list[str]] = {}
    exports: set[str] = set()
    with tarfile.open(sdist) as archive:
        for member in archive:
            folder, _, name = member.name.partition("/pynq/")
            if not folder.startswith("pynq-") or "/" in folder or name not in [*FILES, "__init__.py"]:
                continue
            file = archive.extractfile(member)
            assert file is not None
            tree = ast.parse(file.read())
            found |= dict(functions(tree))
            if name == "__init__.py":
                imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
                exports = {alias.name for node in imports for alias in node.names}
    table = {"pynq": "3.1.2", "exports": sorted(exports), "signatures": used(found)}
    if request.config.getoption("--update-golden"):
        TABLE.write_text(json.dumps(table, indent=1) + "\n")
    assert json.loads(TABLE.read_text()) == table
