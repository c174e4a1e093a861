"""Encoded images -> uint8 batches. Many images are decoded in threads, as Pillow decodes and scales without the GIL.

Images are untrusted. Only common formats are opened: Pillow's EPS reader, for one, starts Ghostscript. An image above
Pillow's pixel limit is refused before its pixels are allocated. A damaged image is an error that names it. Pillow
reads AVIF from version 11.3 on, and HEIC only if the package pillow-heif is installed. The orientation in an image's
EXIF data is ignored, as torchvision's data sets do.
"""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from squeezeedge.calib.preprocess import MAX_PIXELS, Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError

__all__ = ["AnyImage", "EncodedImage", "OnUnreadable", "decode", "decode_batches"]

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
AVIF_BRANDS, HEIF_BRANDS = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands in the first box of such files (ISO/IEC 23008-12; AV1 Image File Format)."""
MAX_FILE_BYTES = 6 * MAX_PIXELS
WORKERS_FROM = 256
"""Fewer images than this are decoded in the caller's thread, one batch after the other."""
MAX_WORKERS = 8


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Where the bytes of one image file are.

    Attributes:
        path: the image file, or the archive that holds it.
        member: its name in the archive; empty for a plain file.
        offset: of its first byte in ``path``.
        size: in bytes; ``None`` for a plain file: all of it.
        data: the bytes themselves, where they came through a pipe; ``path`` is then a name for people.
    """

    path: str
    member: str = ""
    offset: int = 0
    size: int | None = None
    data: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.member!r}" if self.member else self.path

    def read(self) -> bytes:
        """The encoded bytes.

        Raises:
            CorruptFileError: the file cannot be read or ends early.
            UnsupportedError: it is larger than any image that would be decoded.
        """
        if self.data is not None:
            if len(self.data) > MAX_FILE_BYTES:
                raise UnsupportedError(f"{self}: more bytes than an image file of {MAX_FILE_BYTES}")
            return self.data
        if self.size == 0:
            raise CorruptFileError(f"{self}: holds nothing, is a device or a link to nothing; replace or remove it")
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):  # noqa: PTH116  (a pipe would be waited for)
                raise CorruptFileError(f"{self}: is a folder or a device, not an image file; move it away")
            with open(self.path, "rb") as file:  # noqa: PTH123  (a str pickles to training's workers in a third of the time)
                size = os.fstat(file.fileno()).st_size if self.size is None else self.size
                if size > MAX_FILE_BYTES:
                    raise UnsupportedError(f"{self}: {size} bytes are more than an image file of {MAX_FILE_BYTES}")
                file.seek(self.offset)
                data = file.read(size)
        except OSError as error:
            raise CorruptFileError(f"{self}: cannot be read: {error.strerror or error}") from error
        if len(data) < size:
            raise CorruptFileError(f"{self}: the file ends inside this image; get it again")
        return data


AnyImage: TypeAlias = EncodedImage | NDArray[np.uint8] | Image.Image
"""An encoded image, RGB pixels (uint8 [h, w, 3]) or a PIL image."""

OnUnreadable: TypeAlias = Callable[[int, SqueezeEdgeError], None]
"""Called with (place, reason) of each image that cannot be read; places count in the order asked for, ascending."""


def decode(image: AnyImage, preprocessing: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Decode and preprocess one image.

    Args:
        image: an encoded image, RGB pixels or a PIL image.
        preprocessing: what to make of it, such as a :class:`Preprocessing`.

    Returns:
        uint8 [H, W, 3].

    Raises:
        CorruptFileError: it is damaged, truncated or not an image.
        UnsupportedError: it is too large or has more than 8 bits a channel.
    """
    if isinstance(image, np.ndarray):
        return preprocessing(Image.fromarray(image))
    if isinstance(image, Image.Image):
        try:
            image.load()  # a file is decoded only now
        except Exception as error:  # as in _open
            raise CorruptFileError(f"{image!r}: damaged or truncated image: {error}; replace or remove it") from error
        return preprocessing(image)
    with _QUIET, _open(image) as opened:
        try:
            return preprocessing(opened)
        except (CorruptFileError, UnsupportedError) as error:
            raise type(error)(f"{image}: {error}") from error


