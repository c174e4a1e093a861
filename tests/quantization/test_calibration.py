"""The calibration images on their way through both networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from squeezeedge.errors import UsageError
from squeezeedge.graph import IMAGE, rules
from squeezeedge.quantization import calibration
from squeezeedge.quantization.calibration import Calibration, observe, pad_codes
from squeezeedge.quantization.folded import FoldedGraph, execute_folded
from tests.quantization.networks import PREPROCESSING, FloatNet, dense, folded, natural_images

PIXELS = natural_images(4, PREPROCESSING.size)


def grouped_graph(groups: int) -> FoldedGraph:
    net = FloatNet(0)
    return folded(net.classifier(net.relu(net.conv(IMAGE, 6, 3, 2, 1, groups))))


def test_an_image_is_taken_apart_by_group() -> None:
    """Rows of a group are those columns of a dense layer's rows that belong to its input channels."""
    wide, narrow = grouped_graph(1), grouped_graph(3)
    every = Calibration(wide, PIXELS).sample(wide.convolutions[0])
    samples = Calibration(narrow, PIXELS).sample(narrow.convolutions[0])
    count = 4 * 12 * 14
    assert every.rows.shape == (1, count, 27) and samples.rows.shape == (3, count, 9)
    assert every.targets.shape == (1, count, 6) and samples.targets.shape == (3, count, 2)
    torch.testing.assert_close(samples.rows, every.rows[0].reshape(count, 3, 9).transpose(0, 1), rtol=0, atol=0)


@pytest.mark.parametrize("groups", [1, 3])
def test_rows_and_targets_belong_together(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the inputs are exact, weights times rows are the targets; only some positions are taken, by parts."""
    monkeypatch.setattr(calibration, "PART_VALUES", 2 * 23 * 27 * 3)
    graph = grouped_graph(groups)
    conv = graph.convolutions[0]
    samples = Calibration(graph, PIXELS, rows=100).sample(conv)
    assert samples.rows.shape == (groups, 100, 27 // groups)
    weight = torch.from_numpy(conv.weight).reshape(groups, 6 // groups, -1)
    bias = torch.from_numpy(conv.bias).reshape(groups, 1, -1)
    exact = bool((conv.pad_value == np.rint(conv.pad_value)).all())  # the mean pixel is rounded in the rows
    torch.testing.assert_close(samples.rows @ weight.mT + bias, samples.targets, rtol=0, atol=1e-4 if exact else 0.05)


def test_grouping_changes_no_targets() -> None:
    net = FloatNet(0)
    floating = net.classifier(net.relu(net.conv(IMAGE, 6, 3, 2, 1, 3)))
    samples = []
    for graph in (folded(floating), folded(dense(floating))):
        samples.append(Calibration(graph, PIXELS).sample(graph.convolutions[0]))
    grouped, alike = (sample.targets.transpose(0, 1).flatten(1) for sample in samples)
    torch.testing.assert_close(grouped, alike, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(samples[0].range.peaks, samples[1].range.peaks, rtol=1e-5, atol=1e-5)


def test_wide_layers_of_many_groups_are_fitted_on_fewer_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "ROW_VALUES", 27 * 300)
    for groups, count in ((3, 300), (1, 32 * 27)):
        graph = grouped_graph(groups)
        expected = min(count, 4 * 12 * 14)
        assert Calibration(graph, PIXELS).sample(graph.convolutions[0]).rows.shape[1] == expected
    monkeypatch.setattr(calibration, "ROW_VALUES", 1)
    graph = grouped_graph(3)
    assert Calibration(graph, PIXELS).sample(graph.convolutions[0]).rows.shape[1] == 32 * 9


def test_observed_ranges_are_those_of_the_float_network() -> None:
    net = FloatNet(2)
    conv = net.conv(IMAGE, 4, 3)
    graph = folded(net.classifier(net.relu(net.add(conv, net.conv(IMAGE, 4, 3)))))
    ranges = observe(graph, Calibration(graph, PIXELS))
    assert set(ranges) == set(graph.scaled)
    with torch.no_grad():
        for node, value in execute_folded(graph, torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float()):
            if node.name in ranges:
                value = value.relu() if node.name in graph.rectified else value
                assert torch.equal(ranges[node.name].peaks[0], value.abs().amax((0, 2, 3)).double())


def test_values_are_dropped_after_their_last_reader() -> None:
    graph = grouped_graph(1)
    values = Calibration(graph, PIXELS)
    first = graph.convolutions[0]
    values.sample(first)
    assert set(values.codes) == {IMAGE} and set(values.values) == {first.name}
    values.store(first, iter([(slice(0, 4), torch.ones(4, 6, 12, 14))]))
    assert set(values.codes) == {first.name} and set(values.values) == {first.name}
    assert values.codes[first.name].dtype == torch.uint8


def test_pad_codes_are_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = grouped_graph(1).convolutions[0]
    assert pad_codes(conv).tolist() == np.rint(conv.pad_value).tolist()
    monkeypatch.setattr(rules, "Q_MAX", 100)
    assert pad_codes(conv).max() == 100


def test_mirrored_copies_are_calibrated_on_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = grouped_graph(1)
    conv = graph.convolutions[0]
    both = np.concatenate([PIXELS, PIXELS[:, :, ::-1]])
    expected, samples = (values.sample(conv) for values in (Calibration(graph, both), mirrored(graph)))
    assert torch.equal(samples.rows, expected.rows) and torch.equal(samples.range.peaks, expected.range.peaks)
    alone = mirrored(graph).count
    monkeypatch.setattr(calibration, "MOST_MIRRORED", 2 * len(PIXELS) - 1)
    assert (alone, mirrored(graph).count) == (2 * len(PIXELS), len(PIXELS))
    monkeypatch.undo()
    monkeypatch.setattr(calibration, "MEMORY", (2 * len(PIXELS) - 1) * calibration._kept_bytes(graph))
    assert mirrored(graph).count == len(PIXELS)


def mirrored(graph: FoldedGraph) -> Calibration:
    return Calibration(graph, PIXELS, mirror=True)


def test_bad_calibration_images(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = grouped_graph(1)
    with pytest.raises(UsageError, match="no images"):
        Calibration(graph, PIXELS[:0])
    with pytest.raises(ValueError, match="uint8"):
        Calibration(graph, PIXELS[:, 1:])
    monkeypatch.setattr(calibration, "MEMORY", 50_000)
    with pytest.raises(UsageError, match="use at most"):
        Calibration(graph, PIXELS)
