"""Networks: every way to load one, and what they were made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.torch import load_file, save_file

from squeezeedge.calib.datasets import Dataset
from squeezeedge.calib.fingerprint import fingerprints
from squeezeedge.calib.preprocess import IMAGENET, PRESETS
from squeezeedge.calib.selection import calibration_images
from squeezeedge.calib.statement_files import statement_of
from squeezeedge.errors import CorruptFileError, SqueezeEdgeError, UsageError
from squeezeedge.graph.float.run import run_float
from squeezeedge.graph.importers import from_onnx
from squeezeedge.graph.importers.imported import Imported
from squeezeedge.graph.sqe import read_sqe, write_sqe
from squeezeedge.loading import choose_network, load, load_reference
from squeezeedge.model import GOLDEN_IMAGES, Model, quantize
from squeezeedge.networks.registry import DEFAULT, NETWORKS, build, default_weights
from tests.graphs import random_graph
from tests.quantization.networks import PREPROCESSING, natural_images

GRAPH = random_graph(3)
SHA256 = hashlib.sha256(default_weights().read_bytes()).hexdigest()


def onnx_file(path: Path, side: int = 10) -> Path:
    """A convolution and an average."""
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"], kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["conv"], ["average"]),
        helper.make_node("Flatten", ["average"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, side, side])
    made = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "net", [given], [made], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


# Loading


def test_the_embedded_network(digits_network: Model) -> None:
    model = digits_network
    assert (model.name, model.classes, model.dataset) == (DEFAULT, 10, "digits")
    assert model.origin == {"network": DEFAULT, "weights": default_weights().name, "sha256": SHA256}
    assert model.floating is not None and model.module is not None and model.integer is None
    assert model.preprocessing.size == model.floating.input_size and len(model.labels) == 10
    assert model.float_logits is not None
    logits = model.float_logits(np.zeros((2, *model.preprocessing.size, 3), np.uint8))
    assert logits.shape == (2, 10) and logits.dtype == np.float32


@pytest.mark.slow
def test_a_checkpoint_says_what_network_it_is(digits_network: Model) -> None:
    for model in (load(default_weights()), load(weights=default_weights()), load(DEFAULT, str(default_weights()))):
        assert model.name == DEFAULT and model.origin == digits_network.origin


@pytest.mark.slow
def test_a_checkpoint_that_says_nothing_is_told_by_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file(load_file(default_weights()), path)
    model = load(path)
    assert (model.name, model.classes, model.labels) == ("squeezenet1_1", 10, ())
    assert model.preprocessing == PRESETS[NETWORKS["squeezenet1_1"].preprocessing]
    save_file(load_file(default_weights()), path, {"preprocessing": "{"})
    with pytest.raises(SqueezeEdgeError, match="metadata 'preprocessing' is not JSON"):
        load(path)
    save_file(load_file(default_weights()), path, {"preprocessing": '{"size": -3}'})
    with pytest.raises(CorruptFileError, match=f"^{path}: metadata: preprocessing: .*write the file again"):
        load(path)
    save_file(load_file(default_weights()), path, {"labels": json.dumps(["one", "two"])})
    assert load(path).labels == (), "these are of another network"
    save_file({"a": next(iter(load_file(default_weights()).values()))}, path)
    with pytest.raises(SqueezeEdgeError, match=f"^{path}: "):
        load(path)


def two_networks() -> Model:
    """A model that answers class 0; as the other network that its checkpoint fits it answers 1."""

    def named(name: str, answer: int, **values: Any) -> Model:  # noqa: ANN401
        def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.eye(3, dtype=np.float32)[[answer] * len(images)]

        return Model(name, PREPROCESSING, (), 3, {"network": name, "weights": "w.pth"}, float_logits=logits, **values)

    return named("one", 0, alternatives={"two": lambda: named("two", 1)}, remarks=("w.pth: fits one and two",))


@pytest.mark.parametrize(("labels", "best"), [([0, 0, 1], "one"), ([1, 2, 1], "two"), ([0, 1], "one")])
def test_a_checkpoint_that_fits_two_networks_is_tried(labels: list[int], best: str) -> None:
    data = Dataset("data", np.zeros((len(labels), *PREPROCESSING.size, 3), np.uint8), np.array(labels))
    chosen = choose_network(two_networks(), calibration_images(data))
    assert chosen.name == best and not chosen.alternatives
    (remark,) = chosen.remarks
    assert remark.startswith(
        f"w.pth: right of {len(labels)} labelled images: one {labels.count(0)} (mean probability of the right class "
    )
    assert f", two {labels.count(1)} (mean probability of the right class " in remark and remark.endswith(
        f"; {best} is taken, with an input of 23x27 (`network` and `size` say otherwise)"
    )


def test_without_labels_the_likeliest_network_is_taken() -> None:
    data = Dataset("data", np.zeros((2, *PREPROCESSING.size, 3), np.uint8))
    for labels in (None, np.array([7, 1])):
        chosen = choose_network(two_networks(), calibration_images(replace(data, labels=labels)))
        assert (chosen.name, chosen.remarks, chosen.alternatives) == ("one", ("w.pth: fits one and two",), {})
    assert choose_network(chosen, calibration_images(data)) is chosen


@pytest.mark.slow
def test_the_network_of_a_checkpoint_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file(load_file(default_weights()), path)
    model = load(path, size=64)
    assert (model.name, list(model.alternatives)) == ("squeezenet1_1", ["squeezenet1_1_mindcv"])
    said = f"{path}: its tensors fit squeezenet1_1 and squeezenet1_1_mindcv; squeezenet1_1 is taken"
    assert model.remarks == (f"{said}, with an input of 64x64 (`network` and `size` say otherwise)",)
    other = load(path, size=64, network="squeezenet1_1_mindcv")
    assert (other.name, other.alternatives) == ("squeezenet1_1_mindcv", {})
    said = f"{path}: tensors do not tell stride, padding or pooling; squeezenet1_1_mindcv is taken"
    assert other.remarks == (f"{said}, with an input of 64x64 (`network` and `size` say otherwise)",)
    for name, network in ((DEFAULT, "squeezenet1_0"), (str(path), "alexnet")):
        with pytest.raises(UsageError, match=r"says which network it is|no network 'alexnet'"):
            load(name, network=network)
    with pytest.raises(SqueezeEdgeError, match="does not fit the network"):
        load(path, network="squeezenet1_0")


@pytest.mark.slow
def test_a_checkpoint_as_a_training_script_leaves_it(tmp_path: Path) -> None:
    """Its moving average is taken on request; an integer graph made of it knows that."""
    path = tmp_path / "model_best.PTH.tar"
    weights = build("squeezenet1_1", 2).state_dict()
    average = {f"module.{name}": 2 * tensor for name, tensor in weights.items()}
    torch.save({"state_dict": weights, "state_dict_ema": average, "epoch": 3}, path)
    images = natural_images(2, (64, 64))
    for ema, factor, told in ((False, 1, "'state_dict' was taken"), (True, 2, "'state_dict_ema.module' was taken")):
        model = load("squeezenet1_1", path, size=64, ema=ema)
        assert model.module is not None and model.float_logits is not None
        assert torch.equal(model.module.state_dict()["classifier.1.weight"], factor * weights["classifier.1.weight"])
        assert told in model.remarks[0] and model.remarks[1].endswith("64x64 (`network` and `size` say otherwise)")
        graph = replace(GRAPH, preprocessing=model.preprocessing)
        Model.of_graph(graph, model.origin).save(tmp_path / "net.sqe")
        reference = load(tmp_path / "net.sqe", path)
        assert reference.float_logits is not None
        np.testing.assert_array_equal(reference.float_logits(images), model.float_logits(images))
    with pytest.raises(UsageError, match="holds no moving average"):
        load(ema=True)
    with pytest.raises(UsageError, match=r"`ema` goes with a checkpoint, not with .*net\.sqe"):
        load(tmp_path / "net.sqe", ema=True)


@pytest.mark.slow
def test_imagenets_classes_have_names(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file(build("squeezenet1_1", 1000).state_dict(), path)
    model = load("squeezenet1_1", weights=path, size=64)
    assert len(model.labels) == 1000 and model.labels[1] == "goldfish"
    own = [f"class {index}" for index in range(1000)]
    save_file(build("squeezenet1_1", 1000).state_dict(), path, {"labels": json.dumps(own)})
    assert load("squeezenet1_1", weights=path, size=64).labels == tuple(own), "what the file says goes first"


@pytest.mark.slow
def test_another_input_size(digits_network: Model) -> None:
    model = load(size=64)
    assert model.preprocessing.size == (64, 64) and model.floating is not None
    assert model.floating.input_size == (64, 64)
    assert model.preprocessing == replace(
        digits_network.preprocessing, size=(64, 64), resize=model.preprocessing.resize
    )


@pytest.mark.parametrize("ending", [".ONNX", ".Onnx"])
def test_an_ending_in_any_case(tmp_path: Path, ending: str) -> None:
    assert load(onnx_file(tmp_path / f"own{ending}")).classes == 5


def test_an_onnx_file(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "own.onnx")
    model = load(path)
    assert (model.name, model.classes, model.labels, model.dataset) == ("own", 5, (), None)
    assert model.preprocessing == replace(IMAGENET, size=(10, 10), resize=11)
    assert model.origin["weights"] == "own.onnx" and model.origin["sha256"]
    assert model.float_logits is not None
    assert model.float_logits(np.zeros((2, 10, 10, 3), np.uint8)).shape == (2, 5)
    with pytest.raises(UsageError, match=r"own\.onnx: .* are fixed, so `size` 12 is not possible"):
        load(path, size=12)


def saved_with(path: Path, metadata: dict[str, str]) -> Path:
    model = onnx.load(str(path))
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


CAFFE: dict[str, object] = {"mean": [104, 117, 123], "std": 1, "scale": 1, "channel_order": "bgr"}


def test_the_preprocessing_of_an_onnx_file(tmp_path: Path) -> None:
    """The same from whoever states it; the answers are those of the file's own network on its own input."""
    path, plain = onnx_file(tmp_path / "own.onnx"), load(onnx_file(tmp_path / "plain.onnx"))
    assert plain.assumption.startswith("assuming RGB, ImageNet mean and standard deviation; `mean`/`std` to change")
    images = natural_images(3, (10, 10))
    x = np.ascontiguousarray((images[..., ::-1].astype(np.float32) - (104, 117, 123)).transpose(0, 3, 1, 2), np.float32)
    assert plain.floating is not None
    expected = run_float(plain.floating, x)
    toml = tmp_path / "caffe.toml"
    toml.write_text('mean = "104,117,123"\nstd = 1\nscale = 1\nchannel_order = "bgr"\n')
    given: list[tuple[object, str]] = [(CAFFE, "`mean`"), (toml, "caffe.toml"), (statement_of(CAFFE, "x"), "x")]
    for preprocessing, source in given:
        model = load(path, preprocessing=preprocessing)  # type: ignore[arg-type]
        assert model.float_logits is not None and model.assumption == ""
        np.testing.assert_allclose(model.float_logits(images), expected, rtol=1e-4, atol=1e-3)
        values = model.preprocessing_json()
        assert values["channel_order"] == "bgr" and values["source"]["mean"] == source
        np.testing.assert_allclose(np.multiply(values["mean"], 255), (123, 117, 104))
    saved_with(path, {"preprocessing": json.dumps(CAFFE)})
    assert load(path).preprocessing == model.preprocessing
    (tmp_path / "own.preprocessing.toml").write_text('channel_order = "rgb"')
    with pytest.raises(
        SqueezeEdgeError, match=r"own\.onnx: .*contradictory: metadata_props of own\.onnx .* bgr, but own\."
    ):
        load(path)
    assert load(path, preprocessing={"channel_order": "rgb"}).origin.keys() == {"network", "weights", "sha256"}
    for wrong, kind in (({"std": 0}, UsageError), (3, UsageError), ({"mean": [1, 2]}, UsageError)):
        with pytest.raises(kind, match="`preprocessing`"):
            load(path, preprocessing=wrong)  # type: ignore[arg-type]


