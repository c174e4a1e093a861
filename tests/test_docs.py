"""The documentation: its commands are taken and run, its messages, pictures and links are there, and it builds.

Blocks of the kind ``console`` are run, in one folder and in the order of the pages; of ``sh``, ``bash`` and ``yaml``
the command line must take the commands. The README's other blocks: test_readme.py.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.core
import typer.main
from PIL import Image
from typer.testing import CliRunner

from squeezeedge.cli import app, wording
from squeezeedge.training.recipe import embedded_recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PROGRAMS = ("README.md", "guide/first-network.md", "guide/own-data.md", "guide/ci-gates.md")
TARGETS = tuple(f"targets/{name}.md" for name in ("cpu", "vta", "ascend"))
PYTHON = ("integer-arithmetic.md", "guide/own-data.md", "develop/walk.md")
"""Pages whose lines of Python are run, each page as one program."""


def blocks(page: Path, *kinds: str) -> Iterator[str]:
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        if kind in kinds:
            yield text


def commands(page: Path) -> Iterator[str]:
    """What follows the program's name in each of a page's command lines."""
    for text in blocks(page, "sh", "bash", "console", "yaml"):
        joined = re.sub(r"\\\n|\n +(?=--)", " ", text)
        for line in joined.splitlines():
            for part in re.split(r" && | \| | > |; ", line):
                found = re.match(r"(?:\$ |- run: |torchrun .*-m )?(?:\S*/)?squeezeedge (.+)", part.strip())
                if found:
                    yield found[1]


@cache
def group() -> typer.core.TyperGroup:
    program = typer.main.get_command(app)
    assert isinstance(program, typer.core.TyperGroup)
    return program


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_takes_it(command: str) -> None:
    name, *arguments = shlex.split(command, comments=True)
    if name.startswith("-"):
        assert name == "--version"
    else:
        context = group().commands[name].make_context(name, arguments)
        recipe = context.params.get("recipe")
        assert recipe is None or recipe in embedded_recipes()


@pytest.mark.slow
def test_console_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; what an earlier page has run already is not repeated."""
    monkeypatch.chdir(tmp_path)
    done: set[str] = set()
    for page in (ROOT / PROGRAMS[0], *(DOCS / name for name in (*PROGRAMS[1:], *TARGETS))):
        lines = [line for text in blocks(page, "console") for line in text.splitlines()]
        assert lines, f"{page} shows no command"
        for line in dict.fromkeys(lines):
            if line not in done:
                done.add(line)
                _run(line, tmp_path)


def _run(line: str, folder: Path) -> None:
    prompt, program, *arguments = shlex.split(line)
    assert prompt == "$", line
    if program == "python3":
        started = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert started.returncode == 0, f"{line}\n{started.stderr}"
    else:
        assert program == "squeezeedge", line
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON)
def test_lines_of_python_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for text in blocks(DOCS / page, "python"):
        exec(compile(text, page, "exec"), names)
    assert names


def templates() -> Iterator[str]:
    """Every string of the sources, with an ellipsis for what is put into it."""
    for folder in ("squeezeedge", "calib", "targets"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)  # type: ignore[misc]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


@pytest.mark.slow
def test_every_message_is_in_the_source() -> None:
    messages = [" ".join(text.split()) for text in blocks(DOCS / "troubleshooting.md", "text")]
    assert len(messages) > 30
    token = wording._OPTIONS.set(wording._options(group()))
    known = [wording.in_options(text) for text in templates()]
    wording._OPTIONS.reset(token)
    assert not [message for message in messages if not any(_made_of(message, text) for text in known)]


def _made_of(message: str, template: str) -> bool:
    """Whether the parts of a message between its ellipses come one after the other in a template."""
    place = 0
    for part in message.split("…"):
        place = template.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def test_pictures_are_what_their_program_draws() -> None:
    drawn = runpy.run_path(str(DOCS / "images" / "make.py"))["PICTURES"]
    assert {path.name for path in (DOCS / "images").glob("*.svg")} == set(drawn)
    for name, draw in drawn.items():
        assert (DOCS / "images" / name).read_text(encoding="utf-8") == draw(), f"{name}: run docs/images/make.py"


def test_pictures_of_results_are_of_the_recorded_ones() -> None:
    plots = runpy.run_path(str(DOCS / "images" / "make.py"))["PLOTS"]
    assert {path.name for path in (DOCS / "images").glob("*.png")} == set(plots)
    for name, (*_, results) in plots.items():
        digest = hashlib.sha256((ROOT / "benchmarks" / "results" / results).read_bytes()).hexdigest()
        with Image.open(DOCS / "images" / name) as picture:
            assert picture.info["results"] == digest, f"{name}: run docs/images/make.py"


def test_links_of_pages_outside_of_the_site_lead_somewhere() -> None:
    """Those of the site's pages are checked by its build."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        links = re.findall(r"\]\(((?!https:)[^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        assert links and not [link for link in links if not (page.parent / link).is_file()]


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material: pip install 'squeezeedge[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "targets" / "vta" / "index.html").is_file()
    assert "](../" not in (tmp_path / "site" / "figures" / "index.html").read_text(encoding="utf-8")
