"""Decoding: order, worker processes, and images that are damaged or hostile."""

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezeedge.calib import decode as decode_module
from squeezeedge.calib.decode import EncodedImage, decode, decode_batches
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, UnsupportedError
from tests.calib.images import png

TINY = Preprocessing(size=(4, 4), resize=None)


def _write(folder: Path, count: int) -> list[EncodedImage]:
    paths = [folder / f"{value}.png" for value in range(count)]
    for value, path in enumerate(paths):
        path.write_bytes(png(value))
    return [EncodedImage(str(path)) for path in paths]


def _values(batches: list[np.ndarray]) -> list[int]:
    return [int(image[0, 0, 0]) for batch in batches for image in batch]


def test_batches_come_in_the_order_of_the_indices(tmp_path: Path) -> None:
    images = _write(tmp_path, 7)
    order = np.array([5, 1, 1, 6, 0])
    batches = list(decode_batches(images, TINY, 2, order))
    assert [batch.shape for batch in batches] == [(2, 4, 4, 3), (2, 4, 4, 3), (1, 4, 4, 3)]
    assert _values(batches) == order.tolist()


def test_pixels_are_preprocessed_like_files() -> None:
    pixels = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    (batch,) = decode_batches(pixels, TINY, 2, np.array([1, 0]))
    np.testing.assert_array_equal(batch[0], TINY(Image.fromarray(pixels[1])))


def test_no_images_no_batches() -> None:
    assert not list(decode_batches([], TINY, 2, np.array([], np.int64)))


def test_small_sets_start_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decode_module, "ThreadPoolExecutor")
    assert len(list(decode_batches(_write(tmp_path, 3), TINY, 2, np.arange(3)))) == 2


def _workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_workers_give_the_same_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _write(tmp_path, 40)
    monkeypatch.setattr(decode_module, "WORKERS_FROM", 1)
    batches = decode_batches(images, TINY, 3, np.arange(40)[::-1])
    first = next(batches)
    assert _workers()
    assert _values([first, *batches]) == list(range(40))[::-1]
    assert not _workers()

    abandoned = decode_batches(images, TINY, 3, np.arange(40))
    next(abandoned)
    abandoned.close()
    assert not _workers()

    (tmp_path / "30.png").write_bytes(png(30)[:50])
    with pytest.raises(CorruptFileError, match=r"30\.png: "):
        list(decode_batches(images, TINY, 3, np.arange(40)))
    assert not _workers()


def test_warnings_are_heard_again_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads are without warnings at a time; the last one restores what there was."""
    monkeypatch.setattr(decode_module, "WORKERS_FROM", 1)
    before = list(warnings.filters)
    for _ in range(3):
        assert len(list(decode_batches(_write(tmp_path, 40), TINY, 1, np.arange(40)))) == 40
    assert list(warnings.filters) == before


def test_a_script_without_a_main_guard_decodes(tmp_path: Path) -> None:
    """A user's first lines: worker processes would run such a script again from its beginning."""
    script = tmp_path / "first.py"
    script.write_text(
        "import sys, numpy as np\n"
        "from squeezeedge.calib import decode\n"
        "from squeezeedge.calib.preprocess import Preprocessing\n"
        "print('once')\n"
        "decode.WORKERS_FROM = 1\n"
        "images = [decode.EncodedImage(path) for path in sys.argv[1:]]\n"
        "print(sum(map(len, decode.decode_batches(images, Preprocessing((4, 4), None), 2, np.arange(len(images))))))\n"
    )
    paths = [image.path for image in _write(tmp_path, 8)]
    done = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["once", "8"], done.stderr


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_a_truncated_image_is_named(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    data = buffer.getvalue()
    path = tmp_path / "cut.jpg"
    path.write_bytes(data)
    assert decode(EncodedImage(str(path)), TINY).shape == (4, 4, 3)
    for length in (0, 1, 10, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptFileError, match=r"cut\.jpg"):
            decode(EncodedImage(str(path)), TINY)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"gone\.png: cannot be read: No such file"):
        decode(EncodedImage(str(tmp_path / "gone.png")), TINY)


def test_a_postscript_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(CorruptFileError, match="not an image"):
        decode(EncodedImage(str(path)), TINY)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [10_000, 15_000])
def test_a_decompression_bomb_is_refused(tmp_path: Path, side: int) -> None:
    """Above Pillow's limit, where it would warn, and above twice that, where it raises."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b""))
    with pytest.raises(UnsupportedError, match=r"bomb\.png: too large"):
        decode(EncodedImage(str(path)), TINY)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsupportedError, match=r"huge\.png: 1099511627776 bytes") as caught:
        decode(EncodedImage(str(path)), TINY)
    assert str(caught.value).count("huge.png") == 1


def test_a_16_bit_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    with pytest.raises(UnsupportedError, match=r"deep\.png: .*8 bits"):
        decode(EncodedImage(str(path)), TINY)


def test_a_transparency_beyond_the_palette_is_named(tmp_path: Path) -> None:
    """Pillow's convert() raises a ValueError then, after the pixels were decoded."""
    path = tmp_path / "a.png"
    Image.new("P", (2, 2)).save(path)
    data, chunk = path.read_bytes(), b"tRNS" + bytes(300)
    chunk = struct.pack(">I", 300) + chunk + struct.pack(">I", zlib.crc32(chunk))
    before = data.index(b"IDAT") - 4
    path.write_bytes(data[:before] + chunk + data[before:])
    with pytest.raises(CorruptFileError, match=f"^{path}: damaged image"):
        decode(EncodedImage(str(path)), Preprocessing(size=(2, 2), resize=None))


def test_an_archive_that_shrank_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 100)
    with pytest.raises(CorruptFileError, match=r"a\.tar: 'cat/1\.png': the file ends inside"):
        decode(EncodedImage(str(path), "cat/1.png", 90, 20), TINY)
