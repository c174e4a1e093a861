"""Entropy coding: round trips of any arrays, length, damage."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from squeezeedge.errors import CorruptFileError
from squeezeedge.graph.coding import MOST, decode, encode, weight_bits
from squeezeedge.graph.coding.planes import MOST_PLANES
from squeezeedge.graph.coding.tables import OCTAVE, exp2, log2, log2_of

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


@pytest.mark.parametrize("value", [-(2**31), -1, 0, 1, 2**31 - 1])
def test_extreme_integers(value: int) -> None:
    check({"a.bias": np.full(3, value, np.int32), "b.bias": np.array([0, value], np.int32)})


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 1, 1, 300), (2, 33, 32, 1), (1, 2, 2, MOST_PLANES), (4, 7, 1, 3), (2, 40, 40, 5)]
)
@pytest.mark.parametrize("value", [0, 1, -127, 127])
def test_constant_weights(shape: tuple[int, ...], value: int) -> None:
    check({"a.weight": np.full(shape, value, np.int8)})


def _laplace(shape: tuple[int, ...], scale: float) -> NDArray[np.int8]:
    values = np.random.default_rng(0).laplace(0, scale, shape)
    return np.clip(np.round(values), -127, 127).astype(np.int8)


def test_the_length_is_nearly_the_entropy() -> None:
    weight = _laplace((64, 1, 1, 512), 12.0)
    share = np.unique(weight, return_counts=True)[1] / weight.size
    entropy = -weight.size * float((share * np.log2(share)).sum())
    bits = weight_bits(weight)
    assert entropy < bits < 1.02 * entropy
    assert bits / 8 < len(encode({"a.weight": weight})) < bits / 8 + 5 * 64 + 4


def test_rows_and_columns_neighbours_and_zeros_are_made_use_of() -> None:
    random = np.random.default_rng(0)
    plain = _laplace((64, 3, 3, 64), 12.0)
    order = random.permutation(plain.size)
    rows = plain * np.exp2(random.standard_normal((64, 1, 1, 1)))
    smooth = plain + 1.5 * np.roll(plain, 1, 2)
    zeros = plain * (random.random((64, 1, 1, 64)) < 0.4)
    for values in (rows, smooth, zeros):
        weight = np.clip(np.round(values), -127, 127).astype(np.int8)
        shuffled = weight.reshape(-1)[order].reshape(weight.shape)
        assert weight_bits(weight) < 0.99 * weight_bits(shuffled)


@pytest.mark.slow
def test_nothing_is_free() -> None:
    """So a code's length bounds what it holds."""
    arrays: Arrays = {"a.weight": np.zeros((64, 1, 1, 4096), np.int8), "a.bias": np.zeros(2**16, np.int32)}
    arrays |= {"a.scale": np.zeros(2**16, np.float32), "a.shift": np.zeros(2**16, np.uint8)}
    for name, array in arrays.items():
        assert array.size <= MOST * len(encode({name: array}))


@pytest.mark.slow
def test_damaged_codes() -> None:
    weight = _laplace((32, 3, 3, 16), 3.0)
    code = encode({"a.weight": weight})
    kinds = {"a.weight": (weight.dtype, weight.shape)}
    for changed in (code[:-2], code[:-1], code[:7], b"", code + bytes(2), bytes(len(code)), b"\xff" * len(code)):
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


@given(st.integers(1, 2**52))
def test_logarithms_are_exact(value: int) -> None:
    steps = log2_of(value)
    assert 2**steps <= value**OCTAVE < 2 ** (steps + 1)
    leading = value >> max(value.bit_length() - 9, 0) << max(value.bit_length() - 9, 0)
    assert log2(np.array([value]))[0] == log2_of(leading)
    assert exp2(steps, 10) <= value << 10


def test_the_bytes_never_change() -> None:
    """Files that were written must be read for ever: the code of some weights, as the first version 5 wrote it."""
    weight = (np.arange(8 * 9 * 24) * 7919 % 61 - 30).astype(np.int8).reshape(8, 3, 3, 24)
    code = encode({"a.weight": weight, "a.bias": np.arange(-4, 4, dtype=np.int32) ** 5})
    assert hashlib.sha256(code).hexdigest() == "39a9ba89c4eb71eb13cce4b25f014a5d3b402df4435e3168413f0da7c77fde0b"