class _Quiet:
    """No warnings while some thread is inside: they are about odd metadata, which says nothing about the pixels.

    ``warnings.catch_warnings`` alone would not do: the filters that it saves and restores are those of all threads.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._catcher = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._catcher = warnings.catch_warnings()
                self._catcher.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *failure: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._catcher.__exit__(None, None, None)


_QUIET = _Quiet()


def _open(image: EncodedImage) -> Image.Image:
    """The image with its pixels decoded."""
    data = image.read()
    try:
        opened = Image.open(io.BytesIO(data), formats=_formats())
        if opened.width * opened.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{opened.width}x{opened.height} pixels")
        opened.load()
        return opened
    except Image.DecompressionBombError as error:
        raise UnsupportedError(f"{image}: too large ({error}); at most {MAX_PIXELS} pixels are decoded") from error
    except UnidentifiedImageError:
        lacking = _lacking(data)
        if lacking:
            raise UnsupportedError(f"{image}: {lacking}, or convert the image to JPEG or PNG") from None
        kinds = ", ".join(_formats())
        raise CorruptFileError(f"{image}: not an image, or damaged; these formats are read: {kinds}") from None
    except Exception as error:  # a malformed file makes Pillow's decoders raise all sorts of things
        raise CorruptFileError(f"{image}: damaged or truncated image: {error}; replace or remove it") from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that are read here."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN and (kind != "AVIF" or features.check("avif")))


def _lacking(data: bytes) -> str:
    """What has to be installed to read these bytes, which are no image otherwise; or nothing."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in HEIF_BRANDS and "HEIF" not in _formats():
        return "HEIC images are read with the package pillow-heif only: install it (pip install pillow-heif)"
    if brand in AVIF_BRANDS and "AVIF" not in _formats():
        return f"Pillow {PIL.__version__} reads no AVIF here: install 11.3 or later (pip install -U pillow)"
    return ""


def decode_batches(
    images: Sequence[AnyImage] | NDArray[np.uint8],
    preprocessing: Preprocessing,
    batch_size: int,
    indices: NDArray[np.int64],
    on_unreadable: OnUnreadable | None = None,
) -> Generator[NDArray[np.uint8], None, None]:
    """Decode ``images[indices]`` in batches, in order.

    At most two batches a worker are in memory at a time. Worker threads are started where many encoded images are
    asked for, and end with the iterator.

    Args:
        images: any images, or pixels uint8 [N, h, w, 3].
        preprocessing: applied to each.
        batch_size: images a batch.
        indices: int64 [n], which and in which order.
        on_unreadable: called for each image that cannot be read, before the batch that lacks it; an exception from it
            ends the iterator. ``None``: such an image is an error.

    Yields:
        uint8 [b, H, W, 3]; b is ``batch_size``, less in the last one and where images are left out, never 0.

    Raises:
        SqueezeEdgeError: as :func:`decode`.
    """
    parts = (
        [images[index] for index in indices[start : start + batch_size].tolist()]
        for start in range(0, len(indices), batch_size)
    )
    many = len(indices) >= WORKERS_FROM and not isinstance(images, np.ndarray)
    workers = 0
    if many and all(isinstance(images[index], EncodedImage) for index in indices.tolist()):
        workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MAX_WORKERS)
    strict = on_unreadable is None
    start = 0
    for batch, unreadable, asked in _decoded(parts, preprocessing, strict, workers):
        if on_unreadable is not None:
            for position, error in unreadable:
                on_unreadable(start + position, error)
        start += asked
        if len(batch):
            yield batch


class _Decoded(NamedTuple):
    """Pixels uint8 [b, H, W, 3]; (place in the part, error) of the others; how many there were together."""

    batch: NDArray[np.uint8]
    unreadable: list[tuple[int, SqueezeEdgeError]]
    asked: int


def _decoded(
    parts: Iterator[Sequence[AnyImage]], preprocessing: Preprocessing, strict: bool, workers: int
) -> Generator[_Decoded, None, None]:
    """Each part, in order; with workers in threads, which end with the iterator."""
    if not workers:
        for part in parts:
            yield _decode_part(part, preprocessing, strict)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        pending: deque[Future[_Decoded]] = deque(
            pool.submit(_decode_part, part, preprocessing, strict) for part in islice(parts, 2 * workers)
        )
        while pending:
            decoded = pending.popleft().result()
            pending.extend(pool.submit(_decode_part, part, preprocessing, strict) for part in islice(parts, 1))
            yield decoded
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_part(part: Sequence[AnyImage], preprocessing: Preprocessing, strict: bool) -> _Decoded:
    batch = np.empty((len(part), *preprocessing.size, 3), np.uint8)
    unreadable: list[tuple[int, SqueezeEdgeError]] = []
    for position, image in enumerate(part):
        try:
            batch[position - len(unreadable)] = decode(image, preprocessing)
        except SqueezeEdgeError as error:
            if strict:
                raise
            unreadable.append((position, error))
    return _Decoded(batch[: len(part) - len(unreadable)], unreadable, len(part))