def test_the_reference_of_a_graph_that_was_quantized_from_bgr(tmp_path: Path) -> None:
    path, images = onnx_file(tmp_path / "own.onnx"), natural_images(6, (10, 10))
    model = quantize(load(path, preprocessing=CAFFE), images)
    model.save(tmp_path / "own.sqe")
    again = load(tmp_path / "own.sqe", path)
    assert again.preprocessing_json()["channel_order"] == "bgr" and again.float_logits is not None
    assert again.preprocessing_json()["source"]["mean"] == "the integer graph" and model.float_logits is not None
    np.testing.assert_array_equal(again.float_logits(images), model.float_logits(images))
    with pytest.raises(UsageError, match=r"own\.sqe: the preprocessing of an integer graph .* again with `scale`"):
        load(tmp_path / "own.sqe", preprocessing={"scale": 1})


@pytest.mark.parametrize(("gray", "sign"), [(False, 1.0), (False, -1.0), (True, 1.0)])
def test_what_an_onnx_file_does_with_its_input_is_preprocessing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gray: bool, sign: float
) -> None:
    path, images = onnx_file(tmp_path / "own.onnx"), natural_images(3, (10, 10))
    multiplier, offset = np.full(3, sign / 58), np.full(3, -2.0)
    plain = load(path).floating
    assert plain is not None
    monkeypatch.setattr(from_onnx, "from_onnx", lambda path, size: Imported(plain, multiplier, offset, gray))
    model = load(path)
    assert model.float_logits is not None and model.preprocessing.gray == gray
    assert model.assumption == f"assuming {'gray images' if gray else 'RGB'}, pixels of 0..255; `mean`/`std` to change"
    x = np.ascontiguousarray((images * multiplier + offset).transpose(0, 3, 1, 2), np.float32)
    np.testing.assert_allclose(model.float_logits(images), run_float(plain, x), rtol=1e-4, atol=1e-4)
    if gray:
        with pytest.raises(SqueezeEdgeError, match="its input has one channel, but `channel_order` says bgr"):
            load(path, preprocessing={"channel_order": "bgr"})


