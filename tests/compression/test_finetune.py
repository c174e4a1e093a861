"""Fine-tuning: what it keeps, what it makes better, and when it is not taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from squeezeedge.calib.selection import calibration_images
from squeezeedge.compression import finetune as module
from squeezeedge.compression.finetune import Lesson, divergence, finetune, finetuned, more_images
from squeezeedge.compression.judge import graph_logits
from squeezeedge.errors import UsageError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.integer import Conv, Head
from squeezeedge.model import Model
from squeezeedge.quantization import pipeline
from tests.quantization.networks import PREPROCESSING, FloatNet, natural_images

SIZE = (6, 6)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are far from where they should be, in steps, which are those of a graph that is not compressed."""
    monkeypatch.setattr(module, "RATE", 0.5)


@pytest.fixture(scope="module")
def model() -> Model:
    net = FloatNet(1, SIZE)
    return Model(
        "net",
        replace(PREPROCESSING, size=SIZE),
        (),
        7,
        {},
        floating=net.classifier(net.relu(net.conv("image", 8, 3, 2))),
    )


@pytest.fixture(scope="module")
def lesson(model: Model) -> Lesson:
    return Lesson.answered(model, natural_images(48, SIZE))


@pytest.fixture(scope="module")
def coarse(model: Model, lesson: Lesson) -> IntegerGraph:
    """All weights are multiples of 24, most of them 0."""
    assert model.floating is not None
    graph = pipeline.quantize(model.floating, model.preprocessing, lesson.pixels, name="net")
    nodes = [
        replace(node, weight=(node.weight / 24).round().astype(np.int8) * np.int8(24))
        if isinstance(node, Conv | Head)
        else node
        for node in graph.nodes
    ]
    return IntegerGraph("net", tuple(nodes), graph.preprocessing, ())


def test_training_goes_towards_the_answers_and_zeros_stay(coarse: IntegerGraph, lesson: Lesson) -> None:
    trained = list(finetuned(coarse, lesson, epochs=6))
    assert len(trained) == 6
    before, after = (
        divergence(lesson.reference, graph_logits(graph, lesson.pixels)) for graph in (coarse, trained[-1])
    )
    assert after < 0.9 * before
    for old, new in zip(coarse.nodes, trained[-1].nodes, strict=True):
        assert isinstance(old, Conv | Head) and isinstance(new, Conv | Head)
        assert not new.weight[old.weight == 0].any() and (old.weight == 0).any()
        assert np.array_equal(old.scale, new.scale)
    again = next(finetuned(coarse, lesson, epochs=6))
    assert again.digest() == trained[0].digest()


def test_what_is_better_on_other_images_and_small_enough_is_kept(coarse: IntegerGraph, lesson: Lesson) -> None:
    learned, judged = (
        Lesson(lesson.pixels[12:], lesson.reference[12:]),
        Lesson(lesson.pixels[:12], lesson.reference[:12]),
    )
    kept, found = finetune(coarse, learned, judged, lambda graph: 100, 100, epochs=5)
    assert found.kept and kept.digest() != coarse.digest() and (found.learned, found.judged) == (36, 12)
    logits = graph_logits(kept, judged.pixels)
    assert found.after.divergence == divergence(judged.reference, logits) < found.before.divergence
    assert found.after.agreement >= found.before.agreement and found.to_json()["after"]["bytes"] == 100
    assert str(found).startswith("fine-tuned: on 12 images that were not learned, bytes 100 -> 100, divergence")
    same, large = finetune(coarse, learned, judged, lambda graph: 100, 99, epochs=1)
    assert same is coarse and not large.kept and "did not help" in str(large)


def test_it_is_not_taken_where_it_does_not_help(coarse: IntegerGraph, lesson: Lesson) -> None:
    own = Lesson(lesson.pixels, graph_logits(coarse, lesson.pixels))  # nothing is better than equal
    wrong = Lesson(lesson.pixels, -lesson.reference)
    same, found = finetune(coarse, wrong, own, lambda graph: 1, 1, epochs=2)
    assert same is coarse and not found.kept and found.before.divergence == pytest.approx(0, abs=1e-6)


def test_images_to_learn_are_others_than_those_that_calibrate_or_judge() -> None:
    chosen = calibration_images(natural_images(40, SIZE), count=10)
    learned, judging = more_images(chosen)
    assert (len(learned), len(judging)) == (23, 7)
    assert sorted([*chosen.indices, *learned.indices, *judging.indices]) == list(range(40))
    with pytest.raises(
        UsageError, match=r"has 11 images beside the 29 to calibrate on, .* needs at least 12: give more"
    ):
        more_images(calibration_images(natural_images(40, SIZE), count=29))
