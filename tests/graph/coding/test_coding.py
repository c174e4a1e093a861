"""The code of all arrays: round trips, damage, what it refuses."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError, UnsupportedError
from squeezeedge.graph.coding import Kind, decode, encode

Arrays = dict[str, NDArray[Any]]


def check(arrays: Arrays) -> bytes:
    code = encode(arrays)
    decoded = decode(code, {name: (array.dtype, array.shape) for name, array in arrays.items()})
    assert decoded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (decoded[name].dtype, decoded[name].shape) == (array.dtype, array.shape)
        assert decoded[name].tobytes() == array.tobytes(), name  # NaN and -0.0, too
    return code


@st.composite
def weights(draw: st.DrawFn) -> NDArray[np.int8]:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 5), st.integers(1, 20)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 0.3, 2.0, 30.0, 1e4]))
    values = random.standard_normal(shape) * spread * np.exp2(random.standard_normal((shape[0], 1, 1, 1)))
    values = values + draw(st.sampled_from([0, 0, 3, -127])) + draw(st.sampled_from([0, 0.8])) * np.roll(values, 1, 2)
    values *= random.random(shape) < draw(st.sampled_from([1.0, 0.3, 0.02]))
    return np.clip(np.round(values), -127, 127).astype(np.int8)


@pytest.mark.slow
@given(st.lists(weights(), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_round_trip(kernels: list[NDArray[np.int8]], seed: int) -> None:
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for index, kernel in enumerate(kernels):
        arrays[f"{index}.weight"] = kernel
        arrays[f"{index}.bias"] = random.integers(-(2**31), 2**31, len(kernel)).astype(np.int32) >> 4 * index
        arrays[f"{index}.scale"] = random.integers(0, 2**32, len(kernel), np.uint32).view(np.float32)
        arrays[f"{index}.shift"] = random.integers(0, 256, (2, len(kernel))).astype(np.uint8)
    check(arrays)


@pytest.mark.slow
def test_damaged_codes() -> None:
    weight = np.clip(np.round(np.random.default_rng(0).laplace(0, 3.0, (32, 3, 3, 16))), -127, 127).astype(np.int8)
    code = encode({"a.weight": weight})
    kinds = {"a.weight": (weight.dtype, weight.shape)}
    for changed in (code[:7], b"", code + b"\1", bytes(len(code)), b"\xff" * len(code)):
        with pytest.raises(CorruptFileError, match="code"):
            decode(changed, kinds)
    with pytest.raises(CorruptFileError, match=r"a code of \d+ bytes cannot hold 1073741824 elements"):
        decode(code, {"a.weight": (weight.dtype, (2**15, 1, 1, 2**15))})
    for place in range(0, len(code), 97):
        damaged = bytearray(code)
        damaged[place] ^= 0x55
        try:
            assert decode(bytes(damaged), kinds)["a.weight"].shape == weight.shape
        except CorruptFileError:
            pass


def test_many_tiny_kernels_are_refused() -> None:
    """What decoding takes beside the elements is bounded by the code's length."""
    kinds: dict[str, Kind] = {f"{index}.weight": (np.dtype(np.int8), (1, 32, 32, 1)) for index in range(5)}
    with pytest.raises(CorruptFileError, match="a code of 1000 bytes cannot hold weights of 5120 planes"):
        decode(bytes(1000), kinds)


def test_what_would_take_long_is_refused_before_it_is_decoded() -> None:
    """Small codes of many elements, of few states, or of many numbers that are no weights."""
    code, million = bytes(2) + b"\xff" * 10**6, 10**6
    int8, float32 = np.dtype(np.int8), np.dtype(np.float32)
    for kind, reason in (
        ((int8, (13, 1, 1, million)), "cannot hold 13000000 elements"),
        ((float32, (400_000,)), "cannot hold 400000 elements beside the weights"),
        ((int8, (8, 1, 1, million)), "a code of 32 states cannot hold 8000000 weights"),
    ):
        with pytest.raises(CorruptFileError, match=reason):
            decode((32).to_bytes(2, "little") + code, {"a.weight": kind})


def test_an_encoder_takes_as_many_states_as_the_weights_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezeedge.graph.coding.MOST_A_STATE", 16)
    check({"a.weight": np.zeros((16, 1, 1, 40), np.int8)})


def test_a_graph_that_could_not_be_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squeezeedge.graph.coding.FREE_PLANES", 8)
    with pytest.raises(UnsupportedError, match=r"split too finely.* cannot hold weights of 18 planes"):
        encode({"a.weight": np.ones((1, 3, 3, 2), np.int8)})


def test_arrays_without_weights_and_weights_alone() -> None:
    check({"a.weight": np.ones((2, 1, 1, 3), np.int8)})
    check(
        {"b.shift": np.arange(3, dtype=np.uint8), "a.bias": np.ones(1, np.int32), "a.shift": np.zeros((2, 1), np.uint8)}
    )


def test_what_follows_the_arrays() -> None:
    """Nothing may stand where the code of the other arrays ends, but the zeros that fill the states."""
    arrays: Arrays = {"a.weight": np.ones((2, 1, 1, 3), np.int8), "a.bias": np.arange(9999, dtype=np.int32) * 99991}
    code = encode(arrays)
    kinds = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    for more in (b"\0", b"\1"):
        with pytest.raises(CorruptFileError, match="does not end where its arrays do"):
            decode(code + more, kinds)


def test_the_bytes_never_change() -> None:
    """Files that were written must be read for ever: the code of some weights, as the first version 5 wrote it."""
    weight = (np.arange(8 * 9 * 24) * 7919 % 61 - 30).astype(np.int8).reshape(8, 3, 3, 24)
    code = encode({"a.weight": weight, "a.bias": np.arange(-4, 4, dtype=np.int32) ** 5})
    assert hashlib.sha256(code).hexdigest() == "ea661c563bd6c2773c750c71563ca04e64f35d22189e354f7290b5066052e29c"
