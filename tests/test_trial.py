"""Suspicion of a preprocessing: where it is right, and where nothing may be said."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from squeezeedge.calib.preprocess import Preprocessing
from squeezeedge.calib.statement import ASSUMED, NetworkInput, Resolved, Statement, of_preset, resolve
from squeezeedge.errors import SqueezeEdgeError
from squeezeedge.graph.float.graph import IMAGE, FloatConv, FloatGlobalAveragePool, FloatGraph, FloatRelu
from squeezeedge.trial import Answer, Reading, is_low, suspicion

CLASSES = 10
RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (CLASSES, 3)).astype(np.uint8)
LABELS = RNG.integers(0, CLASSES, 64)
PIXELS = np.broadcast_to(COLORS[LABELS][:, None, None], (64, 4, 4, 3)).copy()
BASE = of_preset(Preprocessing((4, 4), None), ASSUMED)
PRESENT = resolve(Statement(), BASE)


def graph(bias: float = 1e6, limit: float = float("inf")) -> FloatGraph:
    """Its first convolution gives the bias."""
    weight, biases = np.zeros((CLASSES, 3, 1, 1), np.float32), np.full(CLASSES, bias, np.float32)
    conv = FloatConv("conv", (IMAGE,), weight, biases, (1, 1), (0,) * 4)
    return FloatGraph(
        "net", (conv, FloatRelu("relu", ("conv",), limit), FloatGlobalAveragePool("mean", ("relu",))), (4, 4)
    )


def made_for(right: Resolved, present: Resolved = PRESENT, floating: FloatGraph | None = None) -> Reading:
    """A network that knows the classes' colours as it was trained on them; loaded for another preprocessing."""
    flipped = right.channel_order != present.channel_order

    def values(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        means: NDArray[np.float32] = preprocessing.normalize(images).mean((2, 3))
        return means

    def file_order(x: NDArray[np.float32], order: str) -> NDArray[np.float32]:
        return x[:, ::-1] if order == "bgr" else x

    known = file_order(values(right.preprocessing, COLORS[:, None, None]), right.channel_order)

    def answer(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = file_order(values(preprocessing, images), present.channel_order)
        near: NDArray[np.float32] = -((x[:, None] - known[None]) ** 2).sum(2)
        return near

    assert flipped or right.channel_order == present.channel_order
    return Reading(answer, floating or graph())


USUAL = {
    "Caffe BGR": Statement((104, 117, 123), None, 1, "bgr"),
    "0..255 RGB": Statement(scale=1),
    "[-1, 1] BGR": Statement((0.5,) * 3, (0.5,) * 3, channel_order="bgr"),
    "ImageNet BGR": Statement(channel_order="bgr"),
}


@pytest.mark.parametrize("name", ["Caffe BGR", "0..255 RGB"])
def test_the_right_one_is_found(name: str) -> None:
    right = resolve(USUAL[name], BASE)
    found = suspicion(made_for(right), PRESENT, PIXELS, LABELS, CLASSES)
    assert found is not None and found.better and found.tried[0].name == name and found.tried[0].right == 64
    text = str(found)
    assert f"with {name} it is right on 64 of 64; give `mean` " in text and "no more than chance (10 classes)" in text
    assert len(text.splitlines()) == 11 and found.to_json()["better"] == name
    # and what is told to be given makes it right
    assert suspicion(made_for(right, right), right, PIXELS, LABELS, CLASSES) is None


@pytest.mark.parametrize("name", list(USUAL))
@pytest.mark.parametrize("present", list(USUAL))
def test_orders_and_normalizations_are_tried_from_any_other(name: str, present: str) -> None:
    """Where the present one is wrong enough to be noticed, the right one is among the best."""
    right, now = resolve(USUAL[name], BASE), resolve(USUAL[present], BASE)
    found = suspicion(made_for(right, now), now, PIXELS, LABELS, CLASSES)
    assert (found is None) if name == present else (found is None or max(t.right for t in found.tried) == 64)


def test_nothing_is_said_of_what_is_not_clear() -> None:
    """Untrained networks, which answer few classes only."""
    found = None
    for seed in range(15):
        rng = np.random.default_rng(seed)
        weight = rng.normal(size=(3, CLASSES))
        images, labels = rng.integers(0, 256, (64, 4, 4, 3)).astype(np.uint8), rng.integers(0, CLASSES, 64)
        found = suspicion(Reading(linear(weight), graph()), PRESENT, images, labels, CLASSES) or found
        assert found is None or not found.better, seed
    assert "none of the usual preprocessings is clearly better" in str(found)


def linear(weight: NDArray[np.float64]) -> Answer:
    def answer(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers: NDArray[np.float32] = (preprocessing.normalize(images).mean((2, 3)) @ weight).astype(np.float32)
        return answers

    return answer


@pytest.mark.parametrize("better", [True, False])
def test_above_chance_only_what_is_clearly_better_is_told(better: bool) -> None:
    """A network of 100 classes that is right on 5 of 64 images is a poor one, or gets the wrong preprocessing."""
    right, pixels = resolve(USUAL["0..255 RGB"], BASE), RNG.integers(0, 256, (64, 4, 4, 3)).astype(np.uint8)

    def answer(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        known = better and np.allclose(preprocessing.std, right.preprocessing.std)
        places = [next((n for n, one in enumerate(pixels) if (one == image).all()), 99) for image in images]
        return np.eye(100, dtype=np.float32)[[LABELS[n] if n < 64 and (known or n % 13 == 0) else 99 for n in places]]

    found = suspicion(Reading(answer, graph()), PRESENT, pixels, LABELS, 100)
    if not better:
        assert found is None
        return
    assert found is not None and found.better and (found.right, found.tried[0].right) == (5, 64)
    assert str(found).startswith(
        "fp32 is right on 5 of 64 labelled images, which is few; the preprocessing is the suspect"
    )


def test_images_of_one_class_prove_nothing() -> None:
    def answer(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        one = 3 if preprocessing.std[0] < 0.01 else 5  # one class, whatever the image; another at 0..255
        return np.eye(CLASSES, dtype=np.float32)[[one] * len(images)]

    found = suspicion(Reading(answer, graph()), PRESENT, PIXELS, np.full(64, 3), CLASSES)
    assert found is not None and found.tried[0].right == 64 and not found.better


def test_few_images_and_networks_that_work_are_not_suspect() -> None:
    looked: list[int] = []
    right = made_for(PRESENT)

    def answer(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        looked.append(len(images))
        return right.answer(preprocessing, images)

    assert suspicion(Reading(answer, graph()), PRESENT, PIXELS, LABELS, CLASSES) is None
    assert looked == [8], "a few images clear it"
    wrong = made_for(resolve(USUAL["Caffe BGR"], BASE))
    assert suspicion(wrong, PRESENT, PIXELS[:4], LABELS[:4], CLASSES) is None, "too few to tell"
    assert suspicion(wrong, PRESENT, PIXELS, None, CLASSES) is None, "not labelled"


def test_first_activations() -> None:
    for floating, reason in (
        (graph(-1.0), "100.0 % of what conv, the first convolution, makes of the images is cut by its ReLU"),
        (graph(9.0, 6.0), "100.0 % of what conv, the first convolution, makes of the images reaches its limit of 6"),
    ):
        right = resolve(USUAL["Caffe BGR"], BASE)
        found = suspicion(made_for(right, floating=floating), PRESENT, PIXELS, None, CLASSES)
        assert found is not None and str(found).startswith(f"{reason}; check the preprocessing") and not found.tried
        found = suspicion(made_for(right, floating=floating), PRESENT, PIXELS, LABELS, CLASSES)
        assert found is not None and found.better and found.reason == reason


def test_a_network_that_overflows_is_right_on_nothing() -> None:
    def answer(preprocessing: Preprocessing, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if preprocessing.std[0] < 0.01:
            raise SqueezeEdgeError("not finite")
        return np.zeros((len(images), CLASSES), np.float32)

    labels = np.where(np.arange(64) % 2, 1, 2)
    found = suspicion(Reading(answer, graph()), PRESENT, PIXELS, labels, CLASSES)
    assert found is not None and not found.better and found.tried[0].right == 0


def test_gray_networks() -> None:
    present = resolve(Statement(), BASE, NetworkInput(gray=True))
    reading = Reading(made_for(PRESENT).answer, graph(), NetworkInput(gray=True))
    found = suspicion(reading, present, PIXELS // 2, (LABELS + 1) % CLASSES, CLASSES)
    if found is not None:
        assert {one.name.rpartition(" ")[2] for one in found.tried} == {"Gray"}


@pytest.mark.parametrize(
    ("right", "images", "classes", "expected"),
    [
        (0, 64, 1000, True),
        (4, 64, 1000, True),
        (12, 64, 1000, False),
        (6, 64, 10, True),
        (20, 64, 10, False),
        (0, 8, 10, False),
        (32, 64, 2, False),
        (500, 1000, 2, True),
        (100, 10_000, 100, True),
    ],
)
def test_low(right: int, images: int, classes: int, expected: bool) -> None:
    assert is_low(right, images, classes) is expected
