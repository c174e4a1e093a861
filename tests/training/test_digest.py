"""Images that differ in anything have another digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.decode import EncodedImage
from squeezeedge.errors import CorruptFileError
from squeezeedge.training import digest as module
from squeezeedge.training.digest import digest
from tests.calib.images import png, write_folder

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
LABELS = np.arange(5) % 2


def test_pixels_and_labels() -> None:
    changed, moved = PIXELS.copy(), LABELS.copy()
    changed[3, 2, 1, 0] ^= 1
    moved[4] ^= 1
    found = [
        digest(PIXELS, LABELS),
        digest(changed, LABELS),
        digest(PIXELS, moved),
        digest(PIXELS[::-1], LABELS),
        digest(PIXELS.reshape(5, 6, 4, 3), LABELS),
        digest(PIXELS[:4], LABELS[:4]),
    ]
    assert len(set(found)) == len(found)
    assert digest([Image.fromarray(pixels) for pixels in PIXELS], LABELS) == digest(list(PIXELS), LABELS) == found[0]


def test_files(tmp_path: Path) -> None:
    """Wherever they are; by their names and what is in them."""
    files = {f"{name}/{i}.png": png(40 * i + 5) for name in "ab" for i in range(3)}
    found = []
    for folder in ("one", "two"):
        data = open_dataset(str(write_folder(tmp_path / folder, files)))
        assert data.labels is not None
        found.append(digest(data.images, data.labels))
    assert found[0] == found[1]
    assert data.labels is not None
    (tmp_path / "two" / "b" / "1.png").write_bytes(png(46))
    other = digest(data.images, data.labels)
    (tmp_path / "one" / "a" / "2.png").rename(tmp_path / "one" / "a" / "9.png")
    data = open_dataset(str(tmp_path / "one"))
    assert data.labels is not None
    assert len({found[0], other, digest(data.images, data.labels)}) == 3
    with pytest.raises(CorruptFileError, match="cannot be read"):
        digest([EncodedImage(str(tmp_path / "gone.png"))], LABELS[:1])


def test_of_many_images_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 2 * PIXELS[0].nbytes)
    changes = []
    for index in range(5):
        changed = PIXELS.copy()
        changed[index] ^= 1
        changes.append(digest(changed, LABELS) != digest(PIXELS, LABELS))
    assert sum(changes) == 2
