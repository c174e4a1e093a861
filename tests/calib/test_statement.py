"""Statements of preprocessing: what follows from them, and which are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from squeezeedge.calib.preprocess import DIGITS, IMAGENET
from squeezeedge.calib.statement import ASSUMED, NetworkInput, Statement, agreed, of_preset, resolve
from squeezeedge.errors import SqueezeEdgeError, UsageError

BASE = of_preset(IMAGENET, ASSUMED)
CAFFE = Statement((104, 117, 123), (1, 1, 1), 1.0, "bgr").said_by("net.toml")
PIXELS = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)


def test_what_nothing_states_is_assumed_and_named() -> None:
    found = resolve(Statement(), BASE)
    assert found.preprocessing == IMAGENET and found.channel_order == "rgb"
    assert set(found.sources.values()) == {ASSUMED}
    assert found.assumption == "assuming RGB, ImageNet mean and standard deviation; `mean`/`std` to change"
    assert resolve(of_preset(DIGITS, "x"), BASE).assumption == ""
    assert resolve(of_preset(DIGITS, "x"), BASE).preprocessing == DIGITS
    only_mean = resolve(Statement(mean=(0.5, 0.5, 0.5), sources={"mean": "`mean`"}), BASE)
    assert only_mean.preprocessing.std == (1, 1, 1)
    assert only_mean.assumption == "assuming RGB, a standard deviation of 1; `channel_order`/`std` to change"
    published = resolve(Statement(), of_preset(IMAGENET, "published weights"))
    assert published.assumption == "" and published.sources["mean"] == "published weights"


@settings(max_examples=30)
@given(
    mean=st.tuples(*[st.floats(0, 255)] * 3),
    std=st.tuples(*[st.floats(1, 255)] * 3),
    order=st.sampled_from(["rgb", "bgr"]),
    multiplier=st.tuples(*[st.floats(0.01, 9) | st.floats(-9, -0.01)] * 3),
    offset=st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_what_the_graph_reads_is_what_the_file_computes(
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    order: str,
    multiplier: tuple[float, float, float],
    offset: tuple[float, float, float],
) -> None:
    """((pixel * scale - mean) / std) * multiplier + offset of the file's channels, for each order and sign."""
    stated = Statement(mean, std, 1.0, order)  # type: ignore[arg-type]
    found = resolve(stated, BASE, NetworkInput((224, 224), multiplier, offset))
    in_order = PIXELS[..., ::-1] if order == "bgr" else PIXELS
    expected = (in_order.astype(np.float64) - mean) / std * multiplier + offset
    given = found.preprocessing.normalize(PIXELS).transpose(0, 2, 3, 1).astype(np.float64)
    if order == "bgr":
        given = given[..., ::-1]
    np.testing.assert_allclose(given * found.signs, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (NetworkInput(multiplier=(1 / 58,) * 3, offset=(-2.0,) * 3), "pixels of 0..255"),
        (NetworkInput(multiplier=(1 / 255,) * 3), "pixels of 0..255"),
        (NetworkInput(offset=(-104.0, -117.0, -123.0)), "pixels of 0..255"),
        (NetworkInput(pixels=True), "pixels of 0..255"),
        (NetworkInput(multiplier=(2.0,) * 3, offset=(-1.0,) * 3), "pixels of 0..1"),
        (NetworkInput(multiplier=(4.4,) * 3, offset=(-2.0,) * 3), "pixels of 0..1"),
        (NetworkInput(multiplier=(1.02,) * 3, offset=(0.03,) * 3), "ImageNet mean and standard deviation"),
        (NetworkInput(gray=True), "pixels of 0..1"),
    ],
)
def test_the_input_of_a_file_that_normalizes_it_itself(network: NetworkInput, named: str) -> None:
    found = resolve(Statement(), BASE, network)
    what = "gray images" if network.gray else "RGB"
    assert found.assumption == f"assuming {what}, {named}; `mean`/`std` to change"
    assert (
        resolve(replace(CAFFE, channel_order=None), BASE, NetworkInput(pixels=True)).preprocessing.std == (1 / 255,) * 3
    )


def test_gray() -> None:
    found = resolve(Statement((0.13,) * 3, (0.31,) * 3, channel_order="gray"), BASE, NetworkInput((28, 28), gray=True))
    assert found.preprocessing.gray and found.channel_order == "gray"
    image = Image.new("RGB", (40, 40), (200, 30, 90))
    pixels = found.preprocessing(image)
    assert (pixels == np.asarray(image.convert("L"))[0, 0]).all() and pixels.shape == (28, 28, 3)
    assert resolve(Statement(channel_order="gray"), BASE).preprocessing.mean == IMAGENET.mean, "of three equal channels"


