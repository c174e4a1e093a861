"""The registry: building, identifying, loading, and fetching weights."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from squeezeedge.calib.preprocess import PRESETS
from squeezeedge.errors import SqueezeEdgeError, UsageError
from squeezeedge.networks import registry
from squeezeedge.networks.checkpoints import Checkpoint, read_checkpoint
from squeezeedge.networks.registry import (
    DEFAULT,
    NETWORKS,
    build,
    cost,
    download,
    identify,
    load_weights,
    networks_of,
)


def test_importing_the_registry_loads_no_torch() -> None:
    code = "import sys, squeezeedge.networks.registry; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_entries_are_consistent() -> None:
    assert DEFAULT in NETWORKS
    for name, spec in NETWORKS.items():
        assert spec.name == name
        assert PRESETS[spec.preprocessing].size == spec.input_size
        assert spec.embedded == (name == DEFAULT)
        with torch.device("meta"):
            assert build(name)(torch.empty(1, 3, *spec.input_size)).shape == (1, spec.classes)


def test_cost_counts_what_torchvision_publishes() -> None:
    """PyTorch's torchvision states 1,248,424 and 1,235,496 parameters, 0.82 and 0.35 G multiply-accumulates."""
    assert cost("squeezenet1_0") == registry.NetworkCost(1_248_424, 818_924_576)
    assert cost("squeezenet1_1") == registry.NetworkCost(1_235_496, 349_151_936)


def test_cost_depends_on_the_input_size() -> None:
    spec = NETWORKS[DEFAULT]
    assert cost(DEFAULT) == cost(DEFAULT, spec.input_size)
    assert cost(DEFAULT, (48, 48)).macs < cost(DEFAULT).macs
    assert cost(DEFAULT, (48, 48)).parameters == cost(DEFAULT).parameters


V1_0 = ("squeezenet1_0", "squeezenet1_0_simple_bypass", "squeezenet1_0_mindcv")
V1_1 = ("squeezenet1_1", "squeezenet1_1_mindcv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("built", "found"),
    [
        *((name, V1_0) for name in V1_0),
        *((name, V1_1) for name in (*V1_1, "squeezenet1_1_digits")),
        ("squeezenet1_0_complex_bypass", ("squeezenet1_0_complex_bypass",)),
    ],
)
def test_identify(built: str, found: tuple[str, ...]) -> None:
    """All whose names and shapes are these."""
    for classes in (1, 1000):
        with torch.device("meta"):
            assert identify(build(built, classes).state_dict()) == (found, classes)


@pytest.mark.slow
def test_the_networks_of_a_checkpoint() -> None:
    with torch.device("meta"):
        state = build("squeezenet1_1", 3).state_dict()
    for checkpoint, sha256, found in (
        (Checkpoint(state), "", V1_1),
        (Checkpoint(state, likely="squeezenet1_1_mindcv"), "", V1_1[::-1]),
        (Checkpoint(state, {"network": "squeezenet1_1_digits"}, likely="squeezenet1_1_mindcv"), "", (DEFAULT,)),
        (Checkpoint(state, likely="squeezenet1_1_mindcv"), "b8a52dc0" + 56 * "0", V1_1[:1]),
        (Checkpoint(state), "b66bff10" + 56 * "0", V1_1),
    ):
        assert networks_of(checkpoint, sha256) == (found, 3)


def test_identify_says_what_was_looked_for() -> None:
    state = build("squeezenet1_1", 10).state_dict()
    del state["features.4.squeeze.bias"]
    with pytest.raises(SqueezeEdgeError, match=r"classifier.1.bias.*nearest is squeezenet1_1.*4\.squeeze\.bias \[16\]"):
        identify(state)
    found = (
        r"none of the networks here: it holds 51 tensors \(features.0.weight \[64, 3, 3, 3\], .*, \.\.\.\); squeezeedge"
    )
    with pytest.raises(SqueezeEdgeError, match=f"{found} .*: 51 of its 52 tensors fit; .* as ONNX"):
        identify(state)
    with pytest.raises(SqueezeEdgeError, match=r"it holds 1 tensor \(layer1.*\. None of them fits; give"):
        identify({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)})
    with pytest.raises(SqueezeEdgeError, match="none of the networks here"):
        identify({"classifier.1.weight": torch.zeros(0, 512, 1, 1)})


@pytest.mark.parametrize("shape", [(10, 512), (10, 512, 3, 3), (10,)])
def test_another_last_layer_is_told_by_its_shape(shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        state = {**build("squeezenet1_1", 10).state_dict(), "classifier.1.weight": torch.zeros(shape)}
    listed = re.escape(f"51 of its 52 tensors fit; classifier.1.weight is {list(shape)} instead of [10, 512, 1, 1];")
    with pytest.raises(SqueezeEdgeError, match=f"nearest is squeezenet1_1: {listed}"):
        identify(state)


def test_what_is_assumed_of_a_checkpoint() -> None:
    """Nothing where it says its network itself, or is a published file."""

    def said(checkpoint: Checkpoint, fitting: tuple[str, ...], sha256: str = "") -> tuple[str, ...]:
        return registry.assumed(Path("a.pth"), checkpoint, fitting, "squeezenet1_1", (96, 64), sha256)

    taken = "squeezenet1_1 is taken, with an input of 96x64 (`network` and `size` say otherwise)"
    assert said(Checkpoint({}), V1_1) == (f"a.pth: its tensors fit squeezenet1_1 and squeezenet1_1_mindcv; {taken}",)
    assert said(Checkpoint({}), V1_1[:1]) == (f"a.pth: tensors do not tell stride, padding or pooling; {taken}",)
    assert said(Checkpoint({}, {"network": "squeezenet1_1"}), V1_1) == ()
    assert said(Checkpoint({}), V1_1, "b8a52dc0" + 56 * "0") == ()


def test_load_weights_copies_everything() -> None:
    source, module = build("squeezenet1_1", 5), build("squeezenet1_1", 5)
    load_weights(module, source.state_dict(), "weights.pth")
    for name, tensor in source.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor)


