"""Damaged deploy models: each is a CorruptFileError that names the file, or a model that is run."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from squeezeedge.artifact import write_artifact
from squeezeedge.errors import CorruptFileError
from squeezeedge.targets.ascend import TARGET
from squeezeedge.targets.ascend.emulate import EmulatedNetwork
from squeezeedge.targets.ascend.options import AscendOptions
from squeezeedge.targets.ascend.reading import read_deploy_model
from squeezeedge.targets.device.run import Artifact
from tests.graphs import GraphBuilder, random_images
from tests.targets.mutations import flipped

NAME = "model_deploy_model.onnx"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A small network with every operator."""
    builder = GraphBuilder(np.random.default_rng(0), (9, 11))
    value = builder.pool(builder.conv("image", 6, (3, 3), (2, 2), (1, 1, 1, 1), name="conv1"), name="pool1")
    branch = builder.conv(value, 6, zero_point=128, name="branch")
    value = builder.concat([builder.add(value, branch, name="add"), builder.conv(value, 5, name="other")])
    graph, options = builder.finish(value, 4), AscendOptions("emulated")
    golden = random_images(graph, 1, 0)
    return write_artifact(graph, TARGET, options, tmp_path / "artifact", golden=golden, source={}).path


def write(artifact: Path, data: bytes) -> Artifact:
    """Replace the model, with its checksum."""
    (artifact / NAME).write_bytes(data)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"][NAME] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    return Artifact(artifact)


def taken(artifact: Path, data: bytes) -> bool:
    """Whether a model is run; if not, it is refused as it must be."""
    files = write(artifact, data)
    images: NDArray[np.uint8] = files.golden()[0]
    try:
        list(TARGET.listing(artifact))
        network = EmulatedNetwork(files)
    except CorruptFileError as error:
        assert str(error).startswith(f"{artifact}/{NAME}: damaged (") and "compile the model again" in str(error)
        return False
    with np.errstate(all="ignore"):
        sums, _ = network.run(images)
    assert sums.shape == (1, 4)
    return True


NUMBERS = (0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))


def change(model: ModelProto, chooser: random.Random) -> None:
    """Damage one place."""
    graph = model.graph
    node, tensor = chooser.choice(graph.node), chooser.choice(graph.initializer)
    names = [value for one in graph.node for value in (*one.input, *one.output)]
    kinds: list[Callable[[], Any]] = [
        lambda: graph.node.remove(node),
        lambda: graph.initializer.remove(tensor),
        lambda: graph.node.add().CopyFrom(node),
        lambda: setattr(node, "op_type", chooser.choice(graph.node).op_type),
        lambda: setattr(node, "name", chooser.choice(names)),
        lambda: node.input.append(chooser.choice(names)),
        lambda: node.input.pop(),
        lambda: node.input.__setitem__(0, chooser.choice(names)),
        lambda: node.output.__setitem__(0, chooser.choice(names)),
        lambda: node.output.pop(),
        lambda: tensor.dims.append(chooser.choice(NUMBERS)),
        lambda: tensor.dims.__setitem__(0, chooser.choice(NUMBERS)),
        lambda: setattr(tensor, "data_type", chooser.randrange(25)),
        lambda: setattr(tensor, "raw_data", tensor.raw_data[: chooser.randrange(100)]),
        lambda: setattr(tensor, "raw_data", chooser.randbytes(len(tensor.raw_data))),
        lambda: onnx.external_data_helper.set_external_data(tensor, chooser.choice(("secret", "/dev/zero", ""))),
        lambda: setattr(graph.output[0], "name", chooser.choice(names)),
        lambda: setattr(graph.input[0], "name", chooser.choice(names)),
        lambda: graph.ClearField("output"),
        lambda: setattr(model.opset_import[0], "version", chooser.choice(NUMBERS)),
    ]
    if node.attribute:
        attribute = chooser.choice(node.attribute)
        kinds += 3 * [
            lambda: node.attribute.remove(attribute),
            lambda: setattr(attribute, "type", chooser.randrange(1, 15)),
            lambda: setattr(attribute, "i", chooser.choice(NUMBERS)),
            lambda: setattr(attribute, "f", chooser.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))),
            lambda: attribute.ints.append(chooser.choice(NUMBERS)),
            lambda: attribute.ints.__setitem__(0, chooser.choice(NUMBERS)),
            lambda: setattr(attribute, "s", chooser.randbytes(4)),
            lambda: attribute.CopyFrom(chooser.choice(chooser.choice(graph.node).attribute or [attribute])),
        ]
    chooser.choice(kinds)()


def damaged(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Models with one to three places changed."""
    chooser = random.Random(seed)
    for _ in range(count):
        model = onnx.load_model_from_string(data)
        for _ in range(chooser.choice((1, 1, 2, 3))):
            with suppress(IndexError):  # nothing is left to be changed there
                change(model, chooser)
        yield model.SerializeToString()


@pytest.mark.slow
def test_mutations(artifact: Path) -> None:
    data = (artifact / NAME).read_bytes()
    assert taken(artifact, data)
    results = [taken(artifact, model) for model in damaged(data, 150, 0)]
    assert 0 < sum(results) < 50


@pytest.mark.slow
def test_flipped_bytes(artifact: Path) -> None:
    data = (artifact / NAME).read_bytes()
    for model in flipped(data, 200, 1):
        taken(artifact, model)


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x00" * 100, b"\x08\x06"])
def test_what_is_no_model(artifact: Path, data: bytes) -> None:
    assert not taken(artifact, data)


def test_names_that_are_no_text(artifact: Path) -> None:
    assert not taken(artifact, (artifact / NAME).read_bytes().replace(b"pool1", b"po\xff\xfe1"))


def test_constants_in_other_files_are_not_read(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else onnx would take them from the working directory."""
    model = onnx.load_model(artifact / NAME)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "conv1.weight")
    (tmp_path / "secret").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")
    monkeypatch.chdir(tmp_path)
    files = write(artifact, model.SerializeToString())
    with pytest.raises(CorruptFileError, match=r"constant 'conv1.weight' lies in another file"):
        read_deploy_model(files)


def test_a_model_of_another_network(artifact: Path, tmp_path: Path) -> None:
    """Of the same image and classes."""
    builder = GraphBuilder(np.random.default_rng(1), (9, 11))
    graph = builder.finish(builder.conv("image", 6, name="conv9"), 4)
    other = write_artifact(
        graph, TARGET, AscendOptions("emulated"), tmp_path / "b", golden=random_images(graph, 1, 0), source={}
    )
    files = write(artifact, (other.path / NAME).read_bytes())
    read_deploy_model(files)
    with pytest.raises(CorruptFileError, match="not of this network: it makes no conv1 of"):
        EmulatedNetwork(files)
