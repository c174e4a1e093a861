"""The .sqe file: round trips, damage, other versions, and files made to mislead (of older ones: test_old_sqe)."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UnsupportedError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import COARSE_BYTES, Record, dictionary, read_recorded, read_sqe, write_sqe
from tests.graph.old_sqe import write_old
from tests.graphs import GraphBuilder, integer_graphs, random_graph, random_images, squeezenet_graph

PREFIX = 16
DICTIONARY = "b2aa7784691dde70c08d484ba98ac1563a81ae0bdc0c45f7e001d420c8b168b6"
ORIGIN = {"network": "net", "weights": "net.pth", "sha256": "a" * 64}
PRINTS = frozenset({"0" * 63 + "1", "ab" * 32, "f" * 64})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sqe")


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    graph = random_graph(4, blocks=3, max_channels=8, max_size=12)
    write_sqe(graph, folder / "small.sqe", Record(ORIGIN, PRINTS, random_images(graph, 2, 0)))
    return (folder / "small.sqe").read_bytes()


def _read(folder: Path, content: bytes) -> IntegerGraph:
    path = folder / "changed.sqe"
    path.write_bytes(content)
    return read_sqe(path)


def _sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, and what follows it."""
    end = PREFIX + struct.unpack_from("<I", content, 12)[0]
    text = zlib.decompressobj(zdict=dictionary()).decompress(content[PREFIX:end])
    return json.loads(text), content[end:-32]


def _with(content: bytes, text: bytes, rest: bytes) -> bytes:
    packer = zlib.compressobj(zdict=dictionary())
    packed = packer.compress(text) + packer.flush()
    return _sealed(content[:12] + struct.pack("<I", len(packed)) + packed + rest)