def test_an_integer_graph(tmp_path: Path) -> None:
    path = tmp_path / "net.sqe"
    Model.of_graph(GRAPH).save(path)
    model = load(path)
    assert model.integer is not None and model.floating is None and model.float_logits is None
    assert model.integer.digest() == read_sqe(path).digest() == GRAPH.digest()
    assert (model.name, model.classes, model.preprocessing) == (GRAPH.name, GRAPH.classes, GRAPH.preprocessing)
    assert model.origin == {"network": GRAPH.name} and (model.calibrated_on, model.golden) == (frozenset(), None)
    write_sqe(GRAPH, path)
    assert load(path).origin["weights"] == "net.sqe", "a file of before"
    with pytest.raises(UsageError, match="the input size of an integer graph is fixed"):
        load(path, size=12)


def test_labels_are_given_or_read(tmp_path: Path) -> None:
    path = tmp_path / "net.sqe"
    write_sqe(GRAPH, path)
    names = [f"n{index}" for index in range(GRAPH.classes)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for labels in (names, tmp_path / "names.txt", str(tmp_path / "names.txt")):
        model = load(path, labels=labels)
        assert model.integer is not None and model.labels == model.integer.labels == tuple(names)
    with pytest.raises(UsageError, match=f"has {GRAPH.classes} classes, 1 names were given"):
        load(path, labels=["a"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"model": "nothing"}, f"nothing: neither a file nor a network; the networks are: {next(iter(NETWORKS))}"),
        ({"model": "sqeezenet1_1"}, r"sqeezenet1_1: neither a file nor a network \(did you mean squeezenet1_1\?\)"),
        ({"model": "squeezenet1_0"}, "squeezenet1_0 has no embedded weights: give `weights` or `pretrained`"),
        ({"weights": "a.pth", "pretrained": True}, "`weights` and `pretrained` exclude each other"),
        ({"model": "FILE", "weights": "a.pth"}, "`weights` goes with a network's name or an .sqe, not with"),
        ({"model": "FILE", "pretrained": True}, "`pretrained` goes with a network's name, not with"),
        ({"size": 10**9}, "`size` 1000000000: 1000000000x1000000000 are more than the 89478485 pixels"),
        ({"labels": ["a"] * 9 + ["b\x1b[31m"]}, r"`labels`: the name 'b\\x1b\[31m' contains control characters"),
        ({"model": "FILE"}, r"file\.txt: the ending must be one of \.sqe \.onnx \.pth \.pt \.safetensors"),
    ],
)
def test_what_load_refuses(tmp_path: Path, arguments: dict[str, Any], reason: str) -> None:
    (tmp_path / "file.txt").write_text("text")
    if arguments.get("model") == "FILE":
        arguments = arguments | {"model": tmp_path / "file.txt"}
    with pytest.raises(UsageError, match=reason):
        load(**arguments)


