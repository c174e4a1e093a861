"""The artifact's run.py and the target's devices, with fake runtimes (the emulation behind ais_bench and acl)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from squeezeedge.errors import SqueezeEdgeError, UnavailableError
from squeezeedge.graph import IntegerGraph
from squeezeedge.graph.oracle import execute, run
from squeezeedge.targets.ascend.device import read_trace
from squeezeedge.targets.device.run import Artifact
from squeezeedge.targets.registry import get_target
from squeezeedge.targets.remote import COPIES
from squeezeedge.targets.session import open_session
from tests.targets.ascend.conftest import HERE, Make, Outcome, forget_runtimes
from tests.targets.devices import FakeBoard, answers

TARGET = get_target("ascend")
BOTH = ["acl", pytest.param("ais_bench", marks=pytest.mark.slow)]
Network = tuple[IntegerGraph, NDArray[np.uint8]]
Script = Callable[..., Outcome]
BOARD = "user@ascend"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", BOTH)
def test_images(make: Make, atc: Path, network: Network, script: Script, tmp_path: Path, runtime: str) -> None:
    artifact, (graph, images) = make(), network
    np.save(tmp_path / "images.npy", images)
    Image.fromarray(images[3]).save(tmp_path / "one.png")
    files = (tmp_path / "images.npy", tmp_path / "one.png")
    outcome = script(artifact, *files, "--top", 2, "--sums", runtimes=[runtime])
    assert outcome.code == 0, outcome.errors
    printed = outcome.records
    assert [answer["index"] for answer in printed] == [0, 1, 2, 3, 4, 5, 0]
    check = script(artifact, runtimes=[runtime]).records[0]
    assert (check["golden"], check["runtime"]) == (2, runtime)
    assert 0 < check["differing_sums"] <= 24 and 0 < check["largest_error"] < 2**-9, "the head is in fp16"
    assert printed[6]["sums"] == printed[3]["sums"] and printed[6]["image"].endswith("one.png")
    sums = np.array([answer["sums"] for answer in printed[:6]])
    expected = answers(TARGET, artifact, images, "ascend-emulation")
    np.testing.assert_array_equal(sums, expected.sums)
    assert np.abs(sums - run(graph, images)).max() < 2**-8 * np.abs(sums).max()
    best = np.argsort(-graph.logits(sums.astype(np.int32)), 1)[:, :2]
    assert [answer["classes"] for answer in printed[:6]] == best.tolist()
    assert all(answer["latency_ms"] > 0 and answer["labels"] is None for answer in printed)


@pytest.mark.slow
def test_ais_bench_is_preferred_and_acl_gives_floats_only(make: Make, atc: Path, script: Script) -> None:
    artifact = make()
    assert script(artifact, runtimes=["acl", "ais_bench"]).records[0]["runtime"] == "ais_bench"
    outcome = script(artifact, runtimes=["acl"], FAKE_TYPE="7")
    assert outcome.code == 1 and "neither float32 nor float16" in outcome.errors


def test_on_the_device_s_own_processor(make: Make, atc: Path, script: Script) -> None:
    outcome = script(make(), runtimes=["acl"], FAKE_RUN_MODE="0")
    assert outcome.code == 0, outcome.errors
    assert outcome.records[0]["largest_error"] < 2**-9


@pytest.mark.slow
def test_nothing_to_run_on(make: Make, atc: Path, network: Network) -> None:
    """As a program of its own: it needs nothing of this package."""
    artifact = make()
    command = [sys.executable, "-P", str(artifact / "run.py")]
    result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert result.returncode == 3 and not result.stdout
    for text in ("ais_bench: No module named", "acl: No module named", "npu-smi: not found", "/dev/davinci*: "):
        assert text in result.stderr
    with pytest.raises(
        UnavailableError, match=r"looked for .*ais_bench.*acl.*npu-smi.*davinci.*`device` ascend-emulation"
    ):
        answers(TARGET, artifact, network[1], "ascend")


@pytest.mark.parametrize(("runtime", "text"), [("acl", "can't open device 0"), ("ais_bench", "on device 0: FAKE")])
def test_a_device_that_does_not_open(make: Make, atc: Path, script: Script, runtime: str, text: str) -> None:
    outcome = script(make(), runtimes=[runtime], FAKE_FAULT="no-device")
    assert outcome.code == 3 and text in outcome.errors and "npu-smi: not found" in outcome.errors


@pytest.mark.parametrize("runtime", BOTH)
def test_files_that_are_missing_or_changed(make: Make, atc: Path, script: Script, runtime: str) -> None:
    artifact = make()
    (artifact / "model.om").write_bytes(b"FAKE other")
    outcome = script(artifact, runtimes=[runtime])
    assert outcome.code == 1 and "model.om: differs from its checksum" in outcome.errors
    (artifact / "model.om").unlink()
    outcome = script(artifact, runtimes=[runtime])
    assert outcome.code == 3 and "run `sh atc.sh` where CANN is installed" in outcome.errors
    (artifact / "manifest.json").write_text("{}")
    outcome = script(artifact, runtimes=[runtime])
    assert outcome.code == 1 and "manifest.json: damaged" in outcome.errors


@pytest.mark.parametrize("runtime", BOTH)
def test_a_model_that_is_none(make: Make, atc: Path, script: Script, runtime: str) -> None:
    """Converted later, so the manifest knows nothing of it."""
    atc.rename(atc.with_name("hidden"))
    artifact = make()
    (artifact / "model.om").write_bytes(b"something else")
    outcome = script(artifact, runtimes=[runtime])
    assert outcome.code == 3 and f"{runtime} can't load" in outcome.errors


@pytest.mark.parametrize("runtime", BOTH)
def test_wrong_sums(make: Make, atc: Path, script: Script, runtime: str) -> None:
    outcome = script(make(), runtimes=[runtime], FAKE_FAULT="wrong")
    assert outcome.code == 4 and "class sums differ from the golden ones, by" in outcome.errors
    assert outcome.records[0]["largest_error"] > 2**-7


def test_failures_while_running(make: Make, atc: Path, script: Script, tmp_path: Path) -> None:
    """The fake acl would complain if memory were not given back."""
    artifact = make()
    outcome = script(artifact, runtimes=["acl"], FAKE_FAULT="hang-up")
    assert outcome.code == 1 and "acl: execute failed with error 507011" in outcome.errors
    np.save(tmp_path / "wrong.npy", np.zeros((1, 5, 5, 3), np.uint8))
    outcome = script(artifact, tmp_path / "wrong.npy", runtimes=["acl"])
    assert outcome.code == 1 and "images must be uint8 [N, 48, 48, 3]" in outcome.errors


@pytest.mark.parametrize("runtime", BOTH)
def test_through_the_target(
    make: Make, atc: Path, network: Network, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    artifact, images = make(), network[1]
    monkeypatch.syspath_prepend(str(HERE / f"fake_{runtime}"))
    try:
        result = answers(TARGET, artifact, images, "ascend")
        assert result.metrics == {"runtime": runtime} and result.latency_ms.shape == (6,)
        np.testing.assert_array_equal(result.sums, answers(TARGET, artifact, images, "ascend-emulation").sums)
        (artifact / "model.om").write_bytes(b"FAKE other")
        with pytest.raises(SqueezeEdgeError, match="differs from its checksum"):
            answers(TARGET, artifact, images, "ascend")
    finally:
        forget_runtimes()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", BOTH)
def test_tensors_of_a_debug_model(
    make: Make, atc: Path, network: Network, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    """Its answers are those of the model without further outputs, here and in the emulation."""
    plain, artifact, (graph, images) = make("plain"), make(debug=True), network
    monkeypatch.syspath_prepend(str(HERE / f"fake_{runtime}"))
    try:
        result = answers(TARGET, artifact, images, "ascend")
        np.testing.assert_array_equal(result.sums, answers(TARGET, plain, images, "ascend").sums)
        np.testing.assert_array_equal(result.sums, answers(TARGET, artifact, images, "ascend-emulation").sums)
        with open_session(artifact, TARGET, "ascend") as session:
            found, expected = dict(session.trace(images[0])), dict(execute(graph, images[0]))
            assert list(found) == list(expected) and not session.unseen()
            for name in list(expected)[:-1]:
                np.testing.assert_array_equal(found[name], expected[name], name)
            np.testing.assert_array_equal(found[graph.head.name], result.sums[0])
        with open_session(plain, TARGET, "ascend") as session:
            with pytest.raises(SqueezeEdgeError, match="no outputs but the class means; compile it with `debug`"):
                list(session.trace(images[0]))
    finally:
        forget_runtimes()


@pytest.mark.parametrize(
    "record",
    [{}, [], {"head": "h", "tensors": [{}]}, {"head": 1, "tensors": []}, *(
        {"head": "h", "tensors": [{"name": "x", "shape": [2, 2, 3], "channels": 4, "zero_point": 0, **change}]}
        for change in ({"name": 1}, {"shape": [2, 2]}, {"shape": [2, 2, 5]}, {"channels": -1}, {"zero_point": 7})
    )],
)  # fmt: skip
def test_a_damaged_record_of_outputs(record: object) -> None:
    asked = cast(Artifact, SimpleNamespace(folder=Path("net"), compiled={"trace": record}))
    with pytest.raises(ValueError, match="net: the manifest's trace is damaged"):
        read_trace(asked)


@pytest.mark.slow
def test_emulation(make: Make, network: Network) -> None:
    graph, images = network
    exact = answers(TARGET, make(soc_version="emulated"), images, "ascend-emulation")
    assert exact.sums.dtype == np.int32 and exact.sums.shape == (6, 12) and (exact.latency_ms > 0).all()
    shares = exact.metrics["differing_values"]
    assert list(shares) == [node.name for node in graph.nodes[:-1]] and set(shares.values()) == {0.0}
    json.dumps(exact.metrics)
    fused = answers(TARGET, make("fused", soc_version="emulated", rounding="fused"), images, "ascend-emulation")
    assert max(fused.metrics["differing_values"].values()) > 1
    assert TARGET.devices["ascend-emulation"] == "emulation"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    """Its login shell finds the fake acl, as set_env.sh would do it."""
    return FakeBoard(tmp_path / "remote", monkeypatch, [HERE / "fake_acl"])


@pytest.mark.slow
def test_on_a_board(make: Make, atc: Path, network: Network, board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, images = make(), network[1]
    result = answers(TARGET, artifact, images, "ascend", BOARD)
    np.testing.assert_array_equal(result.sums, answers(TARGET, artifact, images, "ascend-emulation").sums)
    assert result.metrics == {"runtime": "acl"}
    (copied,) = (board.home / COPIES).iterdir()
    expected = {"run.py", "device.py", "manifest.json", "golden.npz", "model.om", "SHA256SUMS"}
    assert {path.name for path in copied.iterdir()} == expected
    monkeypatch.setenv("FAKE_FAULT", "no-device")
    with pytest.raises(UnavailableError, match=r"board user@ascend: acl can't open device 0"):
        answers(TARGET, artifact, images, "ascend", BOARD)
    (artifact / "model.om").unlink()
    board.calls.clear()
    with pytest.raises(UnavailableError, match=r"model\.om: missing, the model is not converted yet"):
        answers(TARGET, artifact, images, "ascend", BOARD)
    assert not board.calls, "the board is not reached"