@pytest.mark.parametrize(
    ("statement", "size", "expected"),
    [
        (Statement(), None, ((224, 224), 256)),
        (Statement(), 112, ((112, 112), 128)),
        (Statement(size=(96, 96)), None, ((96, 96), 110)),
        (Statement(resize=0), None, ((224, 224), None)),
        (Statement(resize=288, size=(288, 288)), None, ((288, 288), 288)),
        (Statement(share=0.95), None, ((224, 224), 235)),
        (Statement(size=(200, 200), resize=220), 100, ((100, 100), 110)),
        (Statement(resize=240, sources={"resize": "`resize`"}), 100, ((100, 100), 240)),
    ],
)
def test_size_and_scaling(statement: Statement, size: int | None, expected: tuple[object, object]) -> None:
    found = resolve(statement, BASE, size=size).preprocessing
    assert (found.size, found.resize) == expected


SMALL = NetworkInput((32, 32))
REFUSED: list[tuple[Statement, NetworkInput, str]] = [
    (Statement(mean=(104, 117, 123)), SMALL, r"net: a mean of \(104, 117, 123\) is not within pixels of 0\.\.1; state"),
    (
        Statement(mean=(9, 9, 9)).said_by("metadata_props of net"),
        SMALL,
        r"a mean of \(9, 9, 9\) \(metadata_props of net\) is",
    ),
    (Statement(std=(0.2, 0.2, 0.2), scale=1), SMALL, r"standard deviation of .* span 1275 after it; state the `scale`"),
    (Statement(std=(58, 57, 57)), SMALL, r"deviation of .* span 0\.0175439 after it; state the `scale`"),
    (Statement(std=(0.2, 1e300, 0.2)), SMALL, r"pixels of 0\.\.1 with .* span 1e-300 after it"),
    (
        CAFFE,
        NetworkInput(gray=True),
        r"its input has one channel, but net\.toml says bgr; `channel_order` must be gray",
    ),
    (
        Statement(mean=(0.1, 0.2, 0.3)),
        NetworkInput(gray=True),
        r"one input channel, so `mean` and `std` are one number",
    ),
    (Statement(), NetworkInput(multiplier=(1, 0, 1)), r"multiply the image by \(1, 0, 1\), which leaves nothing"),
    (Statement(), NetworkInput(offset=(0, float("nan"), 0)), r"multiply the image"),
    (Statement(resize=200), PLAIN_224 := NetworkInput((224, 224)), r"shorter side of 200 .* does not cover .* 224x224"),
    (Statement(size=(64, 64)).said_by("a.json"), PLAIN_224, r"input is 224x224 pixels, but a\.json says .* 64x64"),
]


@pytest.mark.parametrize(("statement", "network", "reason"), REFUSED)
def test_what_does_not_fit_is_refused(statement: Statement, network: NetworkInput, reason: str) -> None:
    with pytest.raises(SqueezeEdgeError, match=reason):
        resolve(statement, BASE, network, name="net")


def test_a_size_that_is_given_twice_is_one() -> None:
    crop = Statement(size=(64, 64), sources={"size": "`crop`"})
    assert resolve(crop, BASE, size=64).preprocessing.size == (64, 64)
    with pytest.raises(UsageError, match=r"`size` 96 and `crop` 64x64 contradict each other"):
        resolve(crop, BASE, size=96)


def test_sources_of_one_file_must_agree() -> None:
    same = Statement((0.408, 0.459, 0.482), (1 / 255,) * 3).said_by("config.json")
    assert agreed([CAFFE, same], Statement(), "net").channel_order == "bgr", "the same in other units"
    other = Statement(channel_order="rgb").said_by("preprocessor_config.json")
    with pytest.raises(
        SqueezeEdgeError,
        match=r"net: .* contradictory: net\.toml says channel_order bgr, but preprocessor_config\.json says "
        r"channel_order rgb; decide by `channel_order` or `preprocessing`",
    ):
        agreed([CAFFE, other], Statement(), "net")
    assert agreed([CAFFE, other], Statement(channel_order="bgr"), "net").mean == CAFFE.mean, "it is decided"
    half = Statement((0.5,) * 3, (0.5,) * 3).said_by("config.json")
    with pytest.raises(SqueezeEdgeError, match=r"says mean .*, std .*, scale 1\.0, but config\.json says mean"):
        agreed([CAFFE, half], Statement(), "net")
    agreed([CAFFE, half], Statement((0.5,) * 3, (0.5,) * 3), "net")


def test_one_statement_over_another() -> None:
    merged = Statement(scale=1.0, share=0.9).said_by("`x`").over(CAFFE.over(Statement(resize=256, interpolation="box")))
    assert merged.mean == CAFFE.mean and merged.share == 0.9 and merged.resize is None
    assert merged.sources == {
        "scale": "`x`",
        "share": "`x`",
        **dict.fromkeys(("mean", "std", "channel_order"), "net.toml"),
        "interpolation": "",
    }
