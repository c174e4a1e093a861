"""Versions 1 to 4 of the .sqe file: they are read, and those made to mislead are not."""

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

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph import IMAGE, IntegerGraph
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import MAX_GOLDEN_BYTES, Record, read_recorded, read_sqe
from tests.graph.old_sqe import write_old
from tests.graphs import GraphBuilder, integer_graphs, random_graph, random_images

PREFIX = 16
FILE_OF_VERSION_1 = "335b9e7b99c1360f48b57e288228203f81d8b2ab0afb258a3dea46b8471cf1e2"
DIGEST_OF_VERSION_1 = "2c6740ca9f1edd9684969ab5b0261fbdd96c2bf76a863294b9dc9a81a21802de"
"""Of random_graph(4, blocks=3, max_channels=8, max_size=12, groups=False), as the first version wrote it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sqe")


@pytest.fixture(scope="module")
def content(folder: Path) -> bytes:
    write_old(random_graph(4, blocks=3, max_channels=8, max_size=12, groups=False), folder / "small.sqe")
    return (folder / "small.sqe").read_bytes()


def _grouped() -> IntegerGraph:
    builder = GraphBuilder(np.random.default_rng(0), (5, 6))
    return builder.finish(builder.conv(IMAGE, 6, (3, 3), groups=3, name="conv"), 4, groups=2)


def _read(folder: Path, content: bytes) -> IntegerGraph:
    path = folder / "changed.sqe"
    path.write_bytes(content)
    return read_sqe(path)


def _sealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def _with_header(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The same file with a changed header and a right checksum."""
    length = struct.unpack_from("<I", content, 12)[0]
    header = json.loads(content[PREFIX : PREFIX + length])
    change(header)
    text = json.dumps(header).encode()
    text = text.ljust(-(-(PREFIX + len(text)) // 64) * 64 - PREFIX)
    return _sealed(content[:12] + struct.pack("<I", len(text)) + text + content[PREFIX + length : -32])


def test_the_layout_is_as_documented(content: bytes) -> None:
    magic, version, length = struct.unpack_from("<8sII", content)
    assert (magic, version) == (b"\x89SQE\r\n\x1a\n", 1)
    assert (PREFIX + length) % 64 == 0 and (len(content) - 32) % 64 == 0
    header = json.loads(content[PREFIX : PREFIX + length])
    assert set(header) == {"name", "labels", "preprocessing", "nodes", "arrays"}
    assert all(entry["encoding"] == "raw" for entry in header["arrays"].values())
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]


def test_without_groups_a_file_is_of_version_1_as_it_always_was(folder: Path, content: bytes) -> None:
    header = json.loads(content[PREFIX : PREFIX + struct.unpack_from("<I", content, 12)[0]])
    assert not any("groups" in node for node in header["nodes"])
    assert hashlib.sha256(content).hexdigest() == FILE_OF_VERSION_1
    assert _read(folder, content).digest() == DIGEST_OF_VERSION_1


def test_groups_are_of_version_2(folder: Path) -> None:
    graph = _grouped()
    write_old(graph, folder / "grouped.sqe")
    content = (folder / "grouped.sqe").read_bytes()
    assert struct.unpack_from("<I", content, 8) == (2,)
    header = json.loads(content[PREFIX : PREFIX + struct.unpack_from("<I", content, 12)[0]])
    assert [node["groups"] for node in header["nodes"]] == [3, 2]
    read = read_sqe(folder / "grouped.sqe")
    assert [conv.groups for conv in read.convolutions] == [3, 2]
    assert read.digest() == graph.digest()
    images = random_images(graph, 2, 0)
    np.testing.assert_array_equal(run(read, images), run(graph, images))


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        (1, lambda h: None, "a node Conv lacks or should not have: groups"),
        (2, lambda h: h["nodes"][0].pop("groups"), "a node Conv lacks or should not have: groups"),
        (2, lambda h: h["nodes"][1].pop("groups"), "a node Head lacks or should not have: groups"),
        (2, lambda h: h["nodes"][0].update(groups=0), "no valid graph: conv: 0 groups"),
        (2, lambda h: h["nodes"][0].update(groups=2), "no valid graph: conv: 2 groups do not divide its 3 input"),
        (2, lambda h: h["nodes"][0].update(groups=1), r"no valid graph: conv: weight has shape \[6, 3, 3, 1\]"),
        (2, lambda h: h["nodes"][0].update(groups="3"), "conv.groups is 3, must be an integer in 0"),
        (2, lambda h: h["nodes"][0].update(groups=-3), "conv.groups is -3, must be an integer in 0"),
    ],
)
def test_groups_that_lie(folder: Path, version: int, change: Callable[[dict[str, Any]], object], message: str) -> None:
    write_old(_grouped(), folder / "grouped.sqe")
    content = (folder / "grouped.sqe").read_bytes()
    content = content[:8] + struct.pack("<I", version) + content[12:]
    with pytest.raises(CorruptFileError, match=message):
        _read(folder, _with_header(content, change))