def _with_header(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same file with a changed header and a right checksum."""
    header, rest = _header(content)
    change(header)
    return _with(content, json.dumps(header).encode(), rest)


def _set(path: tuple[str | int, ...], value: object) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        place: Any = header
        for key in path[:-1]:
            place = place[next(iter(place)) if key == "first" else key]
        place[path[-1]] = value

    return change


@pytest.mark.slow
@given(integer_graphs(max_channels=12, max_size=10))
@settings(max_examples=20, deadline=None)
def test_round_trip(folder: Path, graph: IntegerGraph) -> None:
    golden = random_images(graph, 2, 0)
    write_sqe(graph, folder / "graph.sqe", Record(ORIGIN, PRINTS, golden))
    read, record = read_recorded(folder / "graph.sqe")
    assert read.digest() == graph.digest()
    images = random_images(graph, 1, 0)
    np.testing.assert_array_equal(run(read, images), run(graph, images))
    assert record is not None and record.golden is not None
    assert (record.origin, record.calibrated_on) == (ORIGIN, PRINTS)
    np.testing.assert_array_equal(record.golden, golden)


def test_everything_beside_the_nodes_is_kept(folder: Path) -> None:
    preprocessing = Preprocessing((13, 14), 20, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "lanczos", gray=True)
    graph = random_graph(0, blocks=0, max_size=5)
    labels = tuple(f"Klasse {index} \N{GREEK SMALL LETTER MU}" for index in range(graph.classes))
    graph = IntegerGraph("näme 1.0", graph.nodes, preprocessing, labels)
    said = {**ORIGIN, "average": "ema", "channel_order": "bgr"}
    for record in (None, Record({"network": "net"}), Record(said)):
        write_sqe(graph, folder / "kept.sqe", record)
        read, found = read_recorded(folder / "kept.sqe")
        assert (read.name, read.labels, read.preprocessing) == ("näme 1.0", labels, preprocessing)
        assert (found is None) == (record is None)
        assert found is None or record is None or (found.origin, found.golden) == (record.origin, None)
    assert [path.name for path in folder.iterdir() if path.name.startswith((".kept.sqe", "kept.sqe"))] == ["kept.sqe"]


def test_the_layout_is_as_documented(content: bytes) -> None:
    magic, version, _ = struct.unpack_from("<8sII", content)
    assert (magic, version) == (b"\x89SQE\r\n\x1a\n", 5)
    header, rest = _header(content)
    assert set(header) == {"name", "labels", "preprocessing", "nodes", "arrays", "code", "record"}
    assert all(entry.keys() == {"dtype", "shape"} for entry in header["arrays"].values())
    stated = header["code"] + header["record"]["calibration"]["bytes"] + header["record"]["golden"]["bytes"]
    assert len(rest) == stated
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]


def test_the_dictionary_never_changes() -> None:
    assert hashlib.sha256(dictionary()).hexdigest() == DICTIONARY


def test_how_a_graph_is_coded_does_not_change_its_digest(folder: Path) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (5, 6))
    graph = builder.finish(builder.conv(IMAGE, 6, (3, 3), groups=3, name="conv"), 4, groups=2)
    write_sqe(graph, folder / "new.sqe")
    write_old(graph, folder / "old.sqe")
    assert read_sqe(folder / "new.sqe").digest() == read_sqe(folder / "old.sqe").digest() == graph.digest()


def test_golden_images_of_a_large_input_are_coarse(folder: Path) -> None:
    builder = GraphBuilder(np.random.default_rng(0), (67, 90))
    graph = builder.finish(builder.conv(IMAGE, 4, (3, 3), (8, 8)), 4)
    golden = np.zeros((4, 67, 90, 3), np.uint8)
    golden[1, 64:], golden[2, :, 88:], golden[3] = 10, 20, np.arange(90)[:, None]
    write_sqe(graph, folder / "coarse.sqe", Record(ORIGIN, golden=golden))
    header, _ = _header((folder / "coarse.sqe").read_bytes())
    assert header["record"]["golden"]["shape"] == [4, 9, 12, 3]
    assert header["record"]["golden"]["bytes"] <= COARSE_BYTES < 4 * 17 * 23 * 3
    record = read_recorded(folder / "coarse.sqe")[1]
    assert record is not None and record.golden is not None and record.golden.shape == golden.shape
    np.testing.assert_array_equal(record.golden[:3], golden[:3])
    assert set(record.golden[3, 0, :16, 0]) == {4, 12}


def test_only_so_many_golden_images_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(4, blocks=0, max_size=5)
    one = random_images(graph, 1, 0).nbytes
    for limit, kept in ((2 * one, 2), (2 * one - 1, 1), (one - 1, None)):
        monkeypatch.setattr("squeezeedge.graph.sqe.MAX_GOLDEN_BYTES", limit)
        write_sqe(graph, folder / "few.sqe", Record(ORIGIN, golden=random_images(graph, 2, 0)))
        record = read_recorded(folder / "few.sqe")[1]
        assert record is not None and (None if record.golden is None else len(record.golden)) == kept


@pytest.mark.slow
def test_arrays_take_less_than_their_bytes(folder: Path) -> None:
    graph = squeezenet_graph("squeezenet1_1", 48, 10)
    write_sqe(graph, folder / "net.sqe")
    weights = sum(array.nbytes for array in graph.to_parts()[1].values())
    assert (folder / "net.sqe").stat().st_size < weights


def test_truncation_at_any_byte(folder: Path, content: bytes) -> None:
    for size in [*range(0, 200), *range(200, len(content), 97), len(content) - 1]:
        with pytest.raises(CorruptFileError, match=r"changed\.sqe"):
            _read(folder, content[:size])


@pytest.mark.slow
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_flipped_bits_of_the_code(folder: Path, content: bytes, data: st.DataObject) -> None:
    """With a right checksum: it is refused, or it is another valid graph."""
    header, rest = _header(content)
    code = bytearray(rest)
    for _ in range(data.draw(st.integers(1, 4))):
        code[data.draw(st.integers(0, header["code"] - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = _read(folder, _sealed(content[: -32 - len(rest)] + bytes(code)))
    except CorruptFileError as error:
        assert "changed.sqe" in str(error)
    else:
        assert isinstance(read, IntegerGraph)


def test_another_version_says_so(folder: Path, content: bytes) -> None:
    body = content[:8] + struct.pack("<I", 6) + content[12:-32]
    with pytest.raises(UnsupportedError, match=r"changed\.sqe: has version 6 .* reads versions 1 to 5"):
        _read(folder, _sealed(body))


def test_a_file_of_another_kind(folder: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"not an \.sqe file"):
        _read(folder, b"PK\x03\x04" + bytes(1000))
    with pytest.raises(CorruptFileError, match=r"missing\.sqe: cannot be read"):
        read_sqe(folder / "missing.sqe")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        read_sqe(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("code"), "lacks or should not have: code"),
        (lambda h: h.pop("record"), "lacks or should not have: record"),
        (_set(("extra",), 1), "lacks or should not have: extra"),
        (lambda h: h["nodes"][0].pop("groups"), "lacks or should not have: groups"),
        (_set(("code",), 2**40), "code is 1099511627776, must be an integer in"),
        (_set(("code",), -1), "code is -1"),
        (_set(("code",), 0), "cannot be decoded: a code has 0 states"),
        (_set(("code",), 100), "cannot be decoded"),
        (_set(("arrays",), []), "arrays is not an object"),
        (_set(("arrays", "first", "encoding"), "raw"), "lacks or should not have: encoding"),
        (_set(("arrays", "first", "dtype"), "object"), "unknown type 'object'"),
        (_set(("arrays", "first", "dtype"), "int32"), "cannot be decoded|no valid graph"),
        (_set(("arrays", "first", "shape"), [2**40]), "must be an integer in"),
        (_set(("arrays", "first", "shape"), [1024] * 4), "cannot hold a shape of"),
        (_set(("arrays", "first", "shape"), [2] * 10**5), "do not make a shape"),
        (_set(("arrays", "first", "shape"), [0]), "cannot hold a shape"),
        (_set(("arrays", "first", "shape"), []), "cannot hold a shape"),
        (_set(("arrays", "more"), {"dtype": "int8", "shape": [1]}), "cannot be decoded|no node has"),
        (lambda h: h["arrays"].popitem(), "cannot be decoded|is missing"),
        (lambda h: h.update(arrays={}), "cannot be decoded|is missing"),
        (_set(("record",), None), "its arrays take"),
        (_set(("record", "golden"), None), "its arrays take"),
        (_set(("record", "golden", "encoding"), "zlib"), "unknown encoding 'zlib'"),
        (_set(("record", "golden", "dtype"), "int8"), "golden images are 'int8', not uint8"),
        (_set(("record", "golden", "shape"), []), "number of golden images is None"),
        (_set(("record", "golden", "shape", 0), 2**40), "number of golden images is 1099511627776"),
        (_set(("record", "golden", "shape", 0), 1), "do not make a shape"),
        (lambda h: h["record"]["golden"]["shape"].reverse(), "none of|must be an integer"),
        (_set(("record", "origin", "path"), "/"), "origin lacks or should not have: path"),
    ],
)
def test_a_sealed_header_that_lies(
    folder: Path, content: bytes, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(CorruptFileError, match=message):
        _read(folder, _with_header(content, change))


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff\xfe" * 24, b'{"name": NaN}', b"{}", b"1", b'{"a":' * 5000])
def test_a_sealed_header_that_is_no_header(folder: Path, content: bytes, text: bytes) -> None:
    with pytest.raises(CorruptFileError):
        _read(folder, _with(content, text, b""))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"nothing packed", "header cannot be decompressed"),
        (zlib.compress(b"{}")[:-1], "does not end where it should|cannot be decompressed"),
        (zlib.compress(b"{}") + b"more", "does not end where it should"),
    ],
)
def test_a_header_that_is_not_packed_right(folder: Path, content: bytes, header: bytes, message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        _read(folder, _sealed(content[:12] + struct.pack("<I", len(header)) + header))
    with pytest.raises(CorruptFileError, match="a header of 4294967280 bytes in a file of"):
        _read(folder, _sealed(content[:12] + struct.pack("<I", 2**32 - 16) + header))


@pytest.mark.slow
def test_nothing_takes_memory_before_it_is_checked(folder: Path, content: bytes) -> None:
    """A header of 64 MiB in 64 kB, and 2^28 weights in a code of a few hundred bytes."""
    bomb = _with(content, b" " * 2**26, b"")
    large = _with_header(content, _set(("arrays", "first", "shape"), [2**14, 1, 1, 2**14]))
    for changed, limit in ((bomb, 2**26), (large, 2**22)):
        tracemalloc.start()
        try:
            with pytest.raises(CorruptFileError):
                _read(folder, changed)
            assert tracemalloc.get_traced_memory()[1] < limit
        finally:
            tracemalloc.stop()


def test_a_failed_write_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(1, blocks=1)
    path = folder / "kept_on_failure.sqe"
    write_sqe(graph, path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SqueezeEdgeError, match="cannot be written: No space left on device"):
        write_sqe(replace(graph, name="other"), path)
    assert path.read_bytes() == before
    assert not list(folder.glob(".*partial"))


def test_an_unwritable_place(folder: Path) -> None:
    with pytest.raises(SqueezeEdgeError, match="cannot be written"):
        write_sqe(random_graph(1, blocks=0), folder / "no" / "such" / "folder.sqe")