def test_load_weights_lists_every_kind_of_mismatch_and_changes_nothing() -> None:
    module = build("squeezenet1_1", 5)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = build("squeezenet1_1", 6).state_dict()
    state["extra"] = torch.zeros(2)
    state["features.0.bias"] = torch.zeros(64, dtype=torch.int64)
    del state["features.3.squeeze.bias"]
    with pytest.raises(SqueezeEdgeError) as caught:
        load_weights(module, state, "weights.pth")
    text = str(caught.value)
    assert text.startswith("weights.pth: does not fit")
    for part in (
        "classifier.1.weight is [6, 512, 1, 1] instead of [5, 512, 1, 1]",
        "extra [2] is not part of it",
        "features.3.squeeze.bias [16] is missing",
        "features.0.bias holds torch.int64 values",
        "name the network that the file was made of",
    ):
        assert part in text
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_load_weights_says_which_network_would_fit() -> None:
    with pytest.raises(SqueezeEdgeError, match="are those of squeezenet1_0_complex_bypass with 6 classes"):
        load_weights(build("squeezenet1_1", 5), build("squeezenet1_0_complex_bypass", 6).state_dict(), "a.pth")


def test_mismatch_text_is_bounded() -> None:
    state = {f"{'x' * 500}{i}": torch.zeros(1) for i in range(300)}
    with pytest.raises(SqueezeEdgeError, match=r"and \d+ more") as caught:
        load_weights(build("squeezenet1_1", 5), state, "weights.pth")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("call", [build, cost, download])
def test_unknown_network(call: Callable[[str], object]) -> None:
    with pytest.raises(UsageError, match=r"no network 'alexnet'; there are: .*squeezenet1_0"):
        call("alexnet")


def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, digest: str) -> Path:
    """Make a local file squeezenet1_0's published one, and an empty folder torch.hub's; return the hub's file."""
    served = tmp_path / f"net-{digest}.pth"
    served.write_bytes(content)
    spec = replace(NETWORKS["squeezenet1_0"], url=served.as_uri())
    monkeypatch.setattr(registry, "NETWORKS", {**NETWORKS, "squeezenet1_0": spec})
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints" / served.name


def test_download_verifies_and_keeps_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()[:8]
    kept = publish(monkeypatch, tmp_path, content, digest)
    assert download("squeezenet1_0") == kept
    assert kept.read_bytes() == content
    kept.write_bytes(b"damaged later")
    assert download("squeezenet1_0").read_bytes() == content
    (tmp_path / f"net-{digest}.pth").unlink()
    assert download("squeezenet1_0") == kept  # needs no network any more


def test_download_refuses_a_file_with_another_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = publish(monkeypatch, tmp_path, b"something else", "b66bff10")
    with pytest.raises(SqueezeEdgeError, match=r"could not be downloaded: invalid hash value .* `weights`"):
        download("squeezenet1_0")
    assert not kept.exists()


def test_download_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(SqueezeEdgeError, match=r"squeezenet1_1-b8a52dc0.pth: could not .* not known.* `weights`"):
        download("squeezenet1_1")


def test_download_without_a_published_file() -> None:
    with pytest.raises(UsageError, match=r"no weights are published; .*published: squeezenet1_0, squeezenet1_1\)"):
        download("squeezenet1_0_simple_bypass")


def test_class_names_of_weights_that_hold_none() -> None:
    names = registry.class_names("squeezenet1_1", 1000)
    assert len(names) == 1000 and names[0] == "tench"
    assert registry.class_names("squeezenet1_1", 10) == registry.class_names(DEFAULT, 1000) == ()
    with pytest.raises(UsageError, match="no network 'resnet'"):
        registry.class_names("resnet", 1000)


def test_default_weights_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DEFAULT", "absent")
    with pytest.raises(SqueezeEdgeError, match=r"absent\.safetensors: the embedded weights are missing"):
        registry.default_weights()


def test_default_weights_fit_the_default_network() -> None:
    path = registry.default_weights()
    spec = NETWORKS[DEFAULT]
    checkpoint = read_checkpoint(path)
    assert identify(checkpoint.state)[1] == spec.classes
    load_weights(build(DEFAULT), checkpoint.state, str(path))


@pytest.mark.shared
@pytest.mark.parametrize("version", ["1_0", "1_1"])
def test_trained_weights_load(version: str, shared_file: Callable[[str], Path]) -> None:
    path = shared_file(f"weights/squeezenet{version}-imagenet.pth")
    state = read_checkpoint(path).state
    assert identify(state)[1] == 1000 and identify(state)[0][0] == f"squeezenet{version}"
    load_weights(build(f"squeezenet{version}"), state, str(path))