# What stands beside the graph

PRINTS = frozenset({"0" * 63 + "1", "ab" * 32, "f" * 64})


def _recorded(folder: Path, graph: IntegerGraph, **values: Any) -> bytes:  # noqa: ANN401
    origin = {"network": "net", "weights": "net.pth", "sha256": "a" * 64}
    golden = random_images(graph, 2, 0)
    write_old(
        graph,
        folder / "recorded.sqe",
        Record(**{"origin": origin, "calibrated_on": PRINTS, "golden": golden, **values}),
    )
    return (folder / "recorded.sqe").read_bytes()


@given(integer_graphs(max_channels=12, max_size=10))
@settings(max_examples=20, deadline=None)
def test_a_record_is_kept_beside_the_graph(folder: Path, graph: IntegerGraph) -> None:
    content = _recorded(folder, graph)
    assert struct.unpack_from("<I", content, 8) == (3,)
    read, record = read_recorded(folder / "recorded.sqe")
    assert read.digest() == read_sqe(folder / "recorded.sqe").digest() == graph.digest()
    assert record is not None and record.calibrated_on == PRINTS
    assert record.origin == {"network": "net", "weights": "net.pth", "sha256": "a" * 64}
    assert record.golden is not None and record.golden.dtype == np.uint8
    np.testing.assert_array_equal(record.golden, random_images(graph, 2, 0))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((), None, "record is not an object"),
        (("extra",), 1, "record lacks or should not have: extra"),
        (("origin",), [], "origin is not an object"),
        (("origin",), {}, "origin lacks or should not have: network, sha256, weights"),
        (("origin", "path"), "/", "origin lacks or should not have: path"),
        (("origin", "network"), 1, "origin: network is not a"),
        (("origin", "sha256"), "A" * 64, "sha256 is not a SHA-256"),
        (("origin", "sha256"), "a" * 64 + "\n", "sha256 is not a SHA-256"),
        (("calibration",), None, "array 'golden' cannot be decompressed|its arrays take"),
        (("calibration", "shape"), [96], r"calibration is uint8 \[96\], not uint8 \[n, 32\]"),
        (("calibration", "shape"), [], "do not make a shape"),
        (("calibration", "shape"), [6, 16], "not uint8"),
        (("calibration", "dtype"), "int8", "calibration is int8"),
        (("calibration", "encoding"), "zlib", "unknown encoding 'zlib'"),
        (("golden",), None, "its arrays take"),
        (("golden",), [], "golden is not an object"),
        (("golden", "encoding"), "raw", "unknown encoding 'raw'"),
        (("golden", "dtype"), "int8", "golden images are 'int8', not uint8"),
        (("golden", "shape"), 3, "shape is not a list"),
        (("golden", "shape"), [], "number of golden images is None"),
        (("golden", "shape", 0), 0, "must be an integer in 0..0"),
        (("golden", "shape", 0), 1, "do not make a shape"),
        (("golden", "shape", 0), 3, "do not make a shape"),
        (("golden", "shape", 0), 2**40, "number of golden images is 1099511627776, must be an integer in 0"),
        (("golden", "shape", 1), 1, "array 'golden' has the shape"),
        (("golden", "bytes"), 10, "do not make a shape"),
        (("golden", "bytes"), 2**40, "must be an integer in"),
    ],
)
def test_a_record_that_lies(folder: Path, keys: tuple[str | int, ...], value: object, message: str) -> None:
    content = _recorded(folder, random_graph(4, blocks=1))
    with pytest.raises(CorruptFileError, match=message):
        _read(folder, _with_header(content, _set(("record", *keys), value)))


