"""``squeezeedge validate``: fp32 accuracy of every kind of checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from squeezeedge.errors import UsageError
from squeezeedge.graph.sqe import write_sqe
from squeezeedge.networks.checkpoints import read_checkpoint
from tests.cli.conftest import Invoke
from tests.graphs import random_graph
from tests.networks.checkpoints.test_mindspore import parameter, saved


@pytest.mark.slow
def test_embedded_network(invoke: Invoke) -> None:
    result = invoke("validate", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["images"] == 400 and report["fp32_top1"] >= 99


def test_an_integer_graph_has_no_fp32_accuracy(invoke: Invoke, tmp_path: Path) -> None:
    write_sqe(random_graph(0), tmp_path / "net.sqe")
    result = invoke("validate", tmp_path / "net.sqe")
    assert isinstance(result.exception, UsageError) and "use `squeezeedge eval`" in str(result.exception)


@pytest.mark.shared
@pytest.mark.slow
def test_a_compressed_network(invoke: Invoke, shared_file: Callable[[str], Path]) -> None:
    weights, data = shared_file("weights/squeezenet1_0-deepcompression.net"), shared_file("data/imagenet700.tar")
    result = invoke("validate", weights, "--data", data, "--limit", "100", "--json")
    assert result.exit_code == 0, result.output
    assert 45 < json.loads(result.stdout)["fp32_top1"] < 75


@pytest.mark.shared
@pytest.mark.slow
def test_torchvisions_weights_in_a_file_of_mindspore(
    invoke: Invoke, tmp_path: Path, shared_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fit MindCV's network, too, which pads other pixels; labelled images show that it is not the one."""
    monkeypatch.setattr("squeezeedge.cli.commands.validate.TRIED", 32)
    state = read_checkpoint(shared_file("weights/squeezenet1_1-imagenet.pth")).state
    parts = [parameter(name, list(tensor.shape), tensor.numpy().tobytes()) for name, tensor in state.items()]
    path = saved(tmp_path / "weights.ckpt", *parts)
    given = ("--data", shared_file("data/imagenet700.tar"), "--limit", "20", "--json")
    for options, network in (((), "squeezenet1_1"), (("--network", "squeezenet1_1_mindcv"), "squeezenet1_1_mindcv")):
        result = invoke("validate", path, *given, *options)
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        assert (report["model"], report["images"]) == (network, 20)
        assert ("right of 32 labelled images: squeezenet1_1_mindcv 19" in result.stderr) == (not options)
        left_out = "32 images of 709 served to choose the network and are left out; 20 others are validated on"
        assert (left_out in result.stderr) == (not options)
