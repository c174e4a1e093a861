"""Data sets that are arrays already: .npz, CIFAR-10's python batches, scikit-learn's digits.

Declared sizes are checked before anything is allocated, and no file can run code: .npz is read without pickle.
CIFAR-10's batches are pickles; they are read by an unpickler that makes inert stand-ins only.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from squeezeedge.calib.splits import Part
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError

__all__ = ["DIGITS_SPLITS", "Pixels", "is_cifar_batches", "read_cifar_batches", "read_digits", "read_npz"]

MAX_ARRAY_BYTES = 4 << 30
MAX_BATCH_BYTES = 64 << 20
MAX_OPERATIONS = 1 << 17

_CIFAR_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR_BATCHES: Mapping[Part, tuple[str, ...]] = {"train": _CIFAR_TRAIN, "test": ("test_batch",)}
CIFAR_SHAPE = (3, 32, 32)

DIGITS_SPLITS: Mapping[Part, range] = {
    "train": range(600, 1797),
    "val": range(400, 600),
    "test": range(400),
    "calib": range(400, 600),
}
"""Which residues of 400 i mod 1797 (all different, as 400 and 1797 are coprime) belong to a split of image i."""


class Pixels(NamedTuple):
    """Decoded images.

    Attributes:
        images: uint8 [N, h, w, 3], RGB.
        labels: int64 [N], or ``None`` if unlabelled.
        classes: class names in index order; empty if unknown.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] = ()


def read_npz(path: Path) -> Pixels:
    """Read ``images`` (uint8 [N, h, w, 3]) and, if there, ``labels`` (integers [N]) of an .npz file.

    Raises:
        CorruptFileError: it is damaged, or the arrays are missing or of another kind.
        UnsupportedError: the images need more than 4 GiB of memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "images.npy" not in names:
                raise ValueError(f"it has no array 'images', only {sorted(names)[:5]}")
            images = _read_npy(archive, "images.npy")
            labels = _read_npy(archive, "labels.npy") if "labels.npy" in names else None
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
            raise ValueError(f"'images' is {images.dtype} {list(images.shape)}")
        if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]):
            raise ValueError(f"'labels' is {labels.dtype} {list(labels.shape)} for {len(images)} images")
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}") from error
    except Exception as error:  # zipfile and numpy raise whatever a malformed file makes them trip over
        raise CorruptFileError(
            f"{path}: not a usable .npz: {error}; needed are images (uint8 [N, height, width, 3]) and labels "
            "(integers [N])"
        ) from error
    return Pixels(images.astype(np.uint8, copy=False), None if labels is None else labels.astype(np.int64))


def _read_npy(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    """One array, if its header declares what the archive holds."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{name}: version {version} of the .npy format is not read")
        shape, _, dtype = read_header[version](file)
        declared = math.prod(shape) * dtype.itemsize
        held = archive.getinfo(name).file_size - file.tell()
        if dtype.hasobject or declared != held:
            raise ValueError(f"{name}: declares {dtype} {list(shape)}, {declared} bytes, but holds {held}")
        if declared > MAX_ARRAY_BYTES:
            raise UnsupportedError(f"{name} needs {declared} bytes of memory; use image files or smaller parts")
    with archive.open(name) as file:
        array: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        return array


def is_cifar_batches(folder: Path) -> bool:
    """Whether a folder is CIFAR-10's ``cifar-10-batches-py`` (or has some of its files)."""
    return any((folder / name).is_file() for names in CIFAR_BATCHES.values() for name in names)