# What an integer graph was made of


def test_the_reference_is_the_file_that_the_graph_was_made_of(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "own.onnx")
    origin = load(path).origin
    graph = quantize(load(path), natural_images(6, (10, 10))).integer
    assert graph is not None
    found = load_reference(graph, origin, path)
    assert found is not None and found.float_logits is not None and found.preprocessing == graph.preprocessing
    assert load_reference(graph, origin) is None, "nobody knows where that file is"
    path = onnx_file(tmp_path / "other.onnx", side=12)
    with pytest.raises(UsageError, match=r"other\.onnx: own was made of another file, own\.onnx \(SHA-256 \w{16}"):
        load_reference(graph, origin, path)


def quantized_file(folder: Path) -> tuple[Path, Path, NDArray[np.uint8]]:
    """An ONNX file, the .sqe made of it, and the images that it was quantized on."""
    weights = onnx_file(folder / "own.onnx")
    images = natural_images(6, (10, 10))
    quantize(load(weights), images).save(folder / "own.sqe")
    return weights, folder / "own.sqe", images


def test_an_sqe_knows_what_it_was_made_of_and_on(tmp_path: Path) -> None:
    weights, path, images = quantized_file(tmp_path)
    float_model, model = load(weights), load(path)
    assert model.origin == float_model.origin and model.origin["weights"] == "own.onnx"
    quantized = quantize(float_model, images)
    assert model.integer is not None and quantized.integer is not None
    assert model.integer.digest() == quantized.integer.digest(), "it is no part of the graph"
    assert model.calibrated_on == quantized.calibrated_on and len(model.calibrated_on) == 6
    assert model.calibrated_on == frozenset(fingerprints(calibration_images(images).load(model.preprocessing)))
    assert model.golden is not None and quantized.golden is not None and len(model.golden) == GOLDEN_IMAGES
    np.testing.assert_array_equal(model.golden, quantized.golden)
    assert model.float_logits is None, "the file holds no floats"
    model.save(tmp_path / "again.sqe")
    assert (tmp_path / "again.sqe").read_bytes() == path.read_bytes()


def test_an_sqe_takes_the_file_that_it_was_made_of(tmp_path: Path) -> None:
    weights, path, images = quantized_file(tmp_path)
    model, floating = load(path, weights), load(weights)
    assert model.integer is not None and model.float_logits is not None and floating.float_logits is not None
    np.testing.assert_array_equal(model.float_logits(images), floating.float_logits(images))
    other = onnx_file(tmp_path / "other.onnx", side=12)
    with pytest.raises(
        UsageError, match=r"`weights` .*other\.onnx: own was made of another file, own\.onnx \(SHA-256 "
    ):
        load(path, other)
    with pytest.raises(UsageError, match=r"nowhere\.onnx: cannot be read: No such file"):
        load(path, tmp_path / "nowhere.onnx")
    write_sqe(read_sqe(path), tmp_path / "old.sqe")
    with pytest.raises(UsageError, match=r"own does not say which file it was made of, .* quantize the network again"):
        load(tmp_path / "old.sqe", weights)
    with pytest.raises(UsageError, match=r"`weights` goes with a network's name or an \.sqe, not with"):
        load(weights, other)