def test_fingerprints_stand_in_one_order_only(folder: Path) -> None:
    content = _recorded(folder, random_graph(4, blocks=1))
    first, last = bytes(31) + b"\1", b"\xff" * 32
    swapped = content.replace(first, b"?" * 32).replace(last, first).replace(b"?" * 32, last)
    assert swapped != content
    for changed in (swapped, content.replace(b"\xab" * 32, first)):
        with pytest.raises(CorruptFileError, match="fingerprints are not in ascending order"):
            _read(folder, _sealed(changed[:-32]))


@pytest.mark.slow
def test_golden_images_never_take_more_than_their_pixels(folder: Path) -> None:
    """64 MiB of zeros are 64 kB in the file; the graph says that the images have a few hundred bytes."""
    graph = random_graph(4, blocks=1)
    content = _recorded(folder, graph)
    bomb = zlib.compress(bytes(2**26), 9)
    length = struct.unpack_from("<I", content, 12)[0]
    entry = json.loads(content[PREFIX : PREFIX + length])["record"]["golden"]
    body = content[: -32 - -(-entry["bytes"] // 64) * 64] + bomb.ljust(-(-len(bomb) // 64) * 64, b"\0")
    changed = _with_header(_sealed(body), _set(("record", "golden", "bytes"), len(bomb)))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match=r"array 'golden': its .* bytes do not make a shape"):
            _read(folder, changed)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert MAX_GOLDEN_BYTES <= 2**28, "what images that are as large as their graph says may take"


def _set(path: tuple[str | int, ...], value: object) -> Callable[[dict[str, Any]], object]:
    def change(header: dict[str, Any]) -> None:
        place: Any = header
        for key in path[:-1]:
            place = place[next(iter(place)) if key == "first" else key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("labels"), "lacks or should not have: labels"),
        (_set(("extra",), 1), "lacks or should not have: extra"),
        (_set(("nodes", 0, "extra"), 1), "lacks or should not have: extra"),
        (lambda h: h["nodes"][0].pop("padding"), "lacks or should not have: padding"),
        (_set(("nodes",), {}), "nodes is not a list"),
        (_set(("nodes",), []), "no node has the array"),
        (_set(("nodes", 0), []), "a node is not an object"),
        (_set(("nodes", 0, "op"), "Exec"), "a node is not an object with an op of Conv, MaxPool, Concat, Add, Head"),
        (_set(("nodes", 0, "op"), ["Conv"]), "a node is not an object with an op of"),
        (_set(("nodes", 0, "name"), 1), "name of a node is not a"),
        (_set(("nodes", 0, "name"), "other"), "the array 'other.weight' is missing"),
        (_set(("nodes", 0, "stride"), [1]), "stride has 1 values instead of 2"),
        (_set(("nodes", 0, "stride"), [1, 1.0]), "stride is 1.0, must be an integer"),
        (_set(("nodes", 0, "stride"), [True, 1]), "stride is True, must be an integer"),
        (_set(("nodes", 0, "stride"), [1, 10**30]), "must be an integer in 0..65536"),
        (_set(("nodes", 0, "padding"), [-1, 0, 0, 0]), "must be an integer in 0..65536"),
        (_set(("nodes", 0, "zero_point"), 3), "no valid graph: .*zero point 3"),
        (_set(("nodes", 0, "input"), "nothing"), "no valid graph: .*nothing is not made"),
        (_set(("name",), "../../etc/name"), "no valid graph: .*cannot be a file's name"),
        (_set(("name",), None), "name is not a"),
        (_set(("labels",), [1]), "label is not a"),
        (_set(("labels",), ["one"]), "no valid graph: .*1 labels"),
        (_set(("preprocessing",), {"size": [1, 1]}), "preprocessing"),
        (_set(("preprocessing", "size"), [10**9, 10**9]), "preprocessing"),
        (_set(("arrays",), []), "arrays is not an object"),
        (_set(("arrays", "first", "encoding"), "ans"), "unknown encoding 'ans'"),
        (_set(("arrays", "first", "dtype"), "object"), "unknown type 'object'"),
        (_set(("arrays", "first", "dtype"), "int32"), "bytes do not make a shape"),
        (_set(("arrays", "first", "shape"), [2**40]), "must be an integer in"),
        (_set(("arrays", "first", "shape"), [2] * 10**5), "bytes do not make a shape"),
        (_set(("arrays", "first", "shape"), [0]), "bytes do not make a shape"),
        (_set(("arrays", "first", "bytes"), 2**40), "must be an integer in"),
        (_set(("arrays", "more"), {"dtype": "int8", "shape": [0], "encoding": "raw", "bytes": 0}), "do not make"),
        (lambda h: h["arrays"].popitem(), "its arrays take"),
    ],
)
def test_a_sealed_header_that_lies(
    folder: Path, content: bytes, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(CorruptFileError, match=message):
        _read(folder, _with_header(content, change))


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b"\xff\xfe" * 24, b'{"name": NaN}', b"{}", b"1", b'{"a":' * 5000],
)
def test_a_sealed_header_that_is_no_header(folder: Path, content: bytes, text: bytes) -> None:
    text = text.ljust(-(-(PREFIX + len(text)) // 64) * 64 - PREFIX)
    with pytest.raises(CorruptFileError):
        _read(folder, _sealed(content[:12] + struct.pack("<I", len(text)) + text))


def test_a_header_longer_than_the_file(folder: Path, content: bytes) -> None:
    body = content[:12] + struct.pack("<I", 2**32 - 16) + content[PREFIX:-32]
    with pytest.raises(CorruptFileError, match="a header of 4294967280 bytes in a file of"):
        _read(folder, _sealed(body))


@pytest.mark.parametrize("recorded", [False, True])
def test_version_4_has_gray_images_all_filters_and_another_order(folder: Path, recorded: bool) -> None:
    path, graph = folder / "gray.sqe", random_graph(0)
    graph = replace(graph, preprocessing=replace(graph.preprocessing, gray=True, interpolation="lanczos"))
    origin = {"network": "net", "weights": "net.onnx", "sha256": "0" * 64, "channel_order": "bgr"}
    write_old(graph, path, Record(origin) if recorded else None)
    found, record = read_recorded(path)
    assert found.preprocessing == graph.preprocessing and found.digest() == graph.digest()
    assert (None if record is None else record.origin) == (origin if recorded else None)
    content = path.read_bytes()
    assert content[8:12] == struct.pack("<I", 4)
    with pytest.raises(CorruptFileError, match=r"preprocessing that version 3 has not|record is not an object|origin"):
        _read(folder, _sealed(content[:8] + struct.pack("<I", 3) + content[12:-32]))
    write_old(random_graph(0), path)
    assert path.read_bytes()[8:12] != struct.pack("<I", 4), "the oldest version that can hold it"
