"""Arrays: .npz, CIFAR-10's pickles (of which nothing may run) and the digits."""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squeezeedge.calib import arrays
from squeezeedge.calib.arrays import read_cifar_batches, read_digits, read_npz
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
LABELS = np.array([3, 0, 1, 1], np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Any) -> None:  # noqa: ANN401
    save(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    pixels = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(pixels.images, IMAGES)
    assert pixels.labels is not None and pixels.labels.dtype == np.int64
    np.testing.assert_array_equal(pixels.labels, LABELS)


def test_npz_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES)
    assert read_npz(tmp_path / "a.npz").labels is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"pictures": IMAGES}, "no array 'images'"),
        ({"images": IMAGES.astype(np.float32)}, "float32"),
        ({"images": IMAGES[..., :1]}, r"\[4, 6, 5, 1\]"),
        ({"images": IMAGES[0]}, r"uint8 \[6, 5, 3\]"),
        ({"images": IMAGES[:, :0]}, r"\[4, 0, 5, 3\]"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"\[3\] for 4 images"),
        ({"images": IMAGES, "labels": LABELS.astype(np.float64)}, "float64"),
        ({"images": np.array([{"a": 1}], object)}, "declares object"),
    ],
)
def test_npz_of_another_kind(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(CorruptFileError, match=rf"a\.npz: not a usable \.npz: .*{reason}"):
        read_npz(tmp_path / "a.npz")


def _npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_npz_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", _npy_header((1 << 20, 1 << 10, 1 << 10, 3)) + bytes(100))
    with pytest.raises(CorruptFileError, match=r"3298534883328 bytes, but holds 100"):
        read_npz(tmp_path / "a.npz")


def test_npz_that_inflates_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_ARRAY_BYTES", 1000)
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((4, 10, 10, 3), np.uint8))
    with pytest.raises(UnsupportedError, match=r"a\.npz: images\.npy needs 1200 bytes"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(cut=st.none() | st.integers(0, 900), flips=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 255))))
def test_a_damaged_npz_fails_cleanly(tmp_path: Path, cut: int | None, flips: list[tuple[int, int]]) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=IMAGES, labels=LABELS)
    data = bytearray(path.read_bytes()[:cut])
    for position, bits in flips:
        if position < len(data):
            data[position] ^= bits
    path.write_bytes(data)
    try:
        assert read_npz(path).images.dtype == np.uint8
    except SqueezeEdgeError as error:
        assert "a.npz" in str(error)


NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def _python2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled the published files: protocol 2, byte strings, numpy's old module name."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def reduced(function: bytes, arguments: bytes, state: bytes) -> bytes:
        return b"c" + function + arguments + b"R" + b"(" + state + b"tb"

    dtype = reduced(
        b"numpy\ndtype\n",
        text(b"u1") + b"K\x00K\x01\x87",
        b"K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00",
    )
    shape = struct.pack("<BiBi", ord("J"), data.shape[0], ord("J"), data.shape[1]) + b"\x86"
    raw = b"T" + struct.pack("<i", data.nbytes) + data.tobytes()
    array = reduced(
        b"numpy.core.multiarray\n_reconstruct\n",
        b"cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87",
        b"K\x01" + shape + dtype + b"\x89" + raw,
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + text(b"batch_label") + text(b"x") + b"u."


def _write_cifar(folder: Path, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    folder.mkdir()
    data, labels = rng.integers(0, 256, (6, count, 3072)).astype(np.uint8), rng.integers(0, 10, (6, count))
    for number, name in enumerate(("test_batch", *(f"data_batch_{i}" for i in range(1, 6)))):
        (folder / name).write_bytes(_python2_batch(data[number], labels[number].tolist()))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [n.encode() for n in NAMES]}, protocol=3))
    return data, labels


def test_cifar_batches(tmp_path: Path) -> None:
    data, labels = _write_cifar(tmp_path / "c")
    test = read_cifar_batches(tmp_path / "c", "test")
    assert test.images.shape == (3, 32, 32, 3) and test.classes == tuple(NAMES)
    np.testing.assert_array_equal(test.labels, labels[0])
    np.testing.assert_array_equal(test.images[2, 5, 7], data[0, 2].reshape(3, 32, 32)[:, 5, 7])
    train = read_cifar_batches(tmp_path / "c", "train")
    np.testing.assert_array_equal(train.labels, labels[1:].ravel())


def test_the_fixture_is_what_python_reads(tmp_path: Path) -> None:
    data, labels = _write_cifar(tmp_path / "c")
    loaded = pickle.loads((tmp_path / "c" / "test_batch").read_bytes(), encoding="bytes")
    np.testing.assert_array_equal(loaded[b"data"], data[0])
    assert loaded[b"labels"] == labels[0].tolist()


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def _operations(*operations: bytes) -> bytes:
    return b"\x80\x04" + b"".join(operations) + b"."


