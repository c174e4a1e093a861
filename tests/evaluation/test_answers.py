"""The best class and its probability, of logits in batches."""

import numpy as np
import pytest

from squeezeedge.evaluation.answers import AnswerLog


def test_best_classes_of_batches() -> None:
    log = AnswerLog()
    log.add(np.array([[0, 1, 1], [-5, 0, 800]], np.float32))
    log.add(np.array([[2, 2, 2]], np.float32))
    found = log.ranked()
    assert found.classes.tolist() == [1, 2, 0], "of equal ones the first"
    assert found.scores == pytest.approx([np.e / (1 + 2 * np.e), 1, 1 / 3])
    assert found.classes.dtype == np.int64 and found.scores.dtype == np.float32


def test_logits_that_are_not_finite() -> None:
    log = AnswerLog()
    log.add(np.array([[np.inf, 0], [np.nan, 1]], np.float32))
    assert np.isnan(log.ranked().scores).all()
