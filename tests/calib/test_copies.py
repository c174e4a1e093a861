"""What counts as a copy, and that little is read for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezeedge.calib.copies import GLIMPSE, originals
from squeezeedge.calib.decode import AnyImage, EncodedImage
from squeezeedge.calib.files import list_tar
from squeezeedge.errors import CorruptFileError
from tests.calib.images import write_tar


def _files(folder: Path, contents: list[bytes]) -> list[EncodedImage]:
    for index, content in enumerate(contents):
        (folder / f"{index}.png").write_bytes(content)
    return [EncodedImage(str(folder / f"{index}.png")) for index in range(len(contents))]


def test_files(tmp_path: Path) -> None:
    """Of other sizes, other in the middle, other only at an end; links, archives."""
    long = bytes(3 * GLIMPSE)
    contents = [b"a", b"b", b"a", b"aa", long, long[:-1] + b"x", b"x" + long[1:], long, long]
    contents[8] = long[: GLIMPSE + 9] + b"x" + long[GLIMPSE + 10 :]
    images = _files(tmp_path, contents)
    assert originals(images).tolist() == [0, 1, 0, 3, 4, 5, 6, 4, 8]
    (tmp_path / "link.png").symlink_to(images[4].path)
    members = list_tar(
        write_tar(tmp_path / "data.tar", {"1.png": b"aaa", "2.png": long, "3.png": b"c"})
    ).images.values()
    more = [*images, EncodedImage(str(tmp_path / "link.png")), *members]
    assert originals(more).tolist()[9:] == [4, 10, 4, 12]
    assert originals([]).tolist() == []


def test_files_that_differ_in_the_middle_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _files(tmp_path, [b"a", b"bb", b"cc", bytes(3 * GLIMPSE), b"x" * 3 * GLIMPSE])
    monkeypatch.delattr(EncodedImage, "read")
    assert originals(images).tolist() == [0, 1, 2, 3, 4]


def test_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((5, 4, 6, 3), np.uint8)
    pixels[1, 2], pixels[2, 0] = 1, 1
    picture = Image.fromarray(pixels[0])
    images: list[AnyImage] = [*pixels, pixels[0].reshape(6, 4, 3), picture, picture.copy(), picture]
    assert originals(images).tolist() == [0, 1, 2, 0, 0, 5, 6, 7, 6]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    images = _files(tmp_path, [b"a", b"b"])
    Path(images[1].path).unlink()
    with pytest.raises(CorruptFileError, match=r"1\.png: cannot be read: No such file"):
        originals(images)
