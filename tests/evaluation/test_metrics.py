"""Figures on logits small enough to count by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from squeezeedge.evaluation.metrics import (
    Tally,
    agreement,
    paired_interval,
    sqnr_db,
    sums_error,
    topk_accuracy,
    wilson_interval,
)

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


@pytest.mark.parametrize(("hits", "of"), [(0, 5), (5, 5), (99, 100), (545, 645)])
def test_the_interval_of_an_accuracy_is_scipys(hits: int, of: int) -> None:
    expected = binomtest(hits, of).proportion_ci(method="wilson")
    assert wilson_interval(hits, of) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_the_interval_of_a_difference() -> None:
    """Half an image more in each outcome, then Wald's interval: 8.5 and 2.5 discordant ones of 102."""
    variance = (8.5 + 2.5) / 102 - (6 / 102) ** 2
    half = norm.ppf(0.975) * (variance / 102) ** 0.5
    low, high = paired_interval(8, 2, 100) or (0, 0)
    assert (low, high) == pytest.approx((100 * (6 / 102 - half), 100 * (6 / 102 + half)))
    assert paired_interval(2, 8, 100) == pytest.approx((-high, -low))
    assert paired_interval(0, 0, 0) is None and wilson_interval(0, 0) is None


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    gained, lost, images = 0.06, 0.02, 200
    drawn = rng.multinomial(images, [gained, lost, 1 - gained - lost], 2000)
    held = [low <= 4.0 <= high for low, high in (paired_interval(a, b, images) or (0, 0) for a, b, _ in drawn.tolist())]
    assert 0.94 < np.mean(held) < 0.98


def test_what_changed_is_counted_in_pairs() -> None:
    reference = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    logits = np.eye(4, dtype=np.float32)[[0, 1, 3, 2]]
    tally = Tally()
    tally.add(logits, np.array([0, 3, 3, 3]), reference)
    assert (tally.changed, tally.top1, tally.top1_difference) == (2, 50.0, 0.0)
    assert tally.top1_difference_interval == paired_interval(1, 1, 4)
    assert tally.top1_interval == wilson_interval(2, 4)


def test_an_error_of_class_sums_is_a_share_of_the_largest() -> None:
    """In 64 bits: differences of int32 may not fit into them."""
    expected = np.array([[2**31 - 1, -4], [0, 1]], np.int32)
    assert sums_error(expected, expected) == 0
    assert sums_error(np.array([[-(2**31), -4], [0, 1]], np.int32), expected) == (2**32 - 1) / (2**31 - 1)
    assert sums_error(np.array([[3]], np.int32), np.array([[0]], np.int32)) == 3
