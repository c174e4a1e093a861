"""The library as a user has it: load, quantize, compile, open, classify, evaluate."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import squeezeedge as sq
from squeezeedge.calib.datasets import open_dataset
from squeezeedge.calib.selection import calibration_images
from squeezeedge.graph.oracle import run
from squeezeedge.graph.sqe import read_sqe
from squeezeedge.networks.registry import default_weights
from tests.calib.images import write_folder, write_tar
from tests.graphs import random_graph, random_images

COUNT = 6


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Some images of the embedded data set, uint8 [COUNT, 8, 8, 3]."""
    images = open_dataset("digits", "calib").images
    assert isinstance(images, np.ndarray)
    return images[:COUNT]


@pytest.fixture(scope="module")
def files(digits: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    for path, pixels in zip(paths, digits, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture(scope="module")
def network() -> sq.Model:
    return sq.load()


@pytest.fixture(scope="module")
def model(network: sq.Model, digits: NDArray[np.uint8]) -> sq.Model:
    return sq.quantize(network, digits)


@pytest.fixture(scope="module")
def artifact(model: sq.Model, tmp_path_factory: pytest.TempPathFactory) -> sq.Artifact:
    return sq.compile(model, "cpu", tmp_path_factory.mktemp("library") / "digits", isa="generic")


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, squeezeedge as sq; assert set(sq.__all__) <= set(dir(sq)); "
        "print([m for m in ('torch', 'tvm', 'numpy', 'onnx', 'PIL', 'typer') if m in sys.modules]); "
        "print(sq.load.__module__, 'tvm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "squeezeedge.model False"]


def test_every_name_is_there() -> None:
    for name in sq.__all__:
        assert getattr(sq, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sq.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_load(network: sq.Model, tmp_path: Path) -> None:
    assert network.name == "squeezenet1_1_digits" and network.classes == 10 and network.integer is None
    by_file = sq.load(default_weights())
    assert by_file.origin["sha256"] == network.origin["sha256"]
    named = sq.load("squeezenet1_1_digits", weights=default_weights(), labels=[f"digit {i}" for i in range(10)])
    assert named.labels[3] == "digit 3"
    (tmp_path / "names.txt").write_text("".join(f"n{i}\n" for i in range(10)))
    assert sq.load(labels=tmp_path / "names.txt").labels[9] == "n9"
    refused: list[tuple[dict[str, Any], str]] = [
        ({"labels": ["a"]}, "has 10 classes, 1 names were given"),
        ({"model": "nothing"}, "neither a file nor a network"),
        ({"weights": "a.pth", "pretrained": True}, "exclude each other"),
    ]
    for arguments, reason in refused:
        with pytest.raises(sq.UsageError, match=reason):
            sq.load(**arguments)


def test_every_kind_of_images_gives_the_same_graph(
    network: sq.Model, model: sq.Model, digits: NDArray[np.uint8], files: list[Path], tmp_path: Path
) -> None:
    members = {path.name: path.read_bytes() for path in files}
    np.savez(tmp_path / "images.npz", images=digits)
    kinds: dict[str, Callable[[], object]] = {
        "paths": lambda: files,
        "texts": lambda: map(str, files),
        "folder": lambda: write_folder(tmp_path / "folder", members),
        "archive": lambda: write_tar(tmp_path / "images.tar", members),
        "array file": lambda: tmp_path / "images.npz",
        "pixels": lambda: list(digits),
        "PIL": lambda: (Image.fromarray(pixels) for pixels in digits),
        "selection": lambda: calibration_images(digits),
    }
    assert model.integer is not None and model.floating is network.floating
    pixels = calibration_images(digits).load(network.preprocessing)
    assert model.golden is not None and (model.golden == pixels[:4]).all()
    # Quantizing takes seconds: that the pixels are equal says the same, and one kind is tried.
    for name, make in kinds.items():
        selection = calibration_images(make(), count=COUNT)  # type: ignore[arg-type]
        assert (selection.load(network.preprocessing) == pixels).all(), name
    again = sq.quantize(network, (Image.fromarray(pixels) for pixels in digits))
    assert again.integer is not None and again.integer.digest() == model.integer.digest()


def test_what_quantize_refuses(model: sq.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "digits.sqe")
    saved = sq.load(tmp_path / "digits.sqe")
    assert model.integer is not None and saved.integer is not None
    assert saved.integer.digest() == model.integer.digest() == read_sqe(tmp_path / "digits.sqe").digest()
    with pytest.raises(sq.UsageError, match="is an integer graph already"):
        sq.quantize(saved, "digits")
    with pytest.raises(sq.UsageError, match="no such file or folder"):
        sq.quantize(sq.load(), tmp_path / "nowhere")
    with pytest.raises(sq.UsageError, match="quantize the model first"):
        sq.load().save(tmp_path / "float.sqe")


def test_classify(artifact: sq.Artifact, model: sq.Model, digits: NDArray[np.uint8], files: list[Path]) -> None:
    graph = artifact.graph
    logits = graph.logits(run(graph, calibration_images(digits).load(graph.preprocessing)))
    with artifact.open("cpu") as device:
        assert (device.name, device.kind) == ("cpu", "hardware")
        answers = list(device.classify(files, top=3))
        assert [answer.index for answer in answers] == logits.argmax(1).tolist()
        assert [answer.image for answer in answers] == list(map(str, files))
        for answer, row in zip(answers, logits, strict=True):
            assert answer.label == model.labels[answer.index] and len(answer.top) == 3
            assert [best.index for best in answer.top] == np.argsort(-row, kind="stable")[:3].tolist()
            weights = np.exp(row - row.max())
            assert answer.score == pytest.approx(weights.max() / weights.sum())
            assert answer.logit == row.max() and answer.latency_ms > 0
        others = (digits, list(digits), (Image.fromarray(pixels) for pixels in digits), calibration_images(digits))
        for images in others:
            found = list(device.classify(images, top=3))
            assert [answer.top for answer in found] == [answer.top for answer in answers]
            assert [answer.image for answer in found] == list(range(COUNT))
        assert sum(best.score for best in next(device.classify(digits[0], top=99)).top) == pytest.approx(1)
        assert device.run(calibration_images(digits).load(graph.preprocessing)).sums.shape == (COUNT, 10)
        with pytest.raises(sq.UsageError, match=r"uint8 \[2, 8, 8, 3\]; the network takes uint8 \[N, 96, 96, 3\]"):
            device.run(digits[:2])
        with pytest.raises(sq.UsageError, match="top 0: must be at least 1"):
            next(device.classify(digits, top=0))
        with pytest.raises(sq.UsageError, match="no such image file"):
            next(device.classify("no.jpg"))


def test_a_camera_is_answered_as_it_goes(artifact: sq.Artifact, digits: NDArray[np.uint8]) -> None:
    taken: list[int] = []

    def camera() -> object:
        for number, pixels in enumerate(digits):
            taken.append(number)
            yield pixels

    with artifact.open() as device:
        answers = device.classify(camera())  # type: ignore[arg-type]
        next(answers)
        assert taken == [0]
        next(answers)
        assert taken == [0, 1]


def test_a_class_without_a_name_is_its_index(tmp_path: Path) -> None:
    graph = random_graph(3)
    assert not graph.labels
    artifact = sq.compile(graph, out=tmp_path / "net", isa="generic", golden=random_images(graph, 2, 0))
    assert artifact.reference() is None and artifact.labels == ()
    with artifact.open() as device:
        (answer,) = device.classify(random_images(graph, 1, 1))
    assert answer.label == str(answer.index)


def test_evaluate(artifact: sq.Artifact, network: sq.Model, tmp_path: Path) -> None:
    images = open_dataset("digits", "test")
    assert isinstance(images.images, np.ndarray) and images.labels is not None
    np.savez(tmp_path / "some.npz", images=images.images[:20], labels=images.labels[:20])
    report = sq.evaluate(artifact, tmp_path / "some.npz", "cpu", reference=network)
    (cpu,) = report.devices
    assert cpu.images == 20 and cpu.bit_exact and cpu.top1 is not None and cpu.fp32_top1 is not None
    assert cpu.agreement is not None and cpu.agreement >= 90
    assert "fp32" in str(report) and "bit-exact" in str(report) and str(tmp_path) in str(report)
    (values,) = report.to_json()
    assert values["device"] == "cpu" and values["latency_ms"]["min"] > 0 and values["threads"] >= 1
    embedded = sq.evaluate(artifact, limit=5)
    assert embedded.data == "digits" and embedded.devices[0].fp32_top1 is not None, "the embedded network"
    plain = sq.evaluate(artifact, images.images[:3], ["cpu"])
    assert plain.devices[0].top1 is None and plain.devices[0].agreement is not None


def test_what_evaluate_refuses(artifact: sq.Artifact, model: sq.Model, network: sq.Model, tmp_path: Path) -> None:
    graph = random_graph(3)
    other = sq.compile(graph, out=tmp_path / "net", isa="generic")
    images = random_images(graph, 2, 0)
    with pytest.raises(sq.UsageError, match="holds another integer graph than"):
        sq.evaluate([artifact, other], "digits")
    with pytest.raises(sq.UsageError, match="compiled for cpu, which --device vta-sim does not run"):
        sq.evaluate(artifact, "digits", "vta-sim")
    with pytest.raises(sq.UsageError, match="images to evaluate on are needed"):
        sq.evaluate(other)
    with pytest.raises(sq.UsageError, match="give the network that it was made of"):
        sq.evaluate(other, images, reference=network)
    model.save(tmp_path / "digits.sqe")
    with pytest.raises(sq.UsageError, match="the reference is an integer graph"):
        sq.evaluate(artifact, "digits", reference=sq.load(tmp_path / "digits.sqe"))
    with pytest.raises(sq.UsageError, match="no device was given"):
        sq.evaluate(artifact, "digits", [])
    with pytest.raises(sq.UsageError, match="no artifact was given"):
        sq.evaluate([], "digits")
    with pytest.raises(sq.UsageError, match="vta-sim does not run on another machine"):
        sq.evaluate(sq.compile(graph, "vta", tmp_path / "vta"), images, "vta-sim", board="me@there")


def test_what_compile_refuses(model: sq.Model, network: sq.Model, artifact: sq.Artifact, tmp_path: Path) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"target": "abacus"}, "no target 'abacus'"),
        ({"speed": 9}, "target cpu has no option 'speed'; it has isa, mtriple, mcpu, prefix, cc"),
        ({"isa": "mmx"}, "not known; there are: auto"),
        ({"out": artifact.path}, "exists already"),
        ({"out": tmp_path / "no" / "out"}, "its parent folder does not exist"),
        ({"golden": np.zeros((1, 8, 8, 3), np.uint8)}, r"they must be uint8 \[n, 96, 96, 3\]"),
        ({"golden": np.zeros((0, 96, 96, 3), np.uint8)}, "golden images are"),
    ]
    for arguments, reason in refused:
        with pytest.raises(sq.UsageError, match=reason):
            sq.compile(model, **({"out": tmp_path / "out"} | arguments))
    with pytest.raises(sq.UsageError, match="is not quantized"):
        sq.compile(network, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_artifact_opens_again(artifact: sq.Artifact, model: sq.Model) -> None:
    opened = sq.open_artifact(str(artifact.path))
    assert opened.graph.digest() == artifact.graph.digest() and opened.labels == model.labels
    assert opened.target.name == "cpu" and opened.model_bytes == artifact.model_bytes > 1e5
    assert model.golden is not None and (opened.golden == model.golden).all()
    reference = opened.reference()
    assert reference is not None and reference.float_logits is not None
    with pytest.raises(sq.UsageError, match="no device 'tpu'"), opened.open("tpu"):
        pass
