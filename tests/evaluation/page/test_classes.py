"""Accuracy by class, confusions, and which images are shown first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from squeezeedge.evaluation.answers import Answers, Ranked
from squeezeedge.evaluation.page.classes import (
    ClassAccuracy,
    Confusion,
    changed_images,
    class_accuracies,
    confusions,
    groups,
)


def ranked(*classes: int) -> Ranked:
    scores = np.linspace(0.1, 0.9, len(classes), dtype=np.float32)  # the last one is the surest
    return Ranked(np.array(classes), scores)


LABELS = np.array([0, 0, 0, 2, 2, 5])
FP32 = ranked(0, 0, 2, 2, 0, 5)
DEVICES = (ranked(0, 2, 2, 2, 2, 1), ranked(0, 2, 2, 2, 2, 1), ranked(0, 0, 2, 2, 0, 5))
ANSWERS = Answers(np.arange(6), LABELS, FP32, DEVICES, (np.ones(6),) * 3)
GROUPED = groups(["cpu", "cuda", "other"], ANSWERS)


def test_devices_that_answer_alike_are_one_group() -> None:
    assert [group.name for group in GROUPED] == ["cpu, cuda", "other"]


def test_the_worst_classes_come_first() -> None:
    assert class_accuracies(ANSWERS, GROUPED) == [
        ClassAccuracy(5, 1, 1, (0, 1)),
        ClassAccuracy(0, 3, 2, (1, 2)),
        ClassAccuracy(2, 2, 1, (2, 1)),
    ]
    assert class_accuracies(replace(ANSWERS, labels=None), GROUPED) == []
    assert class_accuracies(replace(ANSWERS, fp32=None), GROUPED)[0].fp32 is None


def test_the_most_confused_pairs_come_first() -> None:
    assert confusions(ANSWERS, GROUPED[0], 9) == [Confusion(0, 2, 2, 3, 1), Confusion(5, 1, 1, 1, 0)]
    assert confusions(ANSWERS, GROUPED[0], 1) == [Confusion(0, 2, 2, 3, 1)]
    assert confusions(replace(ANSWERS, fp32=None), GROUPED[0], 1) == [Confusion(0, 2, 2, 3, None)]
    assert confusions(replace(ANSWERS, labels=None), GROUPED[0], 9) == []


def test_changed_images() -> None:
    assert changed_images(ANSWERS, GROUPED).tolist() == [5, 1, 4], "5 and 1 become wrong, 4 becomes right"
    assert changed_images(replace(ANSWERS, labels=None), GROUPED).tolist() == [5, 4, 1], "where fp32 was surest"
    assert changed_images(replace(ANSWERS, fp32=None), GROUPED).tolist() == []
    assert changed_images(ANSWERS, GROUPED[1:]).tolist() == []
