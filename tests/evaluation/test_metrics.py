"""Figures on logits small enough to count by hand."""

import numpy as np
import pytest

from squeezeedge.evaluation.metrics import Tally, agreement, sqnr_db, topk_accuracy

LOGITS = np.array([[3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 0, 0], [0, 5, 4, 1]], np.float32)


def test_topk_counts_rows_whose_label_is_among_the_largest() -> None:
    labels = np.array([0, 2, 1, 3])
    assert topk_accuracy(LOGITS, labels, 1) == 25.0  # ties rank by lower index: row 2 answers 0
    assert topk_accuracy(LOGITS, labels, 2) == 75.0
    assert topk_accuracy(LOGITS, labels, 9) == 100.0
    assert topk_accuracy(np.full((4, 4), np.nan, np.float32), labels, 1) == 0


def test_topk_is_unknown_without_labels_or_logits() -> None:
    assert topk_accuracy(LOGITS, None, 1) is None
    assert topk_accuracy(None, np.array([0]), 1) is None


def test_agreement_compares_the_largest() -> None:
    other = LOGITS.copy()
    other[0] = [0, 9, 0, 0]
    assert agreement(LOGITS, other) == 75.0


def test_sqnr_of_a_tenth_of_the_amplitude_is_20_db() -> None:
    reference = np.full((2, 3), 10, np.float32)
    assert sqnr_db(reference, reference + 1) == pytest.approx(20.0)
    assert sqnr_db(reference, reference) is None


def test_batches_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    logits, reference = rng.normal(size=(2, 9, 7)).astype(np.float32)
    labels = rng.integers(0, 7, 9)
    tally = Tally()
    for some in (slice(0, 4), slice(4, 4), slice(4, 9)):
        tally.add(logits[some], labels[some], reference[some])
    assert tally.images == 9
    assert (tally.top1, tally.top5) == (topk_accuracy(logits, labels, 1), topk_accuracy(logits, labels, 5))
    assert tally.agreement == agreement(logits, reference)
    assert tally.sqnr_db == pytest.approx(sqnr_db(reference, logits))
    unknown = Tally()
    unknown.add(logits, None, None)
    assert (unknown.top1, unknown.top5, unknown.agreement, unknown.sqnr_db) == (None,) * 4


def test_what_is_not_finite_agrees_with_nothing() -> None:
    rows = np.array([[1, 0], [np.nan, np.nan], [np.inf, 0], [1, 0]], np.float32)
    assert agreement(rows, rows) == 50
    assert agreement(np.ones((4, 2), np.float32), rows) == 50
