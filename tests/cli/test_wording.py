"""Messages of the library name arguments; the command line names its options."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from squeezeedge.cli.output import note
from squeezeedge.cli.wording import command_line, in_options
from squeezeedge.errors import UsageError
from tests.cli.conftest import Invoke

ROOT = Path(__file__).parents[2]
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*|-o\b)")
PROGRAMS = ("device.py", "device/run.py")
"""These run on the device and have options of their own."""


def library_modules() -> list[Path]:
    found = [path for folder in ("squeezeedge", "calib", "targets") for path in (ROOT / folder).rglob("*.py")]
    return [
        path for path in found if "cli" not in path.relative_to(ROOT).parts and not path.as_posix().endswith(PROGRAMS)
    ]


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings that are neither docstrings, nor an argument of another program by itself, nor an option's help."""
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            help_texts = [v for k, v in zip(node.keys, node.values, strict=True) if ast.unparse(k or v) == "'help'"]
            left_out |= {id(part) for text in help_texts for part in ast.walk(text)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            if not node.value.startswith("-") or " " in node.value:
                yield node


def test_the_library_speaks_of_arguments() -> None:
    modules = library_modules()
    assert len(modules) > 100
    found = [
        f"{path.relative_to(ROOT)}:{text.lineno}: {text.value!r}"
        for path in modules
        for text in texts(ast.parse(path.read_text()))
        if OPTION.search(str(text.value)) and "--update-golden" not in str(text.value)
    ]
    assert not found, "\n".join(found)


def test_the_command_line_speaks_of_options(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("compile", "-o", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == f"{tmp_path}: exists already; choose another output (-o) or replace it (--force)"
    result = invoke("compile", "squeezenet1_0", "--weights", "a", "--pretrained", "-o", tmp_path / "out")
    assert str(result.exception) == "--weights and --pretrained exclude each other"


def test_only_what_is_an_option_is_named_as_one(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def load(*_: object, **__: object) -> None:
        text = "`calib_images` and `instructions` of `reference`, as `squeezeedge eval` has them"
        note(text)
        seen.append(in_options(text))
        raise UsageError(text)

    monkeypatch.setattr("squeezeedge.loading.load", load)
    result = invoke("quantize")
    expected = "--calib-images and --instructions of `reference`, as `squeezeedge eval` has them"
    assert str(result.exception) == expected and seen == [expected]
    assert result.stderr == f"loading squeezenet1_1_digits\n{expected}\n"
    assert in_options("`out`") == "`out`", "no command runs"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("inspect", ""), "an argument"),
        (("profile", ""), "an argument"),
        (("eval", "net", "--data", ""), "--data"),
        (("compile", "--calib="), "--calib"),
        (("quantize", "-o", ""), "-o"),
        (("train", "--recipe", "digits", "--out="), "--out"),
    ],
)
def test_an_empty_argument_is_refused(invoke: Invoke, arguments: tuple[str, ...], what: str) -> None:
    result = invoke(*arguments)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == f"{what} is empty; give a value or leave it out"


def test_the_command_line_is_known_while_a_command_runs(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr("squeezeedge.cli.output.emit_json", lambda value: seen.append(command_line()))
    assert invoke("recipes", "--json").exit_code == 0
    assert seen and seen[0][1:] == ("recipes", "--json") and command_line() == ()