def read_cifar_batches(folder: Path, split: Part) -> Pixels:
    """Read one split of CIFAR-10's python batches.

    Args:
        folder: ``cifar-10-batches-py`` as published (https://www.cs.toronto.edu/~kriz/cifar.html).
        split: "train" or "test".

    Raises:
        CorruptFileError: a file is missing, damaged, or not what CIFAR-10's files are.
    """
    images, labels = zip(*(_read_batch(folder / name) for name in CIFAR_BATCHES[split]), strict=True)
    meta = _unpickle(folder / "batches.meta")
    names = meta.get("label_names")
    if not isinstance(names, list) or len(names) != 10 or not all(isinstance(name, str) for name in names):
        raise CorruptFileError(f"{folder / 'batches.meta'}: has no ten label_names; get CIFAR-10 again")
    return Pixels(np.concatenate(images), np.concatenate(labels), tuple(names))


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _unpickle(path)
    labels, data = batch.get("labels"), batch.get("data")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise CorruptFileError(f"{path}: 'labels' is no list of classes 0..9; get CIFAR-10 again")
    pixels = data.array() if isinstance(data, _Array) else None
    if pixels is None or pixels.shape != (len(labels), math.prod(CIFAR_SHAPE)):
        raise CorruptFileError(f"{path}: 'data' is not uint8 [{len(labels)}, 3072]; get CIFAR-10 again")
    planes = pixels.reshape(-1, *CIFAR_SHAPE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64)


class _Dtype:
    """Stands in for numpy.dtype."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands in for numpy.ndarray: keeps what the pickle says of it, and is checked before numpy sees it."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8] | None:
        """The array, if it is a uint8 matrix in C order; else ``None``."""
        match self.state:
            case (_, (int(rows), int(columns)), _Dtype(name="u1" | b"u1"), False | 0, bytes(data)):
                if min(rows, columns) >= 0 and rows * columns == len(data):
                    return np.frombuffer(data, np.uint8).reshape(rows, columns)
        return None


def _reconstruct(*_: object) -> _Array:
    return _Array()


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _reconstruct
            case "numpy", "ndarray":
                return _Array
            case "numpy", "dtype":
                return _Dtype
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not executed")


def _unpickle(path: Path) -> dict[str, object]:
    """A pickled dictionary of basic types and stand-ins, its keys and texts decoded."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BATCH_BYTES + 1)
        if len(data) > MAX_BATCH_BYTES:
            raise ValueError(f"larger than {MAX_BATCH_BYTES} bytes")
        # genops executes nothing and checks every declared length. The unpickler's memory is then bounded too: one
        # byte of a pickle makes at most one small object, and a memo index allocates a table of that size.
        for count, (code, argument, _) in enumerate(pickletools.genops(data)):
            if max(count, argument if "PUT" in code.name and isinstance(argument, int) else 0) > MAX_OPERATIONS:
                raise ValueError("it has more objects than 10,000 images need")
        loaded = _InertUnpickler(io.BytesIO(data), encoding="bytes").load()
    except FileNotFoundError:
        raise CorruptFileError(f"{path}: missing; get CIFAR-10 (python version) again") from None
    except OSError as error:
        raise SqueezeEdgeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the unpickler raises whatever a malformed stream makes it trip over
        raise CorruptFileError(f"{path}: not a CIFAR-10 batch: {error}; get CIFAR-10 (python version) again") from error
    if not isinstance(loaded, dict):
        raise CorruptFileError(f"{path}: is a {type(loaded).__name__}, not a CIFAR-10 batch; get CIFAR-10 again")
    return {
        str(_text(key)): [_text(item) for item in value] if isinstance(value, list) else value
        for key, value in loaded.items()
        if isinstance(key, bytes | str)  # whatever else has no meaning here, and maybe no end
    }


def _text(value: object) -> object:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def read_digits(split: Part) -> Pixels:
    """scikit-learn's handwritten digits (8x8 pixels, 1,797 images) as grey RGB images.

    Args:
        split: a key of :data:`DIGITS_SPLITS`; the splits are interleaved, so that each has all writers.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = np.isin(np.arange(len(digits.images)) * 400 % 1797, DIGITS_SPLITS[split])
    grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=3)
    return Pixels(images, digits.target[chosen].astype(np.int64), tuple(map(str, digits.target_names)))
