"""``squeezeedge classify``: answers of an artifact, of fp32 and of the oracle, one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from squeezeedge.artifact import Artifact
from squeezeedge.calib.arrays import read_digits
from squeezeedge.errors import CorruptFileError, UsageError
from squeezeedge.model import Model
from tests.cli.conftest import Invoke


@pytest.fixture(scope="module")
def artifact(small_artifact: Artifact) -> Path:
    return small_artifact.path


@pytest.fixture(scope="module")
def pictures(small_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.fromarray(small_artifact.golden[number]).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"no image")
    return folder


def read_answer(text: str) -> tuple[str, str]:
    """(class, image) of an answer that names one class."""
    image, answer = text.splitlines()
    percent, _, label = answer.strip().partition(" %  ")
    assert 0 < float(percent) <= 100
    return label, image


def test_an_artifact(invoke: Invoke, small_artifact: Artifact, pictures: Path) -> None:
    result = invoke("classify", small_artifact.path, pictures, "--top", "2", "--threads", "1", "--json")
    assert result.exit_code == 0, result.output
    *answers, last = map(json.loads, result.stdout.splitlines())
    assert last == {"unreadable": 1, "images": 4}
    assert [answer["image"] for answer in answers] == [str(pictures / f"{number}.png") for number in range(3)]
    with small_artifact.open() as device:
        expected = list(device.classify(small_artifact.golden[:3], top=2))
    for answer, ranked in zip(answers, expected, strict=True):
        assert (answer["device"], answer["kind"]) == ("cpu", "hardware") and answer["latency_ms"] > 0
        assert answer["classes"] == [one.index for one in ranked.top]
        assert answer["labels"] == [one.label for one in ranked.top] and len(answer["labels"]) == 2
        assert answer["scores"] == [one.score for one in ranked.top]
    assert "bad.png: not an image" in result.stderr and "1 of 4 images cannot be read" in result.stderr
    assert "run by cpu (hardware)" in result.stderr


def test_people_read_names_and_percents(invoke: Invoke, small_artifact: Artifact, pictures: Path) -> None:
    result = invoke("classify", small_artifact.path, pictures / "0.png", "--top", "1")
    best = int(small_artifact.graph.logits(small_artifact.golden_sums)[0].argmax())
    assert read_answer(result.stdout) == (f"class {best}", str(pictures / "0.png"))


def test_an_integer_graph_is_run_by_the_oracle(invoke: Invoke, small_artifact: Artifact, pictures: Path) -> None:
    result = invoke("classify", small_artifact.path / "model.sqe", pictures / "0.png", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    logits = small_artifact.graph.logits(small_artifact.golden_sums)[0]
    assert (answer["device"], answer["kind"]) == ("oracle", "reference") and "run by oracle" in result.stderr
    assert answer["logits"] == np.sort(logits)[::-1][: len(answer["logits"])].tolist()


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_once")
def test_a_float_network_is_run_by_fp32(invoke: Invoke, digits_network: Model, tmp_path: Path) -> None:
    digits = read_digits("test")
    Image.fromarray(digits.images[0]).save(tmp_path / "0.png")
    result = invoke("classify", "squeezenet1_1_digits", tmp_path / "0.png", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["device"], answer["kind"]) == ("fp32", "reference") and "run by fp32" in result.stderr
    assert digits.labels is not None and answer["labels"][0] == digits.classes[int(digits.labels[0])]


def test_classes_without_names(invoke: Invoke, program: Path) -> None:
    images = program.parent / "images.npz"
    result = invoke("classify", program, images, "--device", "vta-sim", "--top", "1", "--json")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["image"] for answer in answers] == list(range(6))
    assert {answer["labels"] for answer in answers} == {None} and {answer["kind"] for answer in answers} == {
        "simulator"
    }


def test_images_that_cannot_be_read(invoke: Invoke, artifact: Path, pictures: Path) -> None:
    strict = invoke("classify", artifact, pictures / "bad.png", pictures / "0.png", "--strict")
    assert isinstance(strict.exception, CorruptFileError) and not strict.stdout
    most = invoke("classify", artifact, pictures / "bad.png", pictures / "bad.png", pictures / "0.png", "--top", "1")
    assert isinstance(most.exception, CorruptFileError) and str(most.exception).startswith("2 of 3 images cannot be")
    assert read_answer(most.stdout)[1] == str(pictures / "0.png"), "others are answered"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.png",), "no such image file"),
        (("--device", "vta"), "has no device 'vta'"),
        (("--network", "squeezenet1_0"), "is compiled already; options of a model are for a MODEL"),
    ],
)
def test_what_is_refused(
    invoke: Invoke, artifact: Path, pictures: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = invoke("classify", artifact, pictures / "0.png", *arguments)
    assert isinstance(result.exception, UsageError) and message in str(result.exception), result.output


@pytest.mark.parametrize("option", [("--device", "cpu"), ("--threads", "2"), ("--board", "a@b"), ("--timeout", "3")])
def test_a_model_has_no_device(invoke: Invoke, pictures: Path, option: tuple[str, str]) -> None:
    result = invoke("classify", "squeezenet1_1_digits", pictures / "0.png", *option)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).startswith(f"{option[0]}: squeezenet1_1_digits is no artifact; compile it")


@pytest.mark.slow
def test_a_checkpoint_that_fits_several_networks_is_not_guessed(
    invoke: Invoke, shared_file: Callable[[str], Path], pictures: Path
) -> None:
    weights = shared_file("weights/squeezenet1_1-imagenet.pth")
    result = invoke("classify", weights, pictures / "0.png")
    assert isinstance(result.exception, UsageError) and "choose with --network" in str(result.exception), result.output
    result = invoke("classify", weights, pictures / "0.png", "--network", "squeezenet1_1", "--json")
    assert not any(name.isdecimal() for name in json.loads(result.stdout)["labels"]), "ImageNet's names"