MANY = b"(" + b"}" * 200_000 + b"l"
HOSTILE = {
    "it refers to builtins.eval": _operations(b"cbuiltins\neval\n", b"\x8c\x011", b"\x85R"),
    "it refers to numpy.load": _operations(b"cnumpy\nload\n", b"\x8c\x011", b"\x85R"),
    "it refers to numpy.ndarray.__class__": _operations(b"\x8c\x05numpy\x8c\x11ndarray.__class__\x93"),
    "more objects": _operations(b"N", b"r\xff\xff\xff\x7f"),
    "more objects than": _operations(MANY),
    "expected 1099511627776 bytes": _operations(b"\x8e" + struct.pack("<Q", 1 << 40) + b"x"),
    "is a list, not a CIFAR-10 batch": _operations(b"]"),
    "not a CIFAR-10 batch": b"",
    "'labels' is no list": _operations(b"}"),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_a_hostile_batch_is_refused(tmp_path: Path, reason: str) -> None:
    _write_cifar(tmp_path / "c")
    (tmp_path / "c" / "test_batch").write_bytes(HOSTILE[reason])
    with pytest.raises(CorruptFileError, match=rf"test_batch: .*{reason}"):
        read_cifar_batches(tmp_path / "c", "test")


def test_nothing_in_a_pickle_runs(tmp_path: Path) -> None:
    _write_cifar(tmp_path / "c")
    (tmp_path / "c" / "test_batch").write_bytes(pickle.dumps({b"data": _Touch(tmp_path / "ran")}))
    with pytest.raises(CorruptFileError, match="not executed"):
        read_cifar_batches(tmp_path / "c", "test")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "batch",
    [
        {b"labels": [1, 2], b"data": b"x" * 6144},
        {b"labels": [1, 2], b"data": np.zeros((3, 3072), np.uint8)},
        {b"labels": [1, 2], b"data": np.zeros((2, 3072), np.int8)},
        {b"labels": [1, 2], b"data": np.zeros((2, 3072), np.uint8, order="F")},
        {b"labels": [1, 10], b"data": np.zeros((2, 3072), np.uint8)},
        {b"labels": [1, True], b"data": np.zeros((2, 3072), np.uint8)},
        {b"labels": 5, b"data": np.zeros((2, 3072), np.uint8)},
        {b"data": np.zeros((2, 3072), np.uint8)},
    ],
)
def test_a_batch_of_another_kind(tmp_path: Path, batch: dict[bytes, object]) -> None:
    _write_cifar(tmp_path / "c")
    (tmp_path / "c" / "test_batch").write_bytes(pickle.dumps(batch, protocol=3))
    with pytest.raises(CorruptFileError, match=r"test_batch: '(data|labels)' is"):
        read_cifar_batches(tmp_path / "c", "test")


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    _write_cifar(tmp_path / "c")
    (tmp_path / "c" / "data_batch_4").unlink()
    with pytest.raises(CorruptFileError, match="data_batch_4: missing"):
        read_cifar_batches(tmp_path / "c", "train")
    (tmp_path / "c" / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"cat"]}, protocol=3))
    with pytest.raises(CorruptFileError, match="ten label_names"):
        read_cifar_batches(tmp_path / "c", "test")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(cut=st.none() | st.integers(0, 6500), flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255))))
def test_a_damaged_batch_fails_cleanly(tmp_path: Path, cut: int | None, flips: list[tuple[int, int]]) -> None:
    folder = tmp_path / "c"
    if not folder.exists():
        _write_cifar(folder)
    data = bytearray(_python2_batch(np.zeros((2, 3072), np.uint8), [1, 2])[:cut])
    for position, bits in flips:
        position = position if position < 200 else len(data) - position + 200
        if 0 <= position < len(data):
            data[position] ^= bits
    (folder / "test_batch").write_bytes(data)
    try:
        assert read_cifar_batches(folder, "test").images.dtype == np.uint8
    except SqueezeEdgeError as error:
        assert "test_batch" in str(error)


@pytest.mark.slow
def test_digits_splits_are_disjoint_and_complete() -> None:
    splits = {name: read_digits(name) for name in ("train", "calib", "test")}
    assert {name: len(pixels.images) for name, pixels in splits.items()} == {"train": 1197, "calib": 200, "test": 400}
    positions = [
        set(np.flatnonzero(np.isin(np.arange(1797) * 400 % 1797, part)))
        for part in (arrays.DIGITS_SPLITS[name] for name in ("train", "val", "test"))
    ]
    assert sorted(index for part in positions for index in part) == list(range(1797))
    for pixels in splits.values():
        assert pixels.images.shape[1:] == (8, 8, 3) and pixels.images.dtype == np.uint8
        assert pixels.images.max() == 255 and pixels.images.min() == 0
        assert pixels.labels is not None and set(pixels.labels.tolist()) == set(range(10))
        assert pixels.classes == tuple("0123456789")


DEEP = 10_000


@pytest.mark.parametrize(
    "content",
    [
        b"}" + b")" + b"\x85" * DEEP + b"K\x01s",  # a key
        b"}\x8b" + (5000).to_bytes(4, "little") + b"\x7f" * 5000 + b"K\x01s",  # a key too long for decimal digits
        b"}X\x0b\x00\x00\x00label_names" + b"]" * DEEP + b"a" * (DEEP - 1) + b"s",  # the names
        b"]" * DEEP + b"a" * (DEEP - 1),  # all of it
    ],
)
def test_deep_and_huge_objects(tmp_path: Path, content: bytes) -> None:
    _write_cifar(tmp_path / "c")
    (tmp_path / "c" / "batches.meta").write_bytes(b"\x80\x02" + content + b".")
    with pytest.raises(CorruptFileError, match=r"batches\.meta: "):
        read_cifar_batches(tmp_path / "c", "test")
