"""Which images a command line names."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from squeezeedge.calib.decode import EncodedImage
from squeezeedge.cli.images import named_images
from squeezeedge.errors import CorruptFileError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "in/c.png", "in/deep/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    (tmp_path / "in" / "notes.txt").touch()
    return tmp_path


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes, *, terminal: bool = False) -> None:
    stream = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)), isatty=lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stream)


@pytest.mark.usefixtures("folder")
def test_files_patterns_and_folders_in_their_order() -> None:
    found = list(map(str, named_images(["b.png", "*.png", "in"])))
    assert found == ["b.png", "a.png", "b.png", "in/c.png", "in/deep/d.png"]
    assert list(map(str, named_images(["**/d.png"]))) == ["in/deep/d.png"]


def test_arrays_and_data_sets(folder: Path) -> None:
    np.savez(folder / "three.npz", images=np.zeros((3, 4, 4, 3), np.uint8))
    assert len(list(named_images(["three.npz"]))) == 3
    assert len(list(named_images(["digits"]))) == 400


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("no.png", "no such image file"),
        ("*.jpg", r"\*\.jpg: no file has such a name"),
        ("empty", "empty: holds no image"),
        ("-", "the standard input is a terminal; pipe"),
    ],
)
def test_what_names_nothing_is_refused_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
) -> None:
    (folder / "empty").mkdir()
    piped(monkeypatch, b"", terminal=True)
    with pytest.raises(UsageError, match=message):
        named_images(["a.png", argument])


def test_paths_come_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "a.png\n\nnot there.png\r\nb ä.png".encode())
    assert list(map(str, named_images(["-"]))) == ["a.png", "not there.png", "b ä.png"]
    piped(monkeypatch, b"")
    assert list(named_images(["-"])) == []
    with pytest.raises(UsageError, match="-: is given twice"):
        named_images(["-", "-"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF"])
def test_an_image_through_a_pipe(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), 10, np.uint8)).save(data, kind)
    piped(monkeypatch, data.getvalue())
    (image,) = named_images(["-"])
    assert isinstance(image, EncodedImage) and image.read() == data.getvalue() and str(image) == "-"


@pytest.mark.parametrize(("kind", "size"), [("BMP", (51, 3)), ("BMP", (3, 83)), ("TIFF", (10, 7))])
def test_an_image_whose_first_line_looks_like_text_is_no_list_of_paths(
    monkeypatch: pytest.MonkeyPatch, kind: str, size: tuple[int, int]
) -> None:
    data = io.BytesIO()
    Image.new("RGB", size).save(data, kind)
    piped(monkeypatch, data.getvalue())
    (image,) = named_images(["-"])
    assert isinstance(image, EncodedImage) and image.data == data.getvalue()


def test_paths_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"\xff\xfe.png\na.png\n\xff b.png\n")
    assert [os.fsencode(str(image)) for image in named_images(["-"])] == [b"\xff\xfe.png", b"a.png", b"\xff b.png"]
    piped(monkeypatch, b"a.png\n" * 10 + b"b\0.png\n")
    with pytest.raises(CorruptFileError, match="-: a line has a NUL"):
        list(named_images(["-"]))
