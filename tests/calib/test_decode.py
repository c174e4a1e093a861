"""Decoding: order, worker processes, and images that are damaged or hostile."""

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageFile

from squeezeedge.calib import decode as decode_module
from squeezeedge.calib.decode import EncodedImage, decode, decode_batches
from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError
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


@pytest.mark.parametrize("workers", [False, True])
def test_what_cannot_be_read_is_left_out_where_somebody_takes_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: bool
) -> None:
    """Before the batch comes that lacks it; a batch of nothing else does not come."""
    images = _write(tmp_path, 10)
    for bad in (2, 3, 4, 9):
        (tmp_path / f"{bad}.png").write_bytes(png(bad)[:50])
    monkeypatch.setattr(decode_module, "WORKERS_FROM", 1 if workers else 100)
    seen: list[tuple[int, str] | int] = []

    def note(place: int, error: SqueezeEdgeError) -> None:
        assert isinstance(error, CorruptFileError)
        seen.append((place, Path(str(error).split(": ")[0]).name))

    for batch in decode_batches(images, TINY, 2, np.arange(10)[::-1], note):
        seen += [int(value) for value in batch[:, 0, 0, 0]]
    assert seen == [(0, "9.png"), 8, 7, 6, (5, "4.png"), 5, (6, "3.png"), (7, "2.png"), 1, 0]
    assert not _workers()


def test_what_takes_note_may_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "WORKERS_FROM", 1)
    images = _write(tmp_path, 6)
    (tmp_path / "3.png").write_bytes(b"")

    def note(place: int, error: SqueezeEdgeError) -> None:
        raise error

    with pytest.raises(CorruptFileError, match=r"3\.png"):
        list(decode_batches(images, TINY, 1, np.arange(6), note))
    assert not _workers()


def test_an_orientation_in_exif_is_ignored(tmp_path: Path) -> None:
    """As by torchvision's data sets, with which networks are trained."""
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:, 2:] = 255
    exif = Image.Exif()
    exif[274] = 3  # turned by 180 degrees
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    assert decode(EncodedImage(str(tmp_path / "turned.png")), TINY)[0, :, 0].tolist() == [0, 0, 255, 255]


HEIC = bytes([0, 0, 0, 24]) + b"ftypheic" + bytes(12)


def test_heic_names_the_package_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file's name says."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.jpg").write_bytes(HEIC)
    decode_module._formats.cache_clear()
    try:
        with pytest.raises(UnsupportedError, match=r"a\.jpg: HEIC .* package pillow-heif .*pip install pillow-heif\)"):
            decode(EncodedImage(str(tmp_path / "a.jpg")), TINY)
    finally:
        decode_module._formats.cache_clear()


def test_heic_is_read_with_that_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAKE: pillow-heif, which takes every such file for a green picture."""

    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._mode, self._size = "RGB", (5, 6)
            self.tile = []

        def load(self) -> None:
            self.im = Image.new("RGB", self.size, (0, 99, 0)).im

    fake = ModuleType("pillow_heif")
    register = partial(Image.register_open, "HEIF", Heif, lambda prefix: prefix[4:12] == b"ftypheic")
    monkeypatch.setattr(fake, "register_heif_opener", register, raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", fake)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    (tmp_path / "a.heic").write_bytes(HEIC)
    decode_module._formats.cache_clear()
    try:
        assert (decode(EncodedImage(str(tmp_path / "a.heic")), TINY) == [0, 99, 0]).all()
    finally:
        decode_module._formats.cache_clear()


def test_avif_without_pillows_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "_formats", lambda: ("PNG",))
    (tmp_path / "a.avif").write_bytes(HEIC.replace(b"heic", b"avif"))
    with pytest.raises(UnsupportedError, match=r"a\.avif: Pillow .* reads no AVIF here: install 11\.3 or later"):
        decode(EncodedImage(str(tmp_path / "a.avif")), TINY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM"])
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
